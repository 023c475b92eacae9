"""bwrap(1): its options, and what a command line of it becomes. Written for bubblewrap 0.12."""

from __future__ import annotations

import os

from pyspaces.commands.words.table import Line, Translation, Word, none, ours, same, special
from pyspaces.errors import UsageFault
from pyspaces.feature import is_number
from pyspaces.features.ids import capabilities

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from pyspaces.commands.words.table import Caller

NAME = "bwrap"
_SELINUX = "labels of SELinux are not set here; runcon(1) sets one"
TABLE: dict[str, Word] = {
    **special("--unshare-all --unshare-user --unshare-user-try --share-net --unshare-pid"),
    "--unshare-ipc": ours("--ipc"),
    **special("--unshare-net"),
    "--unshare-uts": ours("--uts"),
    "--unshare-cgroup": ours("--cgroup"),
    "--unshare-cgroup-try": ours("--cgroup"),
    **special("--userns --pidns", 1),
    "--userns2": none("no second user namespace is joined after the set-up", 1),
    "--disable-userns": ours("--no-nested-users"),
    **same("--assert-userns-disabled"),
    **special("--uid --gid", 1),
    **same("--hostname", 1),
    "--chdir": ours("--workdir {0}", 1),
    **special("--clearenv"),
    **special("--setenv", 2),
    **special("--unsetenv", 1),
    **same("--lock-file --sync-fd --block-fd --userns-block-fd --argv0", 1),
    **same("--info-fd --json-status-fd", 1),
    "--exec-label": none(_SELINUX, 1),
    "--file-label": none(_SELINUX, 1),
    **special("--bind --ro-bind --dev-bind --bind-try --ro-bind-try --dev-bind-try", 2),
    **special("--bind-fd --ro-bind-fd --file --bind-data --ro-bind-data --symlink --chmod", 2),
    **special("--proc --dev --tmpfs --mqueue --dir --remount-ro", 1),
    **same("--perms --size --overlay-src", 1),
    **special("--tmp-overlay --ro-overlay", 1),
    **special("--overlay", 3),
    **special("--seccomp --add-seccomp-fd", 1),
    **same("--new-session --die-with-parent"),
    **special("--as-pid-1"),
    **special("--cap-add --cap-drop --args", 1),
    **special("--level-prefix --not-a-security-boundary"),
}
# What changes only what bwrap says or forgives.
_NOTED = {
    "--level-prefix": "messages have no prefix for their level here",
    "--not-a-security-boundary": "here, the launch fails if anything cannot be set up",
}
_TARGETS = {
    **dict.fromkeys(("--proc", "--dev", "--tmpfs", "--mqueue", "--dir", "--remount-ro"), 0),
    **dict.fromkeys(("--tmp-overlay", "--ro-overlay"), 0),
    **dict.fromkeys(("--bind", "--ro-bind", "--dev-bind", "--bind-try", "--ro-bind-try"), 1),
    **dict.fromkeys(("--dev-bind-try", "--bind-fd", "--ro-bind-fd", "--file", "--bind-data"), 1),
    **dict.fromkeys(("--ro-bind-data", "--symlink", "--chmod"), 1),
    "--overlay": 2,
}
# Those that mount nothing, and those that change what exists.
_NO_MOUNTS, _OF_EXISTING = ("--dir", "--file", "--symlink"), ("--chmod", "--remount-ro")
# Those in which bwrap can create a target.
_WRITABLE = ("--bind", "--bind-try", "--dev-bind", "--dev-bind-try")
_MOST = 4 << 20  # bytes of --args
_ITSELF = "/proc/self/exe"  # of the process that becomes the command: bwrap


def translate(words: Sequence[str], caller: Caller) -> Translation:
    """Translate the words behind `bwrap`. Raises UsageFault for what bwrap itself would refuse."""
    line = _Line(NAME, caller)
    given, command = _read(list(words))
    for option, values in given:
        line.look_at(option, values)
    return line.finished(command)


