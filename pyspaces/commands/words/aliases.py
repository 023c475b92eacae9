"""Options of other tools that our commands take: another name for what we have.

A line is put into our words before click reads it; what `fast` reads in full never comes here.
Hidden from --help, and listed in pyspaces-from(7).
"""

from __future__ import annotations

import os

from pyspaces.commands import arguments, fast
from pyspaces.commands.words import answers, ids, volumes
from pyspaces.commands.words.table import Word, filled, ours
from pyspaces.errors import UsageFault
from pyspaces.kernel import namespaces

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    Item = tuple[str, tuple[str, ...], list[str]]  # option, values, the words as they were typed

# Only if a value is attached by `=`: without one, the option is ours.
_ATTACHED = -2
_SPECIAL = {name: Word(values=1, special=True) for name in ("--map-user", "--map-group")}
OF_RUN: dict[str, Word] = {
    # unshare(1)
    "--map-root-user": ours("--map-root"),
    "--map-current-user": ours("--map-current"),
    **_SPECIAL,
    "--map-users": Word(values=1, special=True),
    "--map-groups": Word(values=1, special=True),
    "--map-subids": ours("--map-uid subids"),
    "--fork": Word(),
    "-f": Word(),
    "--forward-signals": Word(),
    "--clear-env": ours("--clearenv"),
    "--wd": ours("--workdir {0}", 1),
    "-S": ours("--setuid {0}", 1),
    "-V": ours("--version"),
    "--mount-proc": Word(values=_ATTACHED, special=True),
    **{f"--{name}": Word(values=_ATTACHED, special=True) for name in namespaces.NAMES},
    # bwrap(1)
    "--unshare-user": Word(special=True),
    "--unshare-all": Word(special=True),
    "--unshare-net": Word(special=True),
    "--share-net": Word(special=True),
    "--unshare-pid": ours("--pid"),
    "--unshare-ipc": ours("--ipc"),
    "--unshare-uts": ours("--uts"),
    "--unshare-cgroup": ours("--cgroup"),
    "--uid": Word(values=1, special=True),
    "--gid": Word(values=1, special=True),
    "--disable-userns": ours("--no-nested-users"),
    "--add-seccomp-fd": ours("--seccomp-fd {0}", 1),
    "--chdir": ours("--workdir {0}", 1),
    "--cwd": ours("--workdir {0}", 1),
    # podman-run(1)
    "--volume": Word(values=1, special=True),
    "--device": Word(values=1, special=True),
    "--env": Word(values=1, special=True),
    "-e": Word(values=1, special=True),
    "--network": Word(values=1, special=True),
    "--rm": Word(),
    "--interactive": Word(),
    "--tty": ours("--pty"),
    "--ulimit": ours("--rlimit {0}", 1),
    "--pids-limit": ours("--pids {0}", 1),
    "--cpuset-cpus": ours("--cpu-list {0}", 1),
    "--pidfile": ours("--pid-file {0}", 1),
    "--uidmap": ours("--map-uid {0}", 1),
    "--gidmap": ours("--map-gid {0}", 1),
    "--security-opt": Word(values=1, special=True),
    # firejail(1)
    "--caps.drop": ours("--cap-drop {0}", 1),
    "--nonewprivs": ours("--no-new-privs"),
    "--private-tmp": ours("--perms 1777 --tmpfs /tmp"),
    "--private-dev": ours("--dev /dev"),
    "--blacklist": ours("--mask {0}", 1),
}
OF_ENTER: dict[str, Word] = {
    **{f"--{name}": Word(values=_ATTACHED, special=True) for name in namespaces.NAMES},
    "-r": ours("--root"),
    "--wdns": ours("--workdir {0}", 1),
    "-W": ours("--workdir {0}", 1),
    "--chdir": ours("--workdir {0}", 1),
    "--cwd": ours("--workdir {0}", 1),
    "-S": ours("--setuid {0}", 1),
    "-G": ours("--setgid {0}", 1),
    "-V": ours("--version"),
    "--interactive": Word(),
    "--tty": ours("--pty"),
}
_TABLES = {"run": OF_RUN, "check": OF_RUN, "enter": OF_ENTER}
_OUR_MAPS = ("--map-uid", "-M", "--map-gid", "-G", "--map-root", "-r", "--map-current", "-c")
_MAPS = {
    *(*_OUR_MAPS, "--map-auto", "--userns-block-fd", "--uid", "--gid", "--uidmap", "--gidmap"),
    *(name for name in OF_RUN if name[:6] == "--map-"),
}
_OF_PODMAN = {"--rm", "-e", "--env", "--volume", "--interactive", "--tty", "--network"}


