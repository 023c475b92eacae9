"""UDP datagrams, carried from one network to the other.

Runs in the helper processes of a network. What one side does not take is dropped, as networks do.
"""

from __future__ import annotations

import _socket
import time

from pyspaces.launch.network.loop import IN

TYPE_CHECKING = False
if TYPE_CHECKING:
    from _socket import socket
    from typing import Any

    from pyspaces.launch.network.loop import Loop
    from pyspaces.launch.network.tcp import Place

_LARGEST = 65535
_AT_ONCE = 64  # datagrams taken at once
_MOST = 256  # peers of one port that are remembered; the one that was silent longest makes room
_SILENCE = 60.0  # seconds after which a peer is forgotten
_DROP = _socket.MSG_DONTWAIT | _socket.MSG_NOSIGNAL


class Flow:
    """A peer: the socket that its datagrams are sent on by, and when the last one came."""

    def __init__(self, own: socket) -> None:
        self.own = own
        self.last = 0.0


class Datagrams:
    """Carries the datagrams of a bound socket to one place, and the answers back.

    Each peer gets a socket of its own there: what arrives at that is an answer to this peer.
    """

    def __init__(self, loop: Loop, bound: socket, place: Place) -> None:
        self._loop, self._bound, self._place = loop, bound, place
        self._flows: dict[Any, Flow] = {}  # the one that was silent longest first
        bound.setblocking(False)
        loop.watch(bound.fileno(), IN, self._take)

    def _take(self, events: int) -> None:
        del events
        for _ in range(_AT_ONCE):
            try:
                data, peer = self._bound.recvfrom(_LARGEST)
            except BlockingIOError:
                return
            except OSError:  # an earlier answer could not be delivered
                continue
            flow = self._flow(peer)
            if flow:
                _send(flow.own, data)

    def _flow(self, peer: Any) -> Flow | None:
        """Return the flow of a peer, as the one that was silent least; None if there is no room."""
        flow = self._flows.pop(peer, None) or self._new(peer)
        if flow:
            flow.last = time.monotonic()
            self._flows[peer] = flow
        return flow

    def _new(self, peer: Any) -> Flow | None:
        if len(self._flows) >= _MOST:
            self._forget(next(iter(self._flows)))
        family, address = self._place
        try:
            own = _socket.socket(family, _socket.SOCK_DGRAM | _socket.SOCK_NONBLOCK, 0)
        except OSError:
            return None
        try:
            own.connect(address)
        except OSError:
            own.close()
            return None
        self._loop.watch(own.fileno(), IN, lambda events: self._answer(own, peer))
        self._loop.at(time.monotonic() + _SILENCE, self._sweep)
        return Flow(own)

    def _answer(self, own: socket, peer: Any) -> None:
        for _ in range(_AT_ONCE):
            try:
                data = own.recv(_LARGEST)
            except BlockingIOError:
                return
            except OSError:  # nobody is there: an ICMP message has said so
                continue
            self._flow(peer)
            try:
                self._bound.sendto(data, _DROP, peer)
            except OSError:
                continue

    def _sweep(self) -> None:
        """Forget the peers that have been silent for long."""
        now = time.monotonic()
        for peer, flow in [*self._flows.items()]:
            if now - flow.last >= _SILENCE:
                self._forget(peer)
        if self._flows:
            self._loop.at(now + _SILENCE / 2, self._sweep)

    def _forget(self, peer: Any) -> None:
        self._loop.close(self._flows.pop(peer).own)


def _send(own: socket, data: bytes) -> None:
    """Send a datagram; the first attempt may only report that an earlier one was refused."""
    for _ in range(2):
        try:
            own.send(data, _DROP)
        except BlockingIOError:
            return
        except OSError:
            continue
        return
