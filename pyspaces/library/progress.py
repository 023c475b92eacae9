"""A line on standard error that says how far a run is, if that is a terminal.

Runs in the caller.
"""

from __future__ import annotations

import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_SHOWN_EVERY = 0.2  # seconds


class Progress:
    """A line that is written over and over. text: returns it. wanted: None for a terminal only."""

    def __init__(self, text: Callable[[], str], wanted: bool | None) -> None:
        self._text = text
        self._shows = sys.stderr.isatty() if wanted is None else wanted
        self._shown = 0.0

    def show(self, *, now: bool = False) -> None:
        """Write the line, unless that was done a moment ago."""
        if self._shows and (now or time.monotonic() - self._shown >= _SHOWN_EVERY):
            self._shown = time.monotonic()
            sys.stderr.write(f"\r\x1b[K{self._text()}")
            sys.stderr.flush()

    def clear(self, *, last: bool = False) -> None:
        """Make room for another line; last: leave the final text."""
        if self._shows and self._shown:
            if last:
                self.show(now=True)
            sys.stderr.write("\n" if last else "\r\x1b[K")
            sys.stderr.flush()
