"""What the value of an option can be, for completion and for errors: loaded only for these.

The word that stands for a value in --help says what it is: an option whose metavar has a row in
VALUES or PATHS is completed, without further words about it.
"""

from __future__ import annotations

import errno
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    import click
    from click.shell_completion import CompletionItem

    from pyspaces.commands.optional import Completer


class Place:
    """Where the word to complete stands: how many values of its option come before it."""

    before = 0


def users() -> Iterator[str]:
    """Yield the names of the users."""
    import pwd

    yield from (entry.pw_name for entry in pwd.getpwall())


def groups() -> Iterator[str]:
    """Yield the names of the groups."""
    import grp

    yield from (entry.gr_name for entry in grp.getgrall())


def interfaces() -> Iterator[str]:
    """Yield the names of the network interfaces."""
    try:
        yield from sorted(os.listdir("/sys/class/net"))
    except OSError:
        return


def bridges() -> Iterator[str]:
    """Yield the names of the bridges of this host."""
    yield from (name for name in interfaces() if os.path.exists(f"/sys/class/net/{name}/bridge"))


def system_calls() -> Iterator[str]:
    """Yield the groups of system calls, the calls in them, and those that our own profile knows."""
    from pyspaces.features.confinement import groups as calls
    from pyspaces.features.confinement._default import PROFILE

    yield from calls.GROUPS
    known = {name for row in PROFILE["syscalls"] for name in row["names"]}
    grouped = {name for group in calls.GROUPS.values() for name in group.split() if name[:1] != "@"}
    yield from sorted(known.union(calls.NEW, grouped))


def actions() -> Iterator[str]:
    """Yield what can be done about a system call that is refused."""
    yield from ("kill", "log", *sorted(errno.errorcode.values()))


def names() -> Iterator[str]:
    """Yield the registered names."""
    from pyspaces.host import targets

    yield from targets.names()


def networks() -> Iterator[str]:
    """Yield the networks that commands share, and what else has a network to join."""
    from pyspaces.host import networks as shared

    yield from shared.names()
    yield from names()


def profiles() -> Iterator[str]:
    """Yield the names of the profiles of the project, of the user, and of this package."""
    from pyspaces.settings.profiles import places

    yield from sorted({found.name for found in places.everything([])})


# By which a shell asks us; its user has none of them.
_ASKING = {"COMP_CWORD", "COMP_LINE", "COMP_WORDS", "_PYSPACES_COMPLETE"}
# What a value can be, by the word for it in --help; a new kind of value is a row here.
VALUES: dict[str, Callable[[], Iterable[str]]] = {
    "USER": users,
    "GROUP": groups,
    "VAR": lambda: sorted(os.environ.keys() - _ASKING),
    "NAME,...": system_calls,
    "NAME[:ACTION],...": system_calls,
    "NS=PATH|PID|NAME": names,
    "MODE|NAME": networks,
    "NAME|FILE": profiles,
    "INTERFACE": interfaces,
    "IFACE": interfaces,
    "DEVICE": interfaces,
    "BRIDGE": bridges,
}
PATHS = {"PATH": "file", "FILE": "file", "NAME|FILE": "file", "NS=FILE": "file", "DIR": "dir"}
PATHS |= {"SRC": "file", "DST": "file", "UPPER": "dir", "WORK": "dir", "NS=PATH|PID|NAME": "file"}
# The longer names that values of these have elsewhere.
CAPABILITY, SIGNAL = "CAP", "SIGNAL"
_PREFIXES = {CAPABILITY: "CAP_", SIGNAL: "SIG"}


def of(metavar: str, words: tuple[str, ...]) -> tuple[str, ...]:
    """Return what a value of an option can be, as far as that is known. words: as in its row."""
    return (*words, *VALUES.get(metavar.partition("[,")[0], tuple)())


def without_prefix(metavar: str, word: str) -> str:
    """Return a value without what its longer name begins with: sys_admin for CAP_SYS_ADMIN."""
    prefix = _PREFIXES.get(metavar.partition("[,")[0], "")
    return word[len(prefix) :] if prefix and word.upper().startswith(prefix) else word


def completer(metavar: str, words: tuple[str, ...] = (), *, listed: bool = False) -> Completer:
    """Return a function that completes the values of an option.

    metavar: the words that stand for its values. words: what it can be besides, or its beginnings.
    listed: whether the value is a list with commas.
    """

    def complete(
        ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem] | list[str]:
        kinds = metavar.split()
        kind = kinds[min(Place.before, len(kinds) - 1)] if kinds else ""
        return _found(kind, words, incomplete, listed=listed or ",..." in kind)

    return complete


def _found(
    kind: str, words: tuple[str, ...], incomplete: str, *, listed: bool
) -> list[CompletionItem] | list[str]:
    from click.shell_completion import CompletionItem

    done, comma, last = incomplete.rpartition(",") if listed else ("", "", incomplete)
    before = done + comma
    kind = kind.partition("[,")[0]
    if "=" in kind and "=" in last:
        name, _, last = last.partition("=")
        before, words = f"{before}{name}=", ()
    elif "=" in kind:  # the values come after the words
        return [before + word for word in words if word.startswith(last)]
    if kind.endswith("[:ACTION],...") and ":" in last:
        call, _, last = last.partition(":")
        return [f"{before}{call}:{word}" for word in actions() if word.startswith(last)]
    values = (*_with_prefixes(kind, words, last), *VALUES.get(kind, tuple)())
    found = [before + word for word in values if word.startswith(last) and _plain(word)]
    if found or kind not in PATHS:
        return found
    return paths(before, last) if before else [CompletionItem(last, type=PATHS[kind])]


def _with_prefixes(kind: str, words: tuple[str, ...], last: str) -> tuple[str, ...]:
    """Return the words, in the form that is begun: sys_admin, or CAP_SYS_ADMIN."""
    prefix = _PREFIXES.get(kind, "")
    if not prefix or not last.startswith(prefix):
        return words
    return tuple(prefix + word.upper() for word in words if word != "all")


def _plain(word: str) -> bool:
    """Return whether a shell takes `word` as it is: it puts our answers on its line unquoted."""
    return all(char.isalnum() or char in "@%+=:,./_-" for char in word)


def paths(before: str, begun: str) -> list[str]:
    """Return the paths that begin so, each behind `before`: the shell does not know such words."""
    directory, slash, name = begun.rpartition("/")
    try:
        with os.scandir(directory + slash or ".") as entries:
            found = sorted(
                f"{before}{directory}{slash}{entry.name}{'/' if entry.is_dir() else ''}"
                for entry in entries
                if entry.name.startswith(name) and (name or entry.name[0] != ".")
            )
    except OSError:
        return []
    return [path for path in found if _plain(path)]
