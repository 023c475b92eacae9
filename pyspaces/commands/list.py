"""`pyspaces list`: list the namespaces of this host."""

from __future__ import annotations

import sys

import click

from pyspaces.commands import table
from pyspaces.commands.help import help_option
from pyspaces.commands.optional import Command, OptionalValue
from pyspaces.commands.say import put, say
from pyspaces.commands.targets import complete_pid
from pyspaces.errors import UsageFault
from pyspaces.features.existing import registry
from pyspaces.host import listing
from pyspaces.kernel import namespaces

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from typing import Any

    from click.shell_completion import CompletionItem

    from pyspaces.host.listing import Listing, Row

_HELP = """List the namespaces of this host and the processes in them.

Without root, processes of other users cannot be read; a message on standard error says how many.
"""
# The columns, which are also the keys of --json, and whether they hold numbers.
COLUMNS = {
    "ns": True,
    "type": False,
    "nprocs": True,
    "pid": True,
    "ppid": True,
    "uid": True,
    "user": False,
    "netnsid": True,
    "name": False,
    "files": False,
    "held": False,
    "owner": True,
    "parent": True,
    "command": False,
}
DEFAULT = ("ns", "type", "nprocs", "pid", "user", "netnsid", "name", "files", "held", "command")
_SHRINKABLE = ("files", "held", "command")
_NOTHING = "-"
OWNER, PARENT = "owner", "parent"
# The names of types in /proc and other tools.
_ALIASES = {row.link: row.name for row in namespaces.NAMESPACES}


class Tree:
    """Rows arranged by owner or parent; those whose owner or parent is not shown are roots."""

    def __init__(self, rows: Sequence[Row], relation: str) -> None:
        self._below: dict[int | None, list[Row]] = {}
        shown = {row.ns for row in rows}
        for row in rows:
            above = getattr(row, relation)
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


def _list(**options: Any) -> None:
    types = _types(options["types"])
    columns = _columns(options["columns"])
    tests = _tests(options["filters"])
    found = listing.listing(
        types=types, pid=options["pid"], ours=options["ours"], descriptors=options["held"]
    )
    if tests:
        rows = tuple(row for row in found.rows if all(test(row) for test in tests))
        found = found.replace(rows=rows)
    if trouble := registry.trouble():
        say(f"pyspaces: registered names are left out: {trouble}")
    if options["as_json"]:
        put(_json(found, columns or tuple(COLUMNS), options["tree"]))
        return
    cells = _text_rows(found, columns or DEFAULT, options["tree"])
    if not options["noheadings"]:
        cells.insert(0, [column.upper() for column in columns or DEFAULT])
    shown = table.lines(
        cells,
        # A tree is drawn in front of the first column, which is therefore left-aligned.
        right=[
            COLUMNS[column] and not (options["tree"] and at == 0)
            for at, column in enumerate(columns or DEFAULT)
        ],
        limit=table.terminal_width(),
        shrinkable=[at for at, name in enumerate(columns or DEFAULT) if name in _SHRINKABLE],
    )
    put("".join(line + "\n" for line in shown))
    for note in _notes(found):
        say(f"pyspaces: {note}")


def _words(texts: Sequence[str]) -> list[str]:
    return [word.strip().lower() for text in texts for word in text.split(",")]


def _types(texts: Sequence[str]) -> tuple[str, ...]:
    words = [_ALIASES.get(word, word) for word in _words(texts)]
    faults = [
        f"type: {word!r} is not a namespace: choose from {', '.join(namespaces.NAMES)}"
        for word in words
        if word not in namespaces.NAMES
    ]
    if faults:
        raise UsageFault(faults)
    return tuple(words)


def _columns(texts: Sequence[str]) -> tuple[str, ...]:
    words = _words(texts)
    faults = [
        f"output: {word!r} is not a column: choose from {', '.join(COLUMNS)}"
        for word in words
        if word not in COLUMNS
    ]
    if faults:
        raise UsageFault(faults)
    return tuple(words)


