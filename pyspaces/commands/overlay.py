"""`pyspaces overlay`: what an overlay that was kept changes, and its changes written."""

from __future__ import annotations

import click

from pyspaces.commands.optional import Command, Group, complete_path, help_option, json_option
from pyspaces.commands.say import put
from pyspaces.errors import SpaceError
from pyspaces.host.overlay import applying
from pyspaces.host.overlay.kept import Kept
from pyspaces.launch.awaiting import Beside
from pyspaces.launch.records import listed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyspaces.launch.records.listed import Change

_HELP = """List or apply the changes that `pyspaces run --overlay UPPER WORK DST` has kept.

UPPER is the directory that took the changes, DIR the one that the overlay was laid over.
"""
_DIFF = """List what the overlay directory UPPER changes in DIR, a line for each file."""
_APPLY = """Write what the overlay directory UPPER changes into DIR.

Each file is replaced as a whole. UPPER stays as it is. Once all is written, `overlay diff` lists
nothing.
"""


def _diff(upper: str, directory: str, *, as_json: bool) -> None:
    with Kept(upper, directory, "diff") as kept:
        found = _found(kept, to_apply=False)
    put(listed.as_json(found) if as_json else listed.as_text(found))


def _apply(upper: str, directory: str, *, dry_run: bool) -> None:
    with Kept(upper, directory, "apply") as kept:
        if dry_run:
            put(listed.as_text(_found(kept, to_apply=True)))
            return
        with Beside(f"writing the changes of {upper} into {directory}"):
            applying.apply(kept)


def _found(kept: Kept, *, to_apply: bool) -> list[Change]:
    upper, directory = kept.paths
    with Beside(f"comparing {upper} with {directory}"):
        try:
            return listed.in_order(listed.limited(kept.changes(to_apply=to_apply)))
        except ValueError as error:
            raise SpaceError(f"overlay: {upper}: {error}") from error


def _arguments() -> list[click.Argument]:
    complete = complete_path("dir")
    return [
        click.Argument(["upper"], metavar="UPPER", shell_complete=complete),
        click.Argument(["directory"], metavar="DIR", shell_complete=complete),
    ]


overlay = Group(
    "overlay",
    help=_HELP,
    others={
        **dict.fromkeys(("changes", "compare", "list", "ls", "show", "status"), "diff UPPER DIR"),
        **dict.fromkeys(("commit", "merge", "write"), "apply UPPER DIR"),
    },
    add_help_option=False,
    no_args_is_help=False,
    params=[help_option()],
    commands={
        "diff": Command(
            "diff",
            help=_DIFF,
            short_help="List what was changed.",
            add_help_option=False,
            callback=_diff,
            params=[
                json_option(),
                help_option(),
                *_arguments(),
            ],
        ),
        "apply": Command(
            "apply",
            help=_APPLY,
            short_help="Write the changes into the directory.",
            add_help_option=False,
            callback=_apply,
            params=[
                click.Option(
                    ["--dry-run"], is_flag=True, help="list what would be written, and exit"
                ),
                help_option(),
                *_arguments(),
            ],
        ),
    },
)
