"""--watch: a result that is printed again and again, until Ctrl-C."""

from __future__ import annotations

import sys
import time

import click

from pyspaces.commands import table
from pyspaces.commands.say import put
from pyspaces.errors import UsageFault

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_PAUSE = 2.0  # seconds
# Home, and then each line up to its end, so that nothing flickers; what was below is erased.
_HOME, _TO_END_OF_LINE, _BELOW = "\x1b[H", "\x1b[K", "\x1b[J"


def option() -> click.Option:
    """Return the option --watch."""
    return click.Option(
        ["--watch"], is_flag=True, help="print it every two seconds, until Ctrl-C; on a terminal"
    )


def repeat(text: Callable[[], str]) -> None:
    """Print what `text` returns, as far as it fits the terminal, again and again.

    Raises UsageFault where standard output is no terminal.
    """
    if sys.stdout is None or not sys.stdout.isatty():
        raise UsageFault(["--watch: standard output is not a terminal"])
    put("\x1b[2J")
    while True:
        lines = text().split("\n")[: table.terminal_height() - 1]
        put(_HOME + "".join(f"{line}{_TO_END_OF_LINE}\n" for line in lines) + _BELOW)
        time.sleep(_PAUSE)
