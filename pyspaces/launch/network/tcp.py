"""TCP connections, carried from one network to the other.

Runs in the helper processes of a network. Neither side is trusted: what one of them does not read
stays in the kernel's buffers, but for one piece, and the other side is not read from meanwhile.
"""

from __future__ import annotations

import _socket
import errno
import struct
import time

from pyspaces.launch.network.descriptors import descriptors_limit
from pyspaces.launch.network.loop import IN, OUT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from _socket import socket
    from collections.abc import Callable, Sequence
    from typing import Any

    from pyspaces.launch.network.loop import Loop

    Place = tuple[int, tuple[str, int]]  # an address family, and an address

_PIECE = 1 << 18  # bytes read at once, and the most that is kept of one direction
_AT_ONCE = 32  # connections accepted at once
_RESET = struct.pack("ii", 1, 0)  # struct linger of socket(7): close with a reset
_PAUSE = 0.5  # seconds without descriptors or memory before the next is accepted
# Once the command has ended, how long a connection may take, in seconds, for what was sent already.
_LAST_WORDS, _IDLE, _LOOK = 2.0, 0.2, 0.02
# What accept(2) says of a connection that has gone again; and if there is no room for one.
_GONE = (errno.ECONNABORTED, errno.EPROTO, errno.EPERM, errno.EINTR)
_view = memoryview(_buffer := bytearray(_PIECE))


class Way:
    """One direction of a connection. pending: what the target has not taken yet."""

    def __init__(self, source: socket, target: socket) -> None:
        self.source, self.target = source, target
        self.pending: bytes = b""
        self.left: int | None = None  # how many bytes the target still takes; None without limit
        self.ended = False  # the source will send no more, or no more than is dropped
        self.drops = False  # it may do so: what is left unread would reset the connection
        self.done = False  # and the target knows

    def is_read(self) -> bool:
        """Return whether what the source sends is read now."""
        return self.drops or not (self.pending or self.ended)


class Pair:
    """Two connected sockets, each of which gets what the other sends.

    first, answer: what the second and the first one get before that. left: how many bytes the
    second one then gets at most; what comes beyond ends that direction. ended: whether it has come
    already, and there is something that the second one gets first. gone: called once both are
    closed.
    """

    def __init__(
        self,
        loop: Loop,
        one: socket,
        other: socket,
        *,
        gone: Callable[[Pair], object],
        first: bytes = b"",
        answer: bytes = b"",
        left: int | None = None,
        ended: bool = False,
    ) -> None:
        self._loop, self._gone = loop, gone
        self._sockets = (one, other)
        self._ways = (Way(one, other), Way(other, one))
        self.moved = time.monotonic()
        self._ways[0].pending, self._ways[1].pending = first, answer
        self._ways[0].left = left
        self._ways[0].ended = self._ways[0].drops = ended
        self._watch()

    def _act_first(self, events: int) -> None:
        self._act(events, *self._ways)

    def _act_second(self, events: int) -> None:
        self._act(events, *self._ways[::-1])

    def _act(self, events: int, out: Way, into: Way) -> None:
        """Move data at one socket: `out` comes from it, `into` leads to it."""
        self.moved = time.monotonic()
        try:
            if into.pending and events & ~IN:
                self._write(into, into.pending)
            if out.is_read() and events & ~OUT:
                self._read(out)
        except OSError:
            self.reset()
            return
        if out.done and into.done:
            self.close()
        else:
            self._watch()

    def _read(self, way: Way) -> None:
        try:
            size = way.source.recv_into(_buffer)
        except BlockingIOError:
            return
        if way.ended:
            way.drops = bool(size)
            return
        way.ended = not size
        if way.left is not None and size:
            way.ended = way.drops = size > way.left
            size = min(size, way.left)
            way.left -= size
        if size:
            self._write(way, _view[:size])
        else:
            self._finish(way)

    def _write(self, way: Way, data: bytes | memoryview) -> None:
        try:
            sent = way.target.send(data, _socket.MSG_NOSIGNAL)
        except BlockingIOError:
            sent = 0
        way.pending = bytes(data[sent:]) if sent < len(data) else b""
        self._finish(way)

    def _finish(self, way: Way) -> None:
        """Pass the end of what the source sends on; the other direction goes on."""
        if way.ended and not way.pending and not way.done:
            way.done = True
            try:
                way.target.shutdown(_socket.SHUT_WR)
            except OSError as error:
                if error.errno != errno.ENOTCONN:  # it has gone, which its own events tell
                    raise

    def _watch(self) -> None:
        acts = (self._act_first, self._act_second)
        for own, act, out, into in zip(
            self._sockets, acts, self._ways, self._ways[::-1], strict=True
        ):
            events = IN if out.is_read() else 0
            events |= OUT if into.pending else 0
            self._loop.watch(own.fileno(), events, act)

    def is_through(self, number: int) -> bool:
        """Return whether the other side has got all that one socket had to send, 0 or 1."""
        return self._ways[number].done

    def reset(self) -> None:
        """End both: each side sees that the other has failed."""
        for one in self._sockets:
            reset(one)
        self.close()

    def close(self) -> None:
        """End both."""
        for one in self._sockets:
            self._loop.close(one)
        self._gone(self)


