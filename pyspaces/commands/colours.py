"""Whether to use colours on standard output, and the few that there are.

--color decides; without it, they are used on a terminal, unless NO_COLOR is set: no-color.org.
"""

from __future__ import annotations

import os
import sys

import click

AUTO, ALWAYS, NEVER = "auto", "always", "never"


def option() -> click.Option:
    """Return the option --color."""
    return click.Option(
        ["--color"],
        metavar=f"{AUTO}|{ALWAYS}|{NEVER}",
        type=click.Choice([AUTO, ALWAYS, NEVER]),
        is_eager=True,
        expose_value=False,
        callback=_remember,
        help="use colours: auto (default), always or never",
    )


def _remember(ctx: click.Context, param: click.Parameter, value: str | None) -> None:
    if value not in (None, AUTO):
        ctx.color = value == ALWAYS  # what click.echo looks at, in all commands below


def wanted() -> bool:
    """Return whether standard output gets colours."""
    ctx = click.get_current_context(silent=True)
    if ctx is not None and ctx.color is not None:
        return ctx.color
    if os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        return False
    return sys.stdout is not None and sys.stdout.isatty()


def styled(text: str, **style: object) -> str:
    """Return `text` in a style of click.style, if standard output gets colours."""
    return click.style(text, **style) if wanted() else text  # type: ignore[arg-type]
