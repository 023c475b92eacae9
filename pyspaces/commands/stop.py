"""`pyspaces stop`: end what runs, or holds, under a name."""

from __future__ import annotations

import click

from pyspaces.commands.help import help_option
from pyspaces.commands.targets import complete_name
from pyspaces.host import targets

_HELP = """End what runs, or holds, under each NAME, and wait until it has ended.

A command gets TERM through its launcher, as if the launcher had been asked to end.
"""


def _stop(names: tuple[str, ...], grace: float) -> None:
    for name in names:
        targets.stop(name, grace=grace)


stop = click.Command(
    "stop",
    help=_HELP,
    short_help="End what runs, or holds, under a name.",
    add_help_option=False,
    callback=_stop,
    params=[
        click.Option(
            ["--grace"],
            type=click.FloatRange(min=0),
            default=10,
            metavar="SECONDS",
            help="how long it may take; then it is killed (10)",
        ),
        help_option(),
        click.Argument(
            ["names"], nargs=-1, required=True, metavar="NAME...", shell_complete=complete_name
        ),
    ],
)