def reset(one: socket) -> None:
    """Let a socket be closed with a reset."""
    try:
        one.setsockopt(_socket.SOL_SOCKET, _socket.SO_LINGER, _RESET)
    except OSError:
        return


class Connections:
    """The connections of one process, of which there is a limited number.

    room: so many at most. What comes beyond waits in the kernel's queue, or is refused by it.
    inside: which of the two sockets of each is in the network of the command, 0 or 1.
    """

    def __init__(self, loop: Loop, room: int, *, inside: int) -> None:
        self.loop = loop
        self._room, self._inside = room, inside
        self._count = 0
        self._listeners: list[Listener] = []
        self._pairs: set[Pair] = set()
        self._ending = 0.0

    def listen(self, listener: Listener) -> None:
        """Accept connections there from now on."""
        self._listeners.append(listener)
        listener.watch(on=self._count < self._room)

    def enter(self) -> None:
        """Count one more, before anything else is done for it."""
        self._count += 1
        if self._count >= self._room:
            self._watch(on=False)

    def leave(self) -> None:
        """Count one less."""
        self._count -= 1
        if self._count == self._room - 1:
            self._watch(on=True)
        if self._ending and not self._count:
            self.loop.stop()

    def join(self, one: socket, other: socket, **more: Any) -> None:
        """Give each of two connected sockets, counted already, what the other one sends.

        more: as for Pair.
        """
        self._pairs.add(Pair(self.loop, one, other, gone=self._gone, **more))

    def _gone(self, pair: Pair) -> None:
        self._pairs.discard(pair)
        self.leave()

    def pause(self) -> None:
        """Accept nothing for a while: there are no descriptors or no memory."""
        self._watch(on=False)
        self.loop.at(time.monotonic() + _PAUSE, self._resume)

    def _resume(self) -> None:
        self._watch(on=self._count < self._room)

    def _watch(self, *, on: bool) -> None:
        for listener in self._listeners:
            listener.watch(on=on and not self._ending)

    def end(self) -> None:
        """Accept no more, carry what was sent already, and stop the loop then.

        The command has ended: what it has sent is still in the kernel, as it would be without us.
        """
        self._ending = time.monotonic()
        for listener in self._listeners:
            self.loop.close(listener.socket)
        self._listeners.clear()
        self._look_again()

    def _look_again(self) -> None:
        now = time.monotonic()
        for pair in [*self._pairs]:
            if pair.is_through(self._inside):
                pair.close()
            elif now - max(pair.moved, self._ending) > _IDLE or now - self._ending > _LAST_WORDS:
                pair.reset()
        # One that is being connected inside counts: its answer may be there in the same moment.
        if self._count and now - self._ending <= _LAST_WORDS:
            self.loop.at(now + _LOOK, self._look_again)
        else:
            self.loop.stop()


