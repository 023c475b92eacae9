"""Rows of text as a table: aligned, without control characters, as wide as the terminal."""

from __future__ import annotations

import os
import sys
import unicodedata

from pyspaces.visible import visible as printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = [
    "cut",
    "duration",
    "in_units",
    "lines",
    "printable",
    "terminal_height",
    "terminal_width",
    "width",
]

_GAP = 1
_ELLIPSIS = "…"


def terminal_width() -> int | None:
    """Return the width of the terminal on standard output; None if it is not a terminal."""
    try:
        return os.get_terminal_size(sys.stdout.fileno()).columns or None
    except (OSError, ValueError, AttributeError):
        return None


def terminal_height() -> int:
    """Return the height of the terminal on standard output; 24 if it is not a terminal."""
    try:
        return os.get_terminal_size(sys.stdout.fileno()).lines or 24
    except (OSError, ValueError, AttributeError):
        return 24


def duration(seconds: float) -> str:
    """Return a duration in its two largest units, such as 45s, 3m20s, 5h2m or 12d4h."""
    left = int(seconds)
    parts = []
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60), ("s", 1)):
        number, left = divmod(left, size)
        parts.append((number, unit))
    first = next((at for at, (number, _) in enumerate(parts) if number), len(parts) - 1)
    shown = parts[first : first + 2]
    return "".join(f"{n}{unit}" for at, (n, unit) in enumerate(shown) if n or not at)


def in_units(size: int) -> str:
    """Return a size in bytes in the largest unit that it has one of, such as 17M or 1.2G."""
    value, unit = float(size), ""
    for unit in ("", "K", "M", "G", "T"):
        if value < 1000 or unit == "T":
            break
        value /= 1024
    return f"{value:.1f}{unit}" if unit and value < 10 else f"{value:.0f}{unit}"


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
