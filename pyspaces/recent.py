"""What was made lately, by what it was made from: a program launches in a few ways, in turns.

Pure. Loaded only by the library, and by the launch server.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# More ways than most programs have.
_MOST = 8
# Bytes: an entry may hold an environment or the words of a command, and its process stays small.
_LARGEST = 1 << 15


class Recent:
    """The last few things that were made, the latest first.

    A handler of a signal may launch something at any line of this: what is kept is replaced as a
    whole. Something may be forgotten then, but nothing is mixed up.
    """

    def __init__(self) -> None:
        self._kept: tuple[tuple[object, Any], ...] = ()

    def find(self, source: object) -> Any:
        """Return what was made from something equal; None if it is not there any more."""
        kept = self._kept
        for number, entry in enumerate(kept):
            if entry[0] == source:
                if number:
                    self._kept = (entry, *kept[:number], *kept[number + 1 :])
                return entry[1]
        return None

    def keep(self, source: object, made: Any, size: int) -> None:
        """Keep what was made from `source`, in place of the latest if that is from the same.

        size: roughly, in bytes, of what differs from entry to entry. What is large is not kept.
        """
        if size > _LARGEST:
            return
        kept = self._kept
        others = kept[1:] if kept and kept[0][0] == source else kept[: _MOST - 1]
        self._kept = ((source, made), *others)
