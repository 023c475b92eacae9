"""`pyspaces drop`: release namespaces that are bound to files."""

from __future__ import annotations

import click

from pyspaces.commands.optional import help_option
from pyspaces.features.existing import keeping

_HELP = """Release the namespace that is bound to each FILE, and remove the file.

A namespace continues to exist while a process is in it.
"""

drop = click.Command(
    "drop",
    help=_HELP,
    add_help_option=False,
    callback=keeping.drop,
    params=[
        help_option(),
        click.Argument(["paths"], nargs=-1, required=True, metavar="FILE...", type=click.Path()),
    ],
)
