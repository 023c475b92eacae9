"""The options -h/--help and --version, which print something and exit."""

from __future__ import annotations

import click

from pyspaces import __version__
from pyspaces.commands.say import put


def help_option() -> click.Option:
    """Return the option --help; click's own loads translations, which takes 2 ms per launch."""
    return click.Option(
        ["-h", "--help"],
        is_flag=True,
        is_eager=True,
        expose_value=False,
        callback=_show_help,
        help="show this help",
    )


def _show_help(ctx: click.Context, param: click.Parameter, value: object) -> None:
    if value and not ctx.resilient_parsing:
        put(ctx.get_help() + "\n")
        ctx.exit()


def version_option() -> click.Option:
    """Return the option --version; click's own reads the package's metadata, in 18 ms."""
    return click.Option(
        ["--version"],
        is_flag=True,
        is_eager=True,
        expose_value=False,
        callback=_show_version,
        help="show the version",
    )


def _show_version(ctx: click.Context, param: click.Parameter, value: object) -> None:
    if value and not ctx.resilient_parsing:
        put(f"pyspaces {__version__}\n")
        ctx.exit()