class Listener:
    """A listening socket, and what becomes of each connection.

    take: called with each new socket, which does not block and is counted already.
    """

    def __init__(
        self, connections: Connections, own: socket, take: Callable[[socket], object]
    ) -> None:
        self.socket = own
        self._connections, self._take = connections, take
        own.setblocking(False)

    def watch(self, *, on: bool) -> None:
        """Accept connections, or leave them waiting."""
        self._connections.loop.watch(self.socket.fileno(), IN if on else 0, self._accept)

    def _accept(self, events: int) -> None:
        del events
        for _ in range(_AT_ONCE):
            try:
                descriptor, _address = self.socket._accept()  # type: ignore[attr-defined]
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno not in _GONE:
                    self._connections.pause()
                    return
                continue
            one = _socket.socket(self.socket.family, _socket.SOCK_STREAM, 0, fileno=descriptor)
            one.setblocking(False)
            prepare(one)
            self._connections.enter()
            self._take(one)


def prepare(one: socket) -> None:
    """Send small pieces at once, and notice a peer that has vanished without a word."""
    try:
        one.setsockopt(_socket.IPPROTO_TCP, _socket.TCP_NODELAY, 1)
        one.setsockopt(_socket.SOL_SOCKET, _socket.SO_KEEPALIVE, 1)
    except OSError:  # it has gone already, which its own events tell
        return


class Connecting:
    """An attempt to connect to the first of several places that answers.

    done: called with the connected socket, or with None if none of the places answers.
    """

    def __init__(
        self, loop: Loop, places: Sequence[Place], done: Callable[[socket | None], object]
    ) -> None:
        self._loop, self._done = loop, done
        self._places = [*places]
        self._own: socket | None = None
        self._next()

    def cancel(self) -> None:
        """Give up; `done` is not called."""
        if self._own:
            self._loop.close(self._own)
            self._own = None

    def _next(self) -> None:
        while self._places:
            family, address = self._places.pop(0)
            try:
                own = _socket.socket(family, _socket.SOCK_STREAM | _socket.SOCK_NONBLOCK, 0)
            except OSError:
                continue
            number = own.connect_ex(address)
            if number == errno.EINPROGRESS:
                self._own = own
                self._loop.watch(own.fileno(), OUT, self._look)
                return
            if not number:
                self._give(own)
                return
            own.close()
        self._done(None)

    def _look(self, events: int) -> None:
        del events
        own, self._own = self._own, None
        assert own
        if own.getsockopt(_socket.SOL_SOCKET, _socket.SO_ERROR):
            self._loop.close(own)
            self._next()
        else:
            self._give(own)

    def _give(self, own: socket) -> None:
        prepare(own)
        self._done(own)


def carrier(connections: Connections, places: Sequence[Place]) -> Callable[[socket], object]:
    """Return what connects a new socket with the first place that answers, or else resets it."""

    def take(one: socket) -> None:
        def done(other: socket | None) -> None:
            if other:
                connections.join(one, other)
            else:
                reset(one)
                connections.loop.close(one)
                connections.leave()

        Connecting(connections.loop, places, done)

    return take


def connections_beside(
    pidfd: int, loop: Loop, most: int, others: int, *, inside: int
) -> Connections:
    """Return the connections of a helper, which end with the process behind `pidfd`.

    most: of connections, each of which takes two descriptors. others: the other descriptors that
    there may be. inside: as for Connections.
    """
    limit = descriptors_limit(2 * most + others)
    room = max(8, min(most, (limit - min(others, limit // 2)) // 2))
    connections = Connections(loop, room, inside=inside)

    def end(events: int) -> None:
        del events
        loop.watch(pidfd, 0, end)
        connections.end()

    loop.watch(pidfd, IN, end)
    return connections


def places_of(addresses: Sequence[str], port: int) -> list[Place]:
    """Return the places with these addresses and a port."""
    return [
        (_socket.AF_INET6 if ":" in address else _socket.AF_INET, (address, port))
        for address in addresses
    ]
