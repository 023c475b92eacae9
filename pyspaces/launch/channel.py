"""The dialogue between parent and child: a closed set of messages, in a written order.

One seqpacket socket pair, so a message arrives whole or not at all, and end-of-file means that
the other side has gone (or, after EXECUTING, that exec succeeded: the socket is close-on-exec).
Knows nothing of what a message causes.

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
      | <~~ STAGE, FAILED, EXECUTING ~~~~ |  on the board: only if the plan confines the command
      | <-- FAILED (report) ------------- |  exec failed: the last message
      | <== end-of-file ================= |  exec succeeded, or the child has died

Our process 1 has a pipe to the launcher besides, through which it sends, as long as the command
lives, a record of five bytes, written at once, for each stop of the command and for its end.

The board is memory that both have. What a child does right before exec may leave it no system call
with which it could say anything: it writes there, each message over the last, and the parent reads
the last one at end-of-file. EXECUTING there is exec itself; after STAGE, the child died before it.
If nobody watches the stages, all of them are written there: they would wake the parent for nothing.

If the launcher itself becomes the command, it is the child of this picture, and a helper that
ends with the launch is the parent. The helper begins at the first STAGE, and answers a FAILED (or
gives instead of MAPPED) with REFUSED: the error as people are to read it.
"""

from __future__ import annotations

import os

from pyspaces.kernel.libc import send, socketpair

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyspaces.kernel.memory import Board

# What MAPPED carries: whether setgroups(2) is allowed inside.
ALLOWED, DENIED = b"allow", b"deny"

MAPPED, STAGE, EXECUTING, FAILED, GO, REFUSED = b"M", b"S", b"X", b"F", b"G", b"R"
KEEP, KEPT, AGAIN = b"K", b"k", b"a"
# More than a report. The C library gives no memory of its own to less than 128 KiB (mallopt(3)):
# that would be three system calls and a page fault for each message.
_LARGEST = 1 << 16
_WORD = 256  # of MAPPED and GO: so small that Python takes no memory of the C library for it

# Of process 1: a kind, and the signal that stopped the command or the word of waitpid(2).
ENDED, STOPPED = b"E", b"S"
RECORD = "=ci"

# What may come next, from the child, by what came last; the first state is before any message.
_NEXT = {
    b"": (STAGE, KEEP, EXECUTING, FAILED),
    STAGE: (STAGE, KEEP, EXECUTING, FAILED),
    KEEP: (STAGE, KEEP, EXECUTING, FAILED),
    EXECUTING: (STAGE, FAILED),
    FAILED: (),
}


class Message:
    """One message: its kind, and what it carries. No Record: each launch has some."""

    __slots__ = ("body", "kind")

    def __init__(self, kind: bytes, body: bytes = b"") -> None:
        self.kind = kind
        self.body = body

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Message) and (self.kind, self.body) == (other.kind, other.body)

    def __hash__(self) -> int:
        return hash((self.kind, self.body))

    def __repr__(self) -> str:
        return f"Message(kind={self.kind!r}, body={self.body!r})"


class OutOfTurn(Exception):
    """The other side sent a message that may not come now: a fault in pyspaces, never of a user."""


class Conversation:
    """What the child has said so far, and so what it may say next."""

    def __init__(self) -> None:
        self._last = self._stage = b""

    def accept(self, message: Message) -> Message:
        """Take the next message. Raises OutOfTurn if the order above forbids it."""
        if message.kind not in _NEXT[self._last]:
            raise OutOfTurn(f"{message.kind!r} after {self._last!r}")
        self._last = message.kind
        if message.kind == STAGE:
            self._stage = message.body
        return message

    @property
    def stage(self) -> str:
        """What the child has last begun to do; empty before that."""
        return os.fsdecode(self._stage)

    @property
    def failed(self) -> bool:
        """Return whether the child has said that it failed."""
        return self._last == FAILED

    @property
    def executing(self) -> bool:
        """Return whether the child has said that exec comes next."""
        return self._last == EXECUTING


class Channel:
    """One end of the dialogue; owns its descriptor.

    board: the memory that both ends have. watched: whether somebody wants to hear of each stage.
    """

    def __init__(
        self, descriptor: int, board: Board | None = None, *, watched: bool = True
    ) -> None:
        self._descriptor = descriptor
        self._board = board
        self._watched = watched
        self._is_mute = False

    def fileno(self) -> int:
        """Return the descriptor, for poll(2)."""
        return self._descriptor

    def say(self, kind: bytes, body: bytes = b"") -> None:
        """Send a message. Raises KernelError (EPIPE if the other side has gone)."""
        if self._board and (self._is_mute or (kind == STAGE and not self._watched)):
            self._board.write(kind + body)
        elif not self._is_mute or kind == FAILED:
            if self._board and kind == EXECUTING:
                self._board.write(kind)  # there is no stage any more in which it could die
            send(self._descriptor, kind + body)

    def go_mute(self) -> None:
        """Write all further messages to the board, without a system call.

        Without a board, only FAILED is sent, and that may fail.
        """
        self._is_mute = True

    def hear(self) -> Message | None:
        """Wait for a message; None at end-of-file."""
        try:
            frame = os.read(self._descriptor, _LARGEST)
        except ConnectionResetError:  # the other side went without reading what we had said
            frame = b""
        if not frame and self._board:
            # The last message of the board, once; nothing if that is exec itself.
            frame, self._board = self._board.read(), None
            frame = b"" if frame[:1] == EXECUTING else frame
        return Message(frame[:1], frame[1:]) if frame else None

    def word(self, kind: bytes) -> bytes | None:
        """Wait for a word of the parent; return what it carries.

        None if it is another word, or if the parent has gone.
        """
        try:
            frame = os.read(self._descriptor, _WORD)
        except ConnectionResetError:  # as above
            return None
        return frame[1:] if frame[:1] == kind else None

    def stage(self) -> str:
        """Return the stage that stands on the board; empty if none does."""
        frame = self._board.read() if self._board else b""
        return os.fsdecode(frame[1:]) if frame[:1] == STAGE else ""

    def close(self) -> None:
        """Close this end; more than once is fine."""
        if self._descriptor >= 0:
            descriptor, self._descriptor = self._descriptor, -1
            os.close(descriptor)


def pair(board: Board | None = None, *, watched: bool = True) -> tuple[Channel, Channel]:
    """Return the two ends of a new dialogue, both close-on-exec. Raises KernelError.

    board, watched: as for Channel.
    """
    first, second = socketpair()
    return Channel(first, board), Channel(second, board, watched=watched)


def new_board() -> Board:
    """Return memory for the board, with nothing on it. Raises KernelError."""
    from pyspaces.kernel.memory import Board  # only if the command is confined

    return Board()
