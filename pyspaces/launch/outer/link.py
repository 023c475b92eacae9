"""Our own process 1, as a service, and what it reports: stops, and how the command ended.

Runs in the parent; the other end is in `init`, to which the command has no access. Records of five
bytes through a pipe: each is one write, and so arrives whole. Anything else ends the dialogue.
"""

from __future__ import annotations

import os
import struct

from pyspaces.launch import init, signals
from pyspaces.launch.channel import ENDED, RECORD, STOPPED
from pyspaces.launch.service import Service
from pyspaces.status import Status

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from pyspaces.kernel.spawn import Spawned

_SIZE = struct.calcsize(RECORD)
_AT_ONCE = 64


class Init(Service):
    """Our own process 1 above the command, and the pipe of its reports."""

    task = "close the pipe of process 1"

    def open(self) -> None:
        """Make the pipe, and what process 1 needs. Raises KernelError."""
        life = self.launch.plan.life
        reading, self._writing = os.pipe()
        self._link = Link(reading)
        try:
            self.launch.post = init.make_post(life, self._writing, shares_memory=self.launch.calls)
        except BaseException:
            self.release()
            raise
        self.launch.link = self._link

    def started(self, child: Spawned) -> None:
        """Leave the far end to process 1."""
        descriptor, self._writing = self._writing, -1
        os.close(descriptor)

    def release(self) -> None:
        """Close both ends."""
        if self._writing >= 0:
            os.close(self._writing)
            self._writing = -1
        self._link.close()


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
        """Yield the signals that have stopped the command since this was last asked.

        A few at most at once: the writer must not keep the launcher from its clock.
        """
        for _ in range(_AT_ONCE):
            record = self._read()
            if record is None:
                return
            kind, number = record
            if kind == STOPPED:
                self.stops_told += 1
                yield number
            else:
                self._status = Status.from_wait(number)
                self.close()  # nothing comes after that

    def status(self) -> Status | None:
        """Return how the command ended; None if process 1 ended before it could report."""
        # Once process 1 has ended, the pipe holds what it holds; each turn takes some of it.
        while self._descriptor >= 0 and self._status is None:
            if not [*self.stops()]:
                break
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
        record = _record(data)
        if record is None:
            self.close()
        return record


def _record(data: bytes) -> tuple[bytes, int] | None:
    """Return a record; None at the end of the pipe, and for a record that is invalid.

    A writer of that could forge anything: nothing more is believed then, and the launcher
    learns the end of the command as if there were no process 1.
    """
    if len(data) != _SIZE:
        return None
    kind, number = struct.unpack(RECORD, data)
    if kind == STOPPED and number in (*signals.STOPPING, signals.STOP):
        return kind, number
    if kind == ENDED and (os.WIFEXITED(number) or os.WIFSIGNALED(number)):
        return kind, number
    return None