def _tests(texts: Sequence[str]) -> list[Callable[[Row], bool]]:
    if not texts:
        return []
    from pyspaces.host import filtering  # what only --filter needs

    columns = {name: filtering.Column(number=number) for name, number in COLUMNS.items()}
    columns["type"] = filtering.Column(values=namespaces.NAMES, aliases=_ALIASES)
    return [filtering.parse(text, columns) for text in texts]


def _text_rows(found: Listing, columns: Sequence[str], relation: str | None) -> list[list[str]]:
    if relation is None:
        return [[_cell(row, column) for column in columns] for row in found.rows]
    plain = (sys.stdout.encoding or "").lower().replace("-", "") != "utf8"
    rows = []
    for lead, row in Tree(found.rows, relation).walk():
        lines = lead.translate(
            {0x2514: "`", 0x251C: "|", 0x2502: "|", 0x2500: "-"} if plain else {}
        )
        cells = [_cell(row, column) for column in columns]
        rows.append([lines + cells[0], *cells[1:]])
    return rows


def _cell(row: Row, column: str) -> str:
    value = getattr(row, column)
    if column in ("files", "held"):
        value = ",".join(value)
    return _NOTHING if value in (None, "") else table.printable(str(value))


def _json(found: Listing, columns: Sequence[str], relation: str | None) -> str:
    import json  # 2 ms that only this needs

    if relation is None:
        rows = [_plain(row, columns) for row in found.rows]
    else:
        tree = Tree(found.rows, relation)
        rows = [_plain_tree(row, columns, tree) for row in tree.below()]
    data = {
        "namespaces": rows,
        "unreadable": found.unreadable,
        "hidden": found.hidden,
        "unsearched": found.unsearched,
    }
    return json.dumps(data, indent=2) + "\n"


def _plain(row: Row, columns: Sequence[str]) -> dict[str, Any]:
    data: Mapping[str, Any] = row.to_data()
    return {column: data[column] for column in columns}


def _plain_tree(row: Row, columns: Sequence[str], tree: Tree) -> dict[str, Any]:
    below = [_plain_tree(child, columns, tree) for child in tree.below(row)]
    return {**_plain(row, columns), **({"children": below} if below else {})}


def _notes(found: Listing) -> Iterator[str]:
    if found.unreadable:
        many = "processes" if found.unreadable > 1 else "process"
        yield f"not listed: {found.unreadable} {many} that could not be read"
    if found.hidden:
        yield "not listed: processes of other users, which /proc hides here (hidepid)"
    if found.unsearched:
        yield f"not searched: {found.unsearched} descriptors; --held searches all of them"


class _Words(click.ParamType):  # type: ignore[type-arg]  # generic only from click 8.4 on
    """A comma-separated list of words, which are checked when they are read."""

    name = "text"

    def __init__(self, words: Sequence[str]) -> None:
        self._words = words

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """Complete the last word of the list."""
        from click.shell_completion import CompletionItem  # 1 ms that only a TAB key needs

        done, comma, last = incomplete.rpartition(",")
        return [
            CompletionItem(done + comma + word) for word in self._words if word.startswith(last)
        ]


list_ = Command(
    "list",
    help=_HELP,
    short_help="List the namespaces of this host.",
    add_help_option=False,
    callback=_list,
    params=[
        click.Option(
            ["types", "-t", "--type"],
            multiple=True,
            metavar="NS[,NS...]",
            type=_Words(namespaces.NAMES),
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
            type=_Words(tuple(COLUMNS)),
            help=f"print these columns, of {', '.join(COLUMNS)}",
        ),
        OptionalValue(
            ["--tree"],
            bare=OWNER,
            metavar=f"{OWNER}|{PARENT}",
            type=click.Choice([OWNER, PARENT]),
            help="print a tree, by owning user namespace or by parent",
        ),
        click.Option(["as_json", "-J", "--json"], is_flag=True, help="print JSON with stable keys"),
        click.Option(["-n", "--noheadings"], is_flag=True, help="do not print column headings"),
        help_option(),
    ],
)
