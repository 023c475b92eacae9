"""lsns(8): its options, and what a command line of it becomes. Written for util-linux 2.42."""

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
from pyspaces.errors import UsageFault
from pyspaces.feature import is_number

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from pyspaces.commands.words.table import Caller

NAME = "lsns"
TABLE: dict[str, Word] = {
    **same("--json --noheadings --raw --notruncate"),
    **same("--type", 1),
    **dict.fromkeys(("--list", "--nowrap"), Word()),  # so it is in any case
    "--task": ours("--pid {0}", 1),
    "--persistent": ours("--filter nprocs==0"),
    **special("--output --filter", 1),
    **special("--output-all"),
    **special("--tree", OPTIONAL),
    "--list-columns": none("`pyspaces list --help` names the columns"),
}
SHORT = {
    "J": "--json",
    "l": "--list",
    "P": "--persistent",
    "p": "--task",
    "o": "--output",
    "n": "--noheadings",
    "r": "--raw",
    "u": "--notruncate",
    "t": "--type",
    "T": "--tree",
    "W": "--nowrap",
    "Q": "--filter",
    "H": "--list-columns",
}
_PATH = "PATH"
_RENAMED = {"NSFS": "files", "PNS": "parent", "ONS": "owner"}
_COLUMNS = {
    **{name: name.lower() for name in ("NS", "TYPE", "NPROCS", "PID", "PPID", "COMMAND", "UID")},
    **{name: name.lower() for name in ("USER", "NETNSID")},
    **_RENAMED,
}
_FIRST, _OF_NETWORKS, _LAST = (
    ("NS", "TYPE", "NPROCS", "PID", "USER"),
    ("NETNSID", "NSFS"),
    "COMMAND",
)


def translate(words: Sequence[str], caller: Caller) -> Translation:
    """Translate the words behind `lsns`. Raises UsageFault for what it would refuse."""
    given, rest = scan(NAME, words, TABLE, SHORT, attached="T")
    line = Line(NAME, caller)
    for option, values in given:
        word = TABLE[option]
        if option == "--filter":
            line.add(option, _filter(values[0]))
        elif option == "--tree":
            _tree(line, values)
        elif not word.special:
            line.take(option, word, values)
    types = {text for option, values in given if option == "--type" for text in values}
    line.add("--output", ",".join(_columns(line, dict(given), only_net=types == {"net"})))
    _namespace(line, rest)
    return line.ended("list", ("--quiet",), ())  # it says nothing of what it cannot read


def _columns(line: Line, given: dict[str, tuple[str, ...]], *, only_net: bool) -> list[str]:
    """Return our names of the columns, and note those that are others."""
    wanted = [*_FIRST, *(_OF_NETWORKS if only_net else ()), _LAST]
    if "--output-all" in given:
        wanted = [*_COLUMNS]
    if "--output" in given:
        text = given["--output"][0].upper()
        named = text.removeprefix("+").split(",")
        wanted = [*wanted, *named] if text[:1] == "+" else named
    found = []
    for name in wanted:
        if name == _PATH:
            line.lacks(_PATH, "the column pid says in which directory of /proc the file is")
        elif name not in _COLUMNS:
            raise UsageFault([f"{NAME}: {name}: unknown column"])
        else:
            found.append(_COLUMNS[name])
        if name in _RENAMED:
            line.notes.append(f"{name} is called {_RENAMED[name]} here")
    if "type" in found:
        line.notes.append("the type mnt is called mount here")
    return found or ["ns"]


def _filter(text: str) -> str:
    """Return an expression with our names for the columns."""
    word, found = "", []
    for char in f"{text} ":
        if char.isalnum() or char == "_":
            word += char
            continue
        found += [_RENAMED.get(word.upper(), word), char]
        word = ""
    return "".join(found)[:-1]


def _tree(line: Line, values: tuple[str, ...]) -> None:
    relation = values[0] if values else "owner"
    if relation == "process":
        line.lacks("--tree=process", "--tree arranges namespaces, by owner or parent")
    elif relation not in ("owner", "parent"):
        raise UsageFault([f"{NAME}: --tree: {relation!r} is not owner, parent or process"])
    else:
        line.add(f"--tree={relation}")


def _namespace(line: Line, rest: list[str]) -> None:
    if not rest:
        return
    if len(rest) > 1 or not is_number(rest[0], 20):
        raise UsageFault([f"{NAME}: {' '.join(rest)!r} is not the number of a namespace"])
    line.add("--filter", f"ns=={rest[0]}")
    line.notes.append("the namespace is listed, and not the processes in it")