def rewritten(command: str, words: Sequence[str]) -> list[str]:
    """Return the line of a command with our words in the place of those of others.

    Raises UsageFault for an option that has no counterpart, or a value that has none.
    """
    if command not in _TABLES:
        return [*words]
    table = _TABLES[command]
    items, rest = _items(command, table, list(words))
    _check_letters(items)
    line = _Line(items)
    found: list[str] = []
    is_ours = True
    for option, values, typed in items:
        if option not in table or (typed[0] == option and table[option].values == _ATTACHED):
            found += typed
            continue
        is_ours = False
        if table[option].special:
            found += line.words_for(command, option, values)
        else:
            found += filled(table[option], values)
    # As it was typed: letters in one word stay in one.
    return [*words] if is_ours else [*found, *rest]


def _items(
    command: str, table: Mapping[str, Word], words: list[str]
) -> tuple[list[Item], list[str]]:
    """Return the options, as far as they are known, and the words from the first that is not."""
    known = arguments.value_counts(command)
    own = {name: ("", count, "") for name, count in known.items()}
    theirs = {name: ("", max(word.values, 0), "") for name, word in table.items()}
    items: list[Item] = []
    may_be_target = command == "enter"
    at = 0
    while at < len(words):
        word = words[at]
        if may_be_target and word[:1] != "-":
            may_be_target = False
            items.append((word, (), [word]))
            at += 1
            continue
        if word[:1] != "-" or word in ("-", "--"):
            break
        found, length = _of_word(word, words[at + 1 :], {**theirs, **own}, command)
        if not length:
            break
        may_be_target &= not {name for name, _, _ in found} & {*arguments.TARGETS}
        items += found
        at += length
    return items, words[at:]


def _of_word(
    word: str, behind: Sequence[str], known: fast.Options, command: str
) -> tuple[list[Item], int]:
    """Return the options that a word holds, and how many words they take; 0: it is not known."""
    found: list[Item] = []
    used = 1
    pieces = fast.parts(word, known)
    for name, attached in pieces:
        if name not in known:
            _answer(command, name)
            return [], 0
        missing = max(known[name][1] - len(attached), 0)
        values = (*attached, *behind[used - 1 : used - 1 + missing])
        if len(values) < known[name][1]:
            return [], 0
        typed = [word] if len(pieces) == 1 else [name + "".join(attached)]
        found.append((name, values, [*typed, *behind[used - 1 : used - 1 + missing]]))
        used += missing
    return found, used


def _answer(command: str, option: str) -> None:
    """Raise UsageFault for an option of another tool that has no counterpart."""
    table = answers.ANSWERS if command != "enter" else answers.ON_ENTER
    if option in table:
        whose, hint = table[option]
        raise UsageFault([f"{option} is {whose}'s"], hint=hint)


def _check_letters(items: Sequence[Item]) -> None:
    """Refuse what can only be meant as podman means it: -i beside other words of its."""
    options = {option for option, _, _ in items}
    if "-i" in options and options & _OF_PODMAN:
        raise UsageFault(["-i is --ipc here, not --interactive"], hint=answers.NOT_INTERACTIVE)


