"""`pyspaces list`: list the namespaces of this host."""

from __future__ import annotations

import os
import sys

import click

from pyspaces.commands import table, watching
from pyspaces.commands.optional import (
    Command,
    OptionalValue,
    complete_words,
    help_option,
    listing_options,
)
from pyspaces.commands.say import put, say
from pyspaces.commands.targets import complete_pid
from pyspaces.errors import UsageFault
from pyspaces.features.existing import runtime
from pyspaces.host import listing
from pyspaces.host.listing import Row
from pyspaces.kernel import namespaces

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
    from typing import Any

    from pyspaces.host.listing import Listing

_HELP = """List the namespaces of this host and the processes in them.

Without root, processes of other users cannot be read; a message on standard error says how many.
"""
# The columns, which are also the keys of --json, and whether they contain numbers.
_NUMBERS = ("int", "float")
COLUMNS = {name: str(Row.__annotations__[name]).startswith(_NUMBERS) for name in Row._fields}
DEFAULT = (
    *("ns", "type", "nprocs", "pid", "user", "netnsid", "name", "age", "memory", "files", "held"),
    "command",
)
_OF_NETWORKS = (
    *("ns", "nprocs", "pid", "user", "netnsid", "name", "age", "memory", "network", "addresses"),
    *("ports", "command"),
)
# On a terminal, these are left out if they are not asked for and nothing is in them.
_OPTIONAL = frozenset(
    ("netnsid", "name", "age", "memory", "network", "addresses", "ports", "files", "held")
)
_SHRINKABLE = ("addresses", "ports", "files", "held", "command")
_NOTHING = "-"
# As `ps` shows them.
_SHOWN: dict[str, Callable[[Any], str]] = {"age": table.duration, "memory": table.in_units}
_TOLD = "pyspaces-list-told"
_PERSISTENT = "nprocs==0"
OWNER, PARENT = "owner", "parent"
# The names of types in /proc and other tools.
_ALIASES = {row.link: row.name for row in namespaces.NAMESPACES}


class Tree:
    """Rows arranged by owner or parent; those whose owner or parent is not shown are roots.

    relation: OWNER, PARENT, or None for roots only.
    """

    def __init__(self, rows: Sequence[Row], relation: str | None) -> None:
        self._below: dict[int | None, list[Row]] = {}
        shown = {row.ns for row in rows}
        for row in rows:
            above = getattr(row, relation) if relation else None
            self._below.setdefault(above if above in shown else None, []).append(row)

    def below(self, row: Row | None = None) -> list[Row]:
        """Return the children of a row, or the roots for None."""
        return self._below.get(row.ns if row else None, [])

    def walk(self, row: Row | None = None, lead: str = "") -> Iterator[tuple[str, Row]]:
        """Yield each row and the lines drawn to its left, depth first."""
        rows = self.below(row)
        for at, child in enumerate(rows):
            last = at == len(rows) - 1
            branch = "" if row is None else "└─" if last else "├─"
            yield lead + branch, child
            deeper = "" if row is None else "  " if last else "│ "
            yield from self.walk(child, lead + deeper)


def _list(*, watch: bool, task: int | None, **options: Any) -> None:
    options["pid"] = task or options["pid"]
    _check(watch=watch, **options)
    if watch:
        watching.repeat(lambda: _watched(options))
    _print(options)


def _check(**options: Any) -> None:
    """Raise UsageFault for options that exclude each other."""
    if options["list_columns"]:
        raise UsageFault(["--list-columns is lsns's"], hint="`pyspaces list --help` names them")
    if options["as_json"] and options["watch"]:
        raise UsageFault(["--watch: cannot be combined with --json"])
    if options["raw"] and (options["as_json"] or options["tree"]):
        raise UsageFault(
            [f"--raw: cannot be combined with --{'json' if options['as_json'] else 'tree'}"]
        )
    if options["as_list"] and options["tree"]:
        raise UsageFault(["--list: cannot be combined with --tree"])
    if options["output_all"] and options["columns"]:
        raise UsageFault(["--output-all: cannot be combined with --output"])


def _watched(options: dict[str, Any]) -> str:
    found, columns = _found(options)
    return _shown(found, columns, options)


def _found(options: dict[str, Any]) -> tuple[Listing, tuple[str, ...]]:
    types = _checked("type", "namespace", options["types"], namespaces.NAMES, _ALIASES)
    columns = _checked("output", "column", options["columns"], COLUMNS)
    tests = _tests([*options["filters"], *([_PERSISTENT] if options["persistent"] else [])])
    found = listing.listing(
        types=types, pid=options["pid"], ours=options["ours"], descriptors=options["held"]
    )
    if tests:
        rows = tuple(row for row in found.rows if all(test(row) for test in tests))
        found = found.replace(rows=rows)
    if options["as_json"] or options["output_all"]:
        return found, columns or tuple(COLUMNS)
    return found, columns or _usual(found, only_networks=set(types) == {"net"})


