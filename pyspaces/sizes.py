"""Sizes as people write them: one grammar for memory, limits, and file systems.

Pure. Loaded only by what has a size.
"""

from __future__ import annotations

from pyspaces.feature import is_number

_UNITS = "BKMGT"
_DIGITS = 19
_LARGEST = (1 << 63) - 1  # of a file, or a limit


def size_of(text: str) -> int:
    """Read a size: a number of bytes, or one with B, K, M, G or T. Raises ValueError.

    Lower case is fine, and so are the forms 512MB and 512MiB, which mean the same.
    """
    word = text.upper()
    for ending in ("IB", "B"):
        if word.endswith(ending) and word.removesuffix(ending)[-1:] in tuple(_UNITS[1:]):
            word = word.removesuffix(ending)
    unit = word[-1:] if word[-1:] and word[-1:] in _UNITS else ""
    if not is_number(digits := word.removesuffix(unit), _DIGITS):
        raise ValueError(f"{text[:40]!r} is not a size such as 512M or 2G")
    if (size := int(digits) << 10 * _UNITS.index(unit or "B")) > _LARGEST:
        raise ValueError(f"{text[:40]!r} is more than {size_text(_LARGEST)} bytes")
    return size


def size_text(size: int) -> str:
    """Return a size as people write it: 512M for 512 << 20."""
    unit = 0
    while size and size % 1024 == 0 and unit < len(_UNITS) - 1:
        size, unit = size // 1024, unit + 1
    return f"{size}{_UNITS[unit] if unit else ''}"