class _Line:
    """A line with words of others, and what one of them depends on in the others."""

    def __init__(self, items: Sequence[Item]) -> None:
        self._options = [option for option, _, _ in items]

    def words_for(self, command: str, option: str, values: tuple[str, ...]) -> list[str]:
        """Return our words for an option. Raises UsageFault for a wrong value."""
        value = values[0] if values else ""
        if option[2:] in namespaces.NAMES:
            return self._file(command, option, value)
        readers: dict[str, Callable[[str], list[str]]] = {
            "--volume": volumes.volume,
            "--device": volumes.device,
            "--env": self._variable,
            "-e": self._variable,
            "--network": self._network,
            "--mount-proc": self._proc,
            "--security-opt": _security,
            **dict.fromkeys(("--uid", "--gid"), lambda text: self._id(option, text)),
        }
        try:
            if option in readers:
                return readers[option](value)
            if option[:6] == "--map-":
                return self._map(option, values)
            return self._unshared(option)
        except ValueError as fault:
            raise UsageFault([f"{option}: {fault}"]) from None

    def _file(self, command: str, option: str, value: str) -> list[str]:
        """Return the words for --uts=FILE and the like; a file has a slash."""
        # Of `run`, these two have values of their own.
        if "/" not in value or (command != "enter" and option in ("--net", "--mount")):
            return [f"{option}={value}"]
        if command == "enter":
            return [f"{option}-file", value]
        return ["--keep", f"{option[2:]}={value}"]

    def _unshared(self, option: str) -> list[str]:
        """Return the words for bwrap's --unshare-all and what goes with it."""
        net = "--share-net" not in self._options
        if option == "--share-net":
            return ["--share", "net"] if {"--all", "-a"} & {*self._options} else []
        if option == "--unshare-net":
            return ["--net"] if net else []
        # bwrap maps the caller to itself, and not to root.
        mapped = bool(_MAPS & {*self._options})
        user = ["--user"] if mapped else ["--map-current"]
        if option == "--unshare-user":
            return user
        return [*user, "--ipc", "--pid", *(["--net"] if net else []), "--uts", "--cgroup"]

    def _id(self, option: str, text: str) -> list[str]:
        """Return the words for bwrap's --uid and --gid; the other of the two is the caller's."""
        if not (text.isascii() and text.isdecimal()):
            raise ValueError(f"{text[:40]!r} is not a number")
        kind, outside = option[2:], os.geteuid() if option == "--uid" else os.getegid()
        other = {"--uid": "--gid", "--gid": "--uid"}[option]
        more = [] if other in self._options else [f"--map-{other[2:]}", "current"]
        return [f"--map-{kind}", f"{text}:{outside}:1", *more]

    def _map(self, option: str, values: tuple[str, ...]) -> list[str]:
        user, group = ids.Map("uid", os.geteuid()), ids.Map("gid", os.getegid())
        ids.take(option, values, user, group)
        kind = "gid" if "group" in option else "uid"
        return [f"--map-{kind}", (group if kind == "gid" else user).spec(ids.subordinate)]

    def _proc(self, path: str) -> list[str]:
        if path == "/proc":
            return ["--mount-proc"]
        return ["--pid", "--no-mount-proc", "--proc", path]

    def _variable(self, text: str) -> list[str]:
        """Return the words for -e VAR=VALUE, or -e VAR, which passes the caller's on."""
        name, equals, value = text.partition("=")
        if equals:
            return ["--setenv", name, value]
        clears = {"--clearenv", "--clear-env", "--keep-env"} & {*self._options}
        return ["--keep-env", name] if clears else []

    def _network(self, mode: str) -> list[str]:
        if mode == "host":
            return ["--share", "net"] if {"--all", "-a"} & {*self._options} else []
        kind, _, name = mode.partition(":")
        if kind in ("container", "ns") and name:
            return [f"--net={name}"]
        return [f"--net={'user' if mode in ('bridge', 'private') else mode}"]


def _security(text: str) -> list[str]:
    name, _, value = text.replace(":", "=", 1).partition("=")
    if name == "no-new-privileges" and value in ("", "true"):
        return ["--no-new-privs"]
    if name == "seccomp" and value:
        return [] if value == "unconfined" else ["--seccomp", value]
    raise ValueError(f"{text[:40]!r}: labels of SELinux and AppArmor are not set here")