def _usual(found: Listing, *, only_networks: bool) -> tuple[str, ...]:
    columns = _OF_NETWORKS if only_networks else DEFAULT
    if table.terminal_width() is None:
        return columns
    empty = {name for name in _OPTIONAL if all(_cell(row, name) == _NOTHING for row in found.rows)}
    return tuple(name for name in columns if name not in empty)


def _print(options: dict[str, Any]) -> None:
    found, columns = _found(options)
    if not options["quiet"] and (trouble := runtime.trouble()):
        say(f"pyspaces: registered names are left out: {trouble}")
    if options["as_json"]:
        put(_json(found, columns, options["tree"]))
        return
    put(_shown(found, columns, options))
    if not options["quiet"] and (notes := tuple(_notes(found))) and not _was_told():
        for note in notes:
            say(f"pyspaces: {note}")


def _shown(found: Listing, columns: Sequence[str], options: dict[str, Any]) -> str:
    headings = not options["noheadings"]
    if options["raw"]:
        return _raw(found, columns, headings=headings)
    limit = None if options["notruncate"] else table.terminal_width()
    return _text(found, columns, options["tree"], headings=headings, limit=limit)


def _raw(found: Listing, columns: Sequence[str], *, headings: bool) -> str:
    """Return the cells, for programs: one space between them, and none inside."""
    lines = [[column.upper() for column in columns]] if headings else []
    lines += [[_raw_cell(row, column) for column in columns] for row in found.rows]
    return "".join(" ".join(line) + "\n" for line in lines)


def _raw_cell(row: Row, column: str) -> str:
    value = _value(row, column)
    text = "" if value is None else str(value).replace("\\", "\\x5c")
    return table.printable(text).replace(" ", "\\x20")


def _text(
    found: Listing,
    columns: Sequence[str],
    relation: str | None,
    *,
    headings: bool,
    limit: int | None,
) -> str:
    """Return the table; what pyspaces has started comes first, and of that what has a name."""
    rows = sorted(found.rows, key=lambda row: (row.name is None, row.name or "", row.age is None))
    cells = _text_rows(found.replace(rows=tuple(rows)), columns, relation)
    if headings:
        cells.insert(0, [column.upper() for column in columns])
    # A tree is drawn in front of the first column, which is therefore left-aligned.
    right = [COLUMNS[name] and not (relation and at == 0) for at, name in enumerate(columns)]
    shrinkable = [at for at, name in enumerate(columns) if name in _SHRINKABLE]
    shown = table.lines(cells, right=right, limit=limit, shrinkable=shrinkable)
    return "".join(line + "\n" for line in shown)


def _was_told() -> bool:
    """Return whether the notes have been shown before, on a terminal, since this user logged in."""
    if sys.stderr is None or not sys.stderr.isatty():
        return False
    place, name = os.path.split(runtime.directory())
    if name != "pyspaces" or place == "/run":  # no directory of this user's session
        return False
    try:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        os.close(os.open(os.path.join(place, _TOLD), flags, 0o600))
    except FileExistsError:
        return True
    except OSError:
        return False
    return False


def _checked(
    option: str,
    what: str,
    texts: Sequence[str],
    known: Collection[str],
    aliases: Mapping[str, str] | None = None,
) -> tuple[str, ...]:
    """Return the words of comma-separated lists. Raises UsageFault for those that are not known."""
    words = [word.strip().lower() for text in texts for word in text.split(",")]
    words = [(aliases or {}).get(word, word) for word in words]
    choice = f"choose from {', '.join(known)}"
    if wrong := [word for word in words if word not in known]:
        from pyspaces.settings import nearest  # what only an error needs

        near = nearest.words(wrong[0][:80], known, most=1)
        faults = [f"--{option}: {word!r} is not a {what}: {choice}" for word in wrong]
        raise UsageFault(faults, hint=f"did you mean {near[0]}?" if near else None)
    return tuple(words)


def _tests(texts: Sequence[str]) -> list[Callable[[Row], bool]]:
    if not texts:
        return []
    from pyspaces.host import filtering  # what only --filter needs

    columns = {name: filtering.Column(number=number) for name, number in COLUMNS.items()}
    columns["type"] = filtering.Column(values=namespaces.NAMES, aliases=_ALIASES)
    return [filtering.parse(text, columns) for text in texts]


