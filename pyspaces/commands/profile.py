"""`pyspaces profile`: list and show profiles."""

from __future__ import annotations

import click

from pyspaces.commands import table
from pyspaces.commands.optional import Command, Group, help_option, listing_options
from pyspaces.commands.say import put, say
from pyspaces.errors import UsageFault
from pyspaces.settings.profiles import places, reading, writing
from pyspaces.visible import visible

TYPE_CHECKING = False
if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

    from pyspaces.settings.profiles.reading import Read

_HELP = """List and show profiles: settings of a launch that are kept in a file.

`pyspaces run --profile NAME` begins with them.
"""
_LIST = """List the profiles that have a name.

They are tables of .pyspaces.toml and pyproject.toml in the current directory, files
~/.config/pyspaces/NAME.toml, and those that ship with pyspaces.
"""
_SHOW = """Show where the profile NAME was found, and its settings with those that it extends."""
_WHICH = "NAME|FILE"
_HEADINGS = ["NAME", "PLACE", "DESCRIPTION"]


def _complete(
    ctx: click.Context, param: click.Parameter, incomplete: str
) -> list[CompletionItem] | list[str]:
    from pyspaces.commands import values  # what only a TAB key needs

    return values.completer(_WHICH)(ctx, param, incomplete)


def _list(*, as_json: bool, noheadings: bool) -> None:
    notes: list[str] = []
    found: list[Read] = []
    for one in places.everything(notes):
        try:
            found.append(reading.read_found(one))
        except UsageFault as broken:
            notes.append(broken.message)
    for note in notes:
        say(f"pyspaces: {visible(note)}")
    if as_json:
        import json  # 2 ms that only this needs

        put(json.dumps([_data(one) for one in found], indent=2) + "\n")
        return
    cells = [
        [table.printable(text) for text in (one.found.name, one.found.place, one.description)]
        for one in found
    ]
    if not noheadings:
        cells.insert(0, _HEADINGS)
    limit = table.terminal_width()
    shown = table.lines(cells, right=[False] * 3, limit=limit, shrinkable=[2])
    put("".join(line.rstrip() + "\n" for line in shown))


def _data(one: Read) -> dict[str, object]:
    return {
        "name": one.found.name,
        "place": one.found.place,
        "path": one.found.path,
        "description": one.description,
        "extends": list(one.extends),
    }


def _show(name: str) -> None:
    one = reading.read(name)
    lines = [f"# {visible(one.found.path)}"]
    if one.extends:
        lines.append(f"# with the settings of {visible(', '.join(one.extends))}")
    put("\n".join([*lines, writing.toml_of(one.settings, description=one.description)]))


profile = Group(
    "profile",
    help=_HELP,
    others={"ls": "list", "cat": "show NAME", "info": "show NAME", "inspect": "show NAME"},
    add_help_option=False,
    no_args_is_help=False,
    params=[help_option()],
    commands={
        "list": Command(
            "list",
            help=_LIST,
            short_help="List profiles.",
            add_help_option=False,
            callback=_list,
            params=[
                *listing_options(),
                help_option(),
            ],
        ),
        "show": Command(
            "show",
            help=_SHOW,
            short_help="Show the settings of a profile.",
            add_help_option=False,
            callback=_show,
            params=[
                help_option(),
                click.Argument(["name"], metavar=_WHICH, shell_complete=_complete),
            ],
        ),
    },
)
