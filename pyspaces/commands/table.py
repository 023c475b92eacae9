"""Rows of text as a table: aligned, without control characters, as wide as the terminal."""

from __future__ import annotations

import os
import sys
import unicodedata

from pyspaces.visible import visible as printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["cut", "lines", "printable", "terminal_width", "width"]

_GAP = 1
_ELLIPSIS = "…"


def terminal_width() -> int | None:
    """Return the width of the terminal on standard output; None if it is not a terminal."""
    try:
        return os.get_terminal_size(sys.stdout.fileno()).columns or None
    except (OSError, ValueError, AttributeError):
        return None


def width(text: str) -> int:
    """Return the number of terminal columns of `text`; East Asian wide characters have two."""
    if text.isascii():
        return len(text)
    return sum(_width_of(char) for char in text)


def _width_of(char: str) -> int:
    if unicodedata.combining(char):
        return 0
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1


def cut(text: str, columns: int) -> str:
    """Return `text`, truncated with an ellipsis if it is wider than `columns`."""
    if width(text) <= columns:
        return text
    while text and width(text) > columns - 1:
        text = text[: columns - 1] if len(text) > columns else text[:-1]
    return text + _ELLIPSIS if columns > 0 else ""


def lines(
    rows: Sequence[Sequence[str]],
    *,
    right: Sequence[bool],
    limit: int | None,
    shrinkable: Sequence[int],
) -> list[str]:
    """Return a line for each row, with the cells padded to columns.

    right: whether each column is right-aligned. limit: the maximum width of a line, in terminal
    columns; None for no limit. shrinkable: the indices of the columns that are truncated first.
    """
    if not rows:
        return []
    widths = [max(width(row[at]) for row in rows) for at in range(len(right))]
    if limit is not None:
        _shrink(widths, limit, shrinkable)
    done = []
    for row in rows:
        cells = [
            _padded(cut(cell, widths[at]), widths[at], right=right[at])
            for at, cell in enumerate(row)
        ]
        line = (" " * _GAP).join(cells).rstrip()
        done.append(line if limit is None else cut(line, limit))
    return done


def _shrink(widths: list[int], limit: int, shrinkable: Sequence[int]) -> None:
    """Shrink the widest of the shrinkable columns until the line fits or all are narrow."""
    narrow = 8
    while sum(widths) + _GAP * (len(widths) - 1) > limit:
        widest = max(shrinkable, key=lambda at: widths[at], default=None)
        if widest is None or widths[widest] <= narrow:
            return
        over = sum(widths) + _GAP * (len(widths) - 1) - limit
        widths[widest] = max(narrow, widths[widest] - over)


def _padded(text: str, columns: int, *, right: bool) -> str:
    space = " " * (columns - width(text))
    return space + text if right else text + space
