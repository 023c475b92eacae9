"""The dialogue between parent and child: a closed set of messages, in a written order.

One seqpacket socket pair, so a message arrives whole or not at all, and end-of-file means that
the other side has gone (or, after EXECUTING, that exec succeeded: the socket is close-on-exec).
Must not know what a message causes.

    parent                              child
      |                                   | waits
      |  writes the id maps               |
      | --- MAPPED (setgroups state) ---> |
      | <-- STAGE (what comes now) ------ |  any number of times
      | <-- KEEP ------------------------ |  its namespaces can be bound to files
      | --- KEPT or AGAIN --------------> |  AGAIN: with a new mount namespace, and KEEP once more
      | <-- FAILED (report) ------------- |  a step failed: the last message
      | <-- EXECUTING (its namespaces) -- |  everything is set up
      | --- GO -------------------------> |  only to a child that is held: it waits for it
      | <-- FAILED (report) ------------- |  exec failed: the last message
      | <== end-of-file ================= |  exec succeeded, or the child has died

Our process 1 has a pipe to the launcher besides, through which it tells, as long as the command
lives: a record of five bytes, written at once, for each stop of the command and for its end.

Where the launcher itself becomes the command, it is the child of this picture, and a helper that
ends with the launch is the parent. The helper begins at the first STAGE, and answers a FAILED (or
gives instead of MAPPED) with REFUSED: the error as people are to read it.
"""

from __future__ import annotations

import os

from pyspaces.kernel import libc
from pyspaces.record import Record

# What MAPPED carries: whether setgroups(2) is allowed inside.
ALLOWED, DENIED = b"allow", b"deny"

MAPPED, STAGE, EXECUTING, FAILED, GO, REFUSED = b"M", b"S", b"X", b"F", b"G", b"R"
KEEP, KEPT, AGAIN = b"K", b"k", b"a"
_LARGEST = 1 << 17

# Of process 1: a kind, and the signal that stopped the command or the word of waitpid(2).
ENDED, STOPPED = b"E", b"S"
RECORD = "=ci"

# What may come next, from the child, by what came last; the first state is before any message.
_NEXT = {
    b"": (STAGE, EXECUTING, FAILED),
    STAGE: (STAGE, KEEP, EXECUTING, FAILED),
    KEEP: (STAGE, KEEP, EXECUTING, FAILED),
    EXECUTING: (FAILED,),
    FAILED: (),
}


class Message(Record):
    """One message: its kind, and what it carries."""

    kind: bytes
    body: bytes = b""


class OutOfTurn(Exception):
    """The other side sent a message that may not come now: a fault in pyspaces, never of a user."""


class Conversation:
    """What the child has said so far, and so what it may say next."""

    def __init__(self) -> None:
        self._last = b""
        self.stage = ""

    def accept(self, message: Message) -> Message:
        """Take the next message. Raises OutOfTurn where the order above forbids it."""
        if message.kind not in _NEXT[self._last]:
            raise OutOfTurn(f"{message.kind!r} after {self._last!r}")
        self._last = message.kind
        if message.kind == STAGE:
            self.stage = os.fsdecode(message.body)
        return message

    @property
    def failed(self) -> bool:
        """Tell whether the child has said that it failed."""
        return self._last == FAILED

    @property
    def executing(self) -> bool:
        """Tell whether the child has said that exec comes next."""
        return self._last == EXECUTING


class Channel:
    """One end of the dialogue; owns its descriptor."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def fileno(self) -> int:
        """Return the descriptor, for poll(2)."""
        return self._descriptor

    def say(self, kind: bytes, body: bytes = b"") -> None:
        """Send a message. Raises KernelError (EPIPE where the other side has gone)."""
        libc.send(self._descriptor, kind + body)

    def hear(self) -> Message | None:
        """Wait for a message; None at end-of-file."""
        try:
            frame = os.read(self._descriptor, _LARGEST)
        except ConnectionResetError:  # the other side went without reading what we had said
            return None
        return Message(kind=frame[:1], body=frame[1:]) if frame else None

    def close(self) -> None:
        """Close this end; more than once is fine."""
        if self._descriptor >= 0:
            descriptor, self._descriptor = self._descriptor, -1
            os.close(descriptor)


def pair() -> tuple[Channel, Channel]:
    """Return the two ends of a new dialogue, both close-on-exec. Raises KernelError."""
    first, second = libc.socketpair()
    return Channel(first), Channel(second)