def _read(words: list[str]) -> tuple[list[tuple[str, tuple[str, ...]]], list[str]]:
    """Return the options with their values, in words of their own, and the command."""
    found = []
    while words and words[0][:1] == "-":
        option = words.pop(0)
        if option == "--":
            break
        if option not in TABLE:
            raise UsageFault([f"{NAME}: {option}: unknown option"])
        count = TABLE[option].values
        if len(words) < count:
            raise UsageFault([f"{NAME}: {option}: requires {count} word{'s'[: count > 1]}"])
        values, words = tuple(words[:count]), words[count:]
        if option == "--args":
            words = [*_words_of(values[0]), *words]
        else:
            found.append((option, values))
    return found, words


def _words_of(text: str) -> list[str]:
    """Return the words that a descriptor holds, with a NUL after each."""
    if not is_number(text, 9):
        raise UsageFault([f"{NAME}: --args: {text!r} is not the number of a descriptor"])
    data = b""
    try:
        while len(data) <= _MOST and (chunk := os.read(int(text), 1 << 16)):
            data += chunk
        if int(text) > 2:
            os.close(int(text))
    except OSError as error:
        raise UsageFault([f"{NAME}: --args: {text}: cannot be read: {error.strerror}"]) from None
    if len(data) > _MOST:
        raise UsageFault([f"{NAME}: --args: {text}: has more than {_MOST >> 20} MiB"])
    return [os.fsdecode(word) for word in data.split(b"\0")[:-1]] if data else []


