"""The known word that a mistyped one is nearest to, for errors."""

from __future__ import annotations

from difflib import get_close_matches  # 5 ms: only an error needs it

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable


def nearest(word: str, known: Iterable[str]) -> str:
    """Return the known word that looks most like `word`; empty if none does."""
    return next(iter(get_close_matches(word[:80], [*known], 1, 0.6)), "")
