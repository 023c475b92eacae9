"""`pyspaces ps`: list what pyspaces has started and still runs, a row for each box."""

from __future__ import annotations

from pyspaces.commands import table, watching
from pyspaces.commands.optional import Command, help_option, listing_options
from pyspaces.commands.say import put
from pyspaces.host import boxes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyspaces.host.boxes import Box

_HELP = """List your commands and namespaces that pyspaces has started and that still run.

Those with a name come first. `pyspaces list` has a row for each namespace instead.
"""
_HEADINGS = ["NAME", "PID", "AGE", "PROCS", "MEMORY", "NETWORK", "COMMAND"]
_RIGHT = (False, True, True, True, True, False, False)
_SHRINKABLE = (_HEADINGS.index("COMMAND"),)


def _ps(*, as_json: bool, noheadings: bool, watch: bool) -> None:
    if as_json:
        import json  # 2 ms that only this needs

        put(json.dumps([box.to_data() for box in boxes.boxes()], indent=2) + "\n")
    elif watch:
        watching.repeat(lambda: _text(noheadings=noheadings))
    else:
        put(_text(noheadings=noheadings))


def _text(*, noheadings: bool) -> str:
    cells = [] if noheadings else [_HEADINGS]
    cells += [_row(box) for box in boxes.boxes()]
    limit = table.terminal_width()
    shown = table.lines(cells, right=_RIGHT, limit=limit, shrinkable=_SHRINKABLE)
    return "".join(line + "\n" for line in shown)


def _row(box: Box) -> list[str]:
    command = table.printable(box.command)
    memory = table.in_units(box.memory)
    age = table.duration(box.age)
    return [box.name or "-", str(box.pid), age, str(box.nprocs), memory, box.network, command]


ps = Command(
    "ps",
    help=_HELP,
    add_help_option=False,
    callback=_ps,
    params=[
        watching.option(),
        *listing_options(),
        help_option(),
    ],
)
