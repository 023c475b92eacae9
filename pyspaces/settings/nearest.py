"""The known words that are nearest to one that somebody typed.

Without difflib, which loads re: half of what an error takes.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable


def words(typed: str, known: Iterable[str], *, most: int = 3) -> list[str]:
    """Return up to `most` of the words `known` that `typed` may have been meant to be, best first.

    Those that differ in a third of their letters or less, or begin with all of it.
    """
    found = []
    for word in known:
        most_that_differ = max(len(typed), len(word)) // 3
        # At least as many as one is longer than the other: a word of many pages is nobody's slip.
        apart = abs(len(typed) - len(word))
        if apart <= most_that_differ and (distance := _distance(typed, word)) <= most_that_differ:
            found.append((distance, word))
        elif len(typed.strip("-")) > 1 and word.startswith(typed):
            found.append((len(typed), word))
    return [word for _, word in sorted(found)[:most]]


def _distance(one: str, other: str) -> int:
    """Return how many letters are to be put in, left out, replaced or exchanged with the next."""
    before: list[int] = []
    row = list(range(len(other) + 1))
    for at, letter in enumerate(one, 1):
        last, before, row = before, row, [at]
        for place, theirs in enumerate(other, 1):
            best = min(row[-1] + 1, before[place] + 1, before[place - 1] + (letter != theirs))
            if at > 1 and place > 1 and letter == other[place - 2] and one[at - 2] == theirs:
                best = min(best, last[place - 2] + 1)
            row.append(best)
    return row[-1]
