"""What our own process 1 tells the launcher about the command: its stops, and how it ended.

Runs in the parent; the other end is in `init`. Records of five bytes through a pipe: each is one
write, and so arrives whole.
"""

from __future__ import annotations

import os
import struct

from pyspaces.status import Status

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

ENDED, STOPPED = b"E", b"S"
RECORD = "=ci"
_SIZE = struct.calcsize(RECORD)


class Link:
    """The launcher's end; owns its descriptor. stops_told: how many stops it has read of."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._status: Status | None = None
        self.stops_told = 0
        os.set_blocking(descriptor, False)

    def fileno(self) -> int:
        """Return the descriptor, for poll(2); -1 once it is closed."""
        return self._descriptor

    def stops(self) -> Iterator[int]:
        """Yield the signals that have stopped the command since this was last asked."""
        while (record := self._read()) is not None:
            kind, number = record
            if kind == STOPPED:
                self.stops_told += 1
                yield number
            else:
                self._status = Status.from_wait(number)

    def status(self) -> Status | None:
        """Return how the command ended; None where process 1 ended before it could tell."""
        for _ in self.stops():
            pass
        return self._status

    def close(self) -> None:
        """Release the descriptor; more than once is fine."""
        if self._descriptor >= 0:
            descriptor, self._descriptor = self._descriptor, -1
            os.close(descriptor)

    def _read(self) -> tuple[bytes, int] | None:
        if self._descriptor < 0:
            return None
        try:
            data = os.read(self._descriptor, _SIZE)
        except BlockingIOError:
            return None
        if not data:
            self.close()
            return None
        kind, number = struct.unpack(RECORD, data)
        return kind, number
