"""The proxy: it connects the command with the hosts of a list, by name, and with no others.

Runs in a process of its own, in the network of the caller; its listening socket is in that of the
command, which has no other way out. It takes CONNECT and plain HTTP. A name is looked up once, and
what is connected to is the address that was looked at: a different answer the next time gains
nothing.
"""

from __future__ import annotations

import _socket
import time

from pyspaces.features.network import hosts
from pyspaces.launch.network import request
from pyspaces.launch.network.loop import IN, Loop
from pyspaces.launch.network.request import BadRequest, Request
from pyspaces.launch.network.resolver import Resolver
from pyspaces.launch.network.tcp import (
    Connecting,
    Connections,
    Listener,
    connections_beside,
    places_of,
    reset,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from _socket import socket
    from collections.abc import Callable, Iterable

# So many connections at most, each of which takes two descriptors, and what else there may be.
_MOST, _OTHERS = 1024, 256
# Seconds that a client has to send its request, and we have to answer it; and to read a refusal.
_PATIENCE, _FAREWELL = 60.0, 2.0
_SWEEP = 1.0
_PIECE = 1 << 14
# So many hosts are recorded that were refused; the rest is counted.
_MOST_REFUSED = 256
NOT_LISTED = "not an allowed host"
PRIVATE = "a private address"


class Proxy:
    """What all the connections have in common. rules: the hosts that are allowed."""

    def __init__(self, loop: Loop, connections: Connections, rules: hosts.Rules) -> None:
        self.loop, self.connections, self.rules = loop, connections, rules
        self.resolver = Resolver(loop)
        self.refused: dict[tuple[str, int, str], int] = {}
        self.uncounted = 0
        self._clients: set[Client] = set()

    def take(self, one: socket) -> None:
        """Serve a new client."""
        if not self._clients:
            self.loop.at(time.monotonic() + _SWEEP, self._sweep)
        self._clients.add(Client(self, one))

    def drop(self, client: Client) -> None:
        """Forget a client whose socket has been handed on or closed."""
        self._clients.discard(client)

    def refuse(self, host: str, port: int, why: str) -> None:
        """Record a host that was refused."""
        key = (host, port, why)
        if key in self.refused or len(self.refused) < _MOST_REFUSED:
            self.refused[key] = self.refused.get(key, 0) + 1
        else:
            self.uncounted += 1

    def _sweep(self) -> None:
        """End the clients whose time is over."""
        now = time.monotonic()
        for client in [one for one in self._clients if one.until < now]:
            client.give_up()
        if self._clients:
            self.loop.at(now + _SWEEP, self._sweep)


class Client:
    """A client until it is connected or refused. until: when its time is over."""

    def __init__(self, proxy: Proxy, own: socket) -> None:
        self._proxy, self._own = proxy, own
        self._data = b""
        self._request: Request | None = None
        self._attempt: Connecting | None = None
        self._is_over = False
        self.until = time.monotonic() + _PATIENCE
        proxy.loop.watch(own.fileno(), IN, self._read)

    def give_up(self) -> None:
        """End it, in whatever state it is."""
        if self._attempt:
            self._attempt.cancel()
        if self._request and not self._is_over:
            self._answer("504 Gateway Timeout", f"{self._request.host}: no answer in time")
        else:
            reset(self._own)
            self._close()

    def _close(self) -> None:
        self._is_over = True
        self._proxy.drop(self)
        self._proxy.loop.close(self._own)
        self._proxy.connections.leave()

    def _read(self, events: int) -> None:
        del events
        try:
            piece = self._own.recv(_PIECE)
        except BlockingIOError:
            return
        except OSError:
            piece = b""
        if not piece:
            self._close()
            return
        self._data += piece
        head, found, _ = self._data.partition(request.END)
        if len(head) > request.LARGEST:
            self._answer("431 Request Header Fields Too Large", "the request is too long")
        elif found:
            # Until the other side is there, what else it sends stays in the kernel.
            self._proxy.loop.watch(self._own.fileno(), 0, self._read)
            self._decide(head)

    def _decide(self, head: bytes) -> None:
        try:
            asked = self._request = request.parse(head)
        except BadRequest as fault:
            self._answer(fault.status, fault.reason)
            return
        rules = self._proxy.rules
        if asked.address is not None:
            allowed = rules.allow_address(asked.address, asked.port)
        else:
            allowed = rules.allow_name(asked.host, asked.port)
        if not allowed:
            self._refuse(NOT_LISTED)
        elif asked.address is not None:
            self._connect([asked.address])
        else:
            self._proxy.resolver.look_up(asked.host, self._connect)

    def _connect(self, addresses: list[bytes]) -> None:
        """Connect to the first address that is allowed and answers."""
        asked = self._request
        if self._is_over or not asked:
            return
        if not addresses:
            self._answer("502 Bad Gateway", f"{asked.host}: no such host")
            return
        rules = self._proxy.rules
        fitting = [
            one
            for one in addresses
            if rules.name_address(one, asked.port) or (hosts.is_public(one) and not is_own(one))
        ]
        if not fitting:
            self._refuse(PRIVATE)
            return
        places = places_of([hosts.text_of(one) for one in fitting], asked.port)
        self._attempt = Connecting(self._proxy.loop, places, self._connected)

    def _connected(self, other: socket | None) -> None:
        self._attempt = None
        asked = self._request
        assert asked
        if not other:
            self._answer("502 Bad Gateway", f"{asked.host}:{asked.port}: cannot be reached")
            return
        _, _, rest = self._data.partition(request.END)
        left, ended = None, False
        if asked.body is not None:
            ended = len(rest) > asked.body
            rest = rest[: asked.body]
            left = asked.body - len(rest)
        self._is_over = True
        self._proxy.drop(self)
        self._proxy.connections.join(
            self._own,
            other,
            first=asked.head + rest,
            answer=request.ESTABLISHED if asked.tunnel else b"",
            left=left,
            ended=ended,
        )

    # --- refusals ---------------------------------------------------------------------------------

    def _refuse(self, why: str) -> None:
        asked = self._request
        assert asked
        self._proxy.refuse(asked.host, asked.port, why)
        self._answer("403 Forbidden", f"{asked.host}:{asked.port}: {why}")

    def _answer(self, status: str, text: str) -> None:
        """Answer, and close once the client has read it: unread data would reset the connection."""
        self._data = b""
        self._is_over = True
        try:
            self._own.send(request.answer(status, text), _socket.MSG_NOSIGNAL)
            self._own.shutdown(_socket.SHUT_WR)
        except OSError:
            self._close()
            return
        self.until = time.monotonic() + _FAREWELL
        self._proxy.loop.watch(self._own.fileno(), IN, self._discard)

    def _discard(self, events: int) -> None:
        del events
        try:
            if self._own.recv(_PIECE):
                return
        except BlockingIOError:
            return
        except OSError:
            self.until = 0.0
        self._close()


def is_own(address: bytes) -> bool:
    """Return whether an address is one of this host's own, in any network.

    A datagram socket that is connected to one gets it as its own address; nothing is sent.
    """
    text = hosts.text_of(address)
    family, place = places_of([text], 9)[0]
    one = _socket.socket(family, _socket.SOCK_DGRAM, 0)
    try:
        one.connect(place)
        return bool(one.getsockname()[0] == text)
    except OSError:  # no way there
        return False
    finally:
        one.close()


def serve(own: socket, allowed: Iterable[str], pidfd: int, tell: Callable[[bytes], object]) -> None:
    """Serve until the process behind `pidfd` has ended; then report which hosts were refused.

    own: the listening socket. allowed: the rules, as texts. tell: writes to the launcher.
    """
    loop = Loop()
    connections = connections_beside(pidfd, loop, _MOST, _OTHERS, inside=0)
    proxy = Proxy(loop, connections, hosts.Rules(allowed))
    connections.listen(Listener(connections, own, proxy.take))
    loop.run()
    tell(_record(proxy))


def _record(proxy: Proxy) -> bytes:
    rows = [f"{count}\0{host}\0{port}\0{why}" for (host, port, why), count in proxy.refused.items()]
    return "\n".join([str(proxy.uncounted), *rows]).encode("ascii")
