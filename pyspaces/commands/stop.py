"""`pyspaces stop`: stop commands and namespaces by name."""

from __future__ import annotations

import click

from pyspaces.commands.optional import help_option
from pyspaces.commands.targets import complete_name
from pyspaces.host import targets

_HELP = """Stop the command or the namespaces called NAME, and wait until they have ended.

TERM is sent to the launcher of a command, which forwards it.
"""


def _stop(names: tuple[str, ...], grace: float) -> None:
    for name in names:
        targets.stop(name, grace=grace)


stop = click.Command(
    "stop",
    help=_HELP,
    add_help_option=False,
    callback=_stop,
    params=[
        click.Option(
            ["--grace"],
            type=click.FloatRange(min=0),
            default=10,
            metavar="SECONDS",
            help="seconds to wait before sending KILL (10)",
        ),
        help_option(),
        click.Argument(
            ["names"], nargs=-1, required=True, metavar="NAME...", shell_complete=complete_name
        ),
    ],
)