def _text_rows(found: Listing, columns: Sequence[str], relation: str | None) -> list[list[str]]:
    # There is no standard output if it was closed when we were started.
    encoding = getattr(sys.stdout, "encoding", None) or ""
    plain = encoding.lower().replace("-", "") != "utf8"
    rows = []
    for lead, row in Tree(found.rows, relation).walk():
        lines = lead.translate(
            {0x2514: "`", 0x251C: "|", 0x2502: "|", 0x2500: "-"} if plain else {}
        )
        cells = [_cell(row, column) for column in columns]
        rows.append([lines + cells[0], *cells[1:]])
    return rows


def _cell(row: Row, column: str) -> str:
    value = _value(row, column)
    if value is not None and column in _SHOWN:
        return _SHOWN[column](value)
    return _NOTHING if value in (None, "") else table.printable(str(value))


def _value(row: Row, column: str) -> object:
    value = getattr(row, column)
    return ",".join(value) if column in ("addresses", "ports", "files", "held") else value


def _json(found: Listing, columns: Sequence[str], relation: str | None) -> str:
    import json  # 2 ms that only this needs

    tree = Tree(found.rows, relation)
    data = found.to_data()
    del data["rows"]
    rows = [_plain(row, columns, tree) for row in tree.below()]
    return json.dumps({"namespaces": rows, **data}, indent=2) + "\n"


def _plain(row: Row, columns: Sequence[str], tree: Tree) -> dict[str, Any]:
    data = row.to_data()
    below = [_plain(child, columns, tree) for child in tree.below(row)]
    return {column: data[column] for column in columns} | ({"children": below} if below else {})


def _notes(found: Listing) -> Iterator[str]:
    if found.unreadable:
        many = "processes" if found.unreadable > 1 else "process"
        yield f"not listed: {found.unreadable} {many} that could not be read"
    if found.hidden:
        yield "not listed: processes of other users, which /proc hides here (hidepid)"
    if found.unsearched:
        yield f"not searched: {found.unsearched} descriptors; --held searches all of them"


def _of_lsns() -> list[click.Option]:
    """Return what only lsns(8) calls so, or what is always so; listed in pyspaces-from(7)."""
    return [
        click.Option(["as_list", "-l", "--list"], is_flag=True, hidden=True),
        click.Option(["--task"], type=click.IntRange(min=1), hidden=True),
        click.Option(["-W", "--nowrap"], is_flag=True, hidden=True, expose_value=False),
        click.Option(["-P", "--persistent"], is_flag=True, hidden=True),
        click.Option(["-H", "--list-columns"], is_flag=True, hidden=True),
    ]


list_ = Command(
    "list",
    help=_HELP,
    add_help_option=False,
    callback=_list,
    params=[
        click.Option(
            ["types", "-t", "--type"],
            multiple=True,
            metavar="NS[,NS...]",
            shell_complete=complete_words(namespaces.NAMES),
            help="list only namespaces of these types",
        ),
        click.Option(
            ["-p", "--pid"],
            type=click.IntRange(min=1),
            metavar="PID",
            shell_complete=complete_pid,
            help="list only namespaces that process PID is in",
        ),
        click.Option(
            ["filters", "-Q", "--filter"],
            multiple=True,
            metavar="EXPR",
            help="list only namespaces for which EXPR is true, such as 'type==net && nprocs==0'",
        ),
        click.Option(["--ours"], is_flag=True, help="list only namespaces that pyspaces created"),
        click.Option(
            ["--held/--no-held"],
            default=None,
            help="search all descriptors, or none, for namespaces that no process is in"
            " (default: 200,000 of them)",
        ),
        click.Option(
            ["columns", "-o", "--output"],
            multiple=True,
            metavar="COL[,COL...]",
            shell_complete=complete_words(tuple(COLUMNS)),
            help=f"print these columns, of {', '.join(COLUMNS)}",
        ),
        click.Option(["--output-all"], is_flag=True, help="print all columns"),
        OptionalValue(
            ["-T", "--tree"],
            bare=OWNER,
            metavar=f"{OWNER}|{PARENT}",
            type=click.Choice([OWNER, PARENT]),
            help="print a tree, by owning user namespace or by parent",
        ),
        *listing_options(),
        click.Option(
            ["-u", "--notruncate"],
            is_flag=True,
            help="do not truncate lines to the width of a terminal",
        ),
        click.Option(
            ["-r", "--raw"],
            is_flag=True,
            help="print one space between cells, and spaces in them as \\x20, for programs",
        ),
        click.Option(["--quiet"], is_flag=True, help="do not say what could not be read"),
        watching.option(),
        *_of_lsns(),
        help_option(),
    ],
)