class _Line(Line):
    """A line of bwrap, and what is known of it only at its end."""

    def __init__(self, tool: str, caller: Caller) -> None:
        super().__init__(tool, caller)
        self.user = not caller.is_root
        self.net = self.pid = self.as_pid_1 = self.clear = self.joins = False
        # Each mount's target and, if the host's files are writable there, its source; and whether a
        # target is missing among these.
        self.shown: list[tuple[str, str | None]] = []
        self.creates = False
        self.ids: dict[str, str] = {}
        self.variables: dict[str, str | None] = {}
        self.filters: list[str] = []
        self.filter = ""
        # Of root, those of the caller; else none. A list of what is done to them.
        self.caps: list[tuple[str, str]] = []

    def look_at(self, option: str, values: tuple[str, ...]) -> None:
        """Take an option."""
        word = TABLE[option]
        if option in _TARGETS:
            self._take_operation(option, values)
        elif option in ("--unshare-all", "--unshare-user", "--unshare-user-try"):
            self.user = True
            if option == "--unshare-all":
                self.net = self.pid = True
                self.add("--ipc")
                self.add("--uts")
                self.add("--cgroup")
        elif option in ("--unshare-net", "--share-net"):
            self.net = option == "--unshare-net"
        elif option == "--unshare-pid":
            self.pid = True
        elif option == "--as-pid-1":
            self.as_pid_1 = True
        elif option in ("--uid", "--gid"):
            self.ids[option] = values[0]
        elif option in ("--cap-add", "--cap-drop"):
            self._take_capability(option, values[0])
        elif word.special:
            self._look_further(option, values)
        else:
            self.take(option, word, values)

    def _take_operation(self, option: str, values: tuple[str, ...]) -> None:
        at = _TARGETS[option]
        target = values[at] if values[at][:1] == "/" else f"/{values[at]}"
        self.add(option, *values[:at], target, *values[at + 1 :])
        if option not in _OF_EXISTING:
            self.creates |= self._is_missing(target)
        if option not in (*_OF_EXISTING, *_NO_MOUNTS):
            source = values[0] if option in _WRITABLE else None
            self.shown.append((target.rstrip("/"), source))

    def _is_missing(self, target: str) -> bool:
        """Return whether a target would have to be created in a directory of the host.

        Which bwrap does if that is shown writable; links inside are not followed here.
        """
        for place, source in reversed(self.shown):
            if f"{target}/".startswith(f"{place}/"):
                below = target[len(place) :]
                return source is not None and not self.caller.exists(source.rstrip("/") + below)
        return False

    def _take_capability(self, option: str, text: str) -> None:
        """Take a capability; one that does not exist must not be one that is simply there."""
        name = capabilities.canonical(text)
        if name not in (capabilities.ALL, *capabilities.NAMES):
            raise UsageFault([f"{NAME}: {option}: {text!r} is not a capability"])
        self.caps.append((option, name))

    def _look_further(self, option: str, values: tuple[str, ...]) -> None:
        if option == "--clearenv":
            self.clear, self.variables = True, {}
        elif option == "--setenv":
            self.variables[values[0]] = values[1]
        elif option == "--unsetenv":
            self.variables[values[0]] = None
        elif option == "--seccomp":
            self.filter = values[0]
        elif option == "--add-seccomp-fd":
            self.filters.append(values[0])
        elif option in _NOTED:
            self.notes.append(f"{option}: {_NOTED[option]}")
        else:
            namespace = {"--userns": "user", "--pidns": "pid"}[option]
            self.joins |= namespace == "user"
            self.add("--join", f"{namespace}=/proc/self/fd/{values[0]}")

    def finished(self, command: Sequence[str]) -> Translation:
        """Return the translation of the whole line."""
        first = [*self._identity(), *self._capabilities(), "--empty-root"]
        if self.creates:
            first.append("--create-targets")
        if self.pid:
            first += ["--pid"] if self.as_pid_1 else ["--pid", "--init"]
            at = [i for i, word in enumerate(self.options) if word == "--proc"]
            if not any(self.options[i + 1] == "/proc" for i in at):
                first.append("--no-mount-proc")
        elif self.as_pid_1:
            self.notes.append("--as-pid-1: means nothing without --unshare-pid")
        if self.net:
            first.append("--net")
        for number in [self.filter] if self.filter else self.filters:
            self.add("--seccomp-fd", number)
        self._environment()
        if command[:1] == [_ITSELF]:
            command = [*self.caller.program, "as", NAME, *command[1:]]
        return self.ended("run", first, command)

    def _identity(self) -> list[str]:
        if "--userns-block-fd" in self.options:
            return ["--user"]
        if self.joins:
            return []
        if not self.user and self.ids:
            name = min(self.ids)
            raise UsageFault([f"{NAME}: {name}: requires --unshare-user"])
        if not self.user:
            return []
        deny = ["--setgroups", "deny"] if self.caller.is_root else []  # of others, it is anyway
        if not self.ids:
            return ["--map-current", *deny]
        rows = (("--uid", "--map-uid", self.caller.uid), ("--gid", "--map-gid", self.caller.gid))
        found = []
        for theirs, ours_, outside in rows:
            inside = self.ids.get(theirs)
            found += [ours_, "current" if inside is None else f"{inside}:{outside}:1"]
        return [*found, *deny]

    def _capabilities(self) -> list[str]:
        """Return the options for capabilities; bwrap always sets no_new_privs."""
        everything = self.caller.is_root
        some: list[str] = []  # those that are not like the others
        for option, name in self.caps:
            add = option == "--cap-add"
            if name == capabilities.ALL:
                everything, some = add, []
            elif add == everything:
                some = [one for one in some if one != name]
            else:
                some.append(name)
        if not everything:
            return ["--cap-drop", "all", *(["--cap-add", ",".join(some)] if some else [])]
        dropped = ["--cap-drop", ",".join(some)] if some else []
        # Root inside has them anyway.
        kept = ["--keep-caps"] if self.caps and self._is_other_inside() else []
        return [*dropped, *kept, "--no-new-privs"]

    def _is_other_inside(self) -> bool:
        """Return whether the command has another user id than 0."""
        return self.ids.get("--uid", str(self.caller.uid)) != "0"

    def _environment(self) -> None:
        if self.clear:
            self.options += ["--keep-env", "PWD"]  # which bwrap sets in any case
        for name, value in self.variables.items():
            if value is not None:
                self.options += ["--setenv", name, value]
            elif not self.clear:
                self.options += ["--unsetenv", name]
