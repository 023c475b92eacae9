"""nsenter(1): its options, and what a command line of it becomes. Written for util-linux 2.42."""

from __future__ import annotations

from pyspaces.commands.words.table import (
    OPTIONAL,
    Line,
    Translation,
    Word,
    none,
    ours,
    same,
    scan,
    special,
)
from pyspaces.kernel import namespaces

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from pyspaces.commands.words.table import Caller

NAME = "nsenter"
_NAMESPACES = tuple(f"--{name}" for name in namespaces.NAMES)
WD = "a directory outside of the namespaces is not kept; --workdir takes a path inside"
SELINUX = "labels of SELinux are not set here; runcon(1) sets one"
PARENT = "the owner of a namespace is entered anyway where that is necessary"
SOCKET = "give the process or file of the network namespace"
TABLE: dict[str, Word] = {
    **same("--target", 1),
    **same("--all"),
    **special(" ".join(_NAMESPACES), OPTIONAL),
    **special("--setuid --setgid", 1),
    **same("--preserve-credentials --keep-caps --no-fork --join-cgroup"),
    **special("--root --wd", OPTIONAL),
    "--wdns": ours("--workdir {0}", 1),
    "--env": ours("--env-of-target"),
    "--follow-context": none(SELINUX),
    "--user-parent": none(PARENT),
    "--net-socket": none(SOCKET, 1),
}
SHORT = {
    **dict(zip("UmpnuiCT", _NAMESPACES, strict=True)),
    "a": "--all",
    "t": "--target",
    "S": "--setuid",
    "G": "--setgid",
    "r": "--root",
    "w": "--wd",
    "W": "--wdns",
    "e": "--env",
    "F": "--no-fork",
    "Z": "--follow-context",
    "c": "--join-cgroup",
    "N": "--net-socket",
}


def translate(words: Sequence[str], caller: Caller) -> Translation:
    """Translate the words behind `nsenter`. Raises UsageFault for what it would refuse."""
    given, command = scan(NAME, words, TABLE, SHORT, attached="UmpnuiCTrw")
    last = dict(given)
    line = Line(NAME, caller)
    if not {"--all", *_NAMESPACES} & last.keys():
        line.lacks("--target", "without a namespace, nsenter joins none, and here it joins all")
    for option, values in last.items():
        if option in _NAMESPACES:
            line.add(*((f"{option}-file", values[0]) if values else (option,)))
        elif option in ("--setuid", "--setgid") and values == ("follow",):
            line.lacks(f"{option} follow", "give the number")
        elif option in ("--setuid", "--setgid"):
            line.add(option, *values)
        elif option not in ("--root", "--wd"):
            line.take(option, TABLE[option], values)
    _directories(line, last)
    return line.ended("enter", (), command)


def _directories(line: Line, given: dict[str, tuple[str, ...]]) -> None:
    for option in ("--root", "--wd"):
        if given.get(option):
            line.lacks(f"{option}=DIR", WD if option == "--wd" else "the root is the target's own")
    if given.get("--root") == ():
        line.add("--root")
        if not {"--wd", "--wdns"} & given.keys():
            line.notes.append("--root: here, the command also starts in the target's directory")
    elif given.get("--wd") == ():
        line.lacks("--wd", "--root moves to the target's root and its directory")
    elif "--target" in given and ("--all" in given or given.get("--mount") == ()):
        line.add("--no-root")
