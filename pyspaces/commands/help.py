"""The option -h/--help, which every command has."""

from __future__ import annotations

import click


def help_option() -> click.Option:
    """Return the option; click's own looks for translations, which costs 2 ms of each launch."""
    return click.Option(
        ["-h", "--help"],
        is_flag=True,
        is_eager=True,
        expose_value=False,
        callback=_show_help,
        help="show this text",
    )


def _show_help(ctx: click.Context, param: click.Parameter, value: object) -> None:
    if value and not ctx.resilient_parsing:
        click.echo(ctx.get_help(), color=ctx.color)
        ctx.exit()
