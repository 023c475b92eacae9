"""The part of the child in its network: what it gives to the launcher of it.

`give_inner` runs in the child, the rest in the parent. A socket says which network namespace is
meant, with any /proc of the child, and with any ids that it has taken by then.
"""

from __future__ import annotations

import os

from pyspaces.kernel import libc
from pyspaces.kernel.libc import KernelError
from pyspaces.launch import rights
from pyspaces.launch.network import flushing, sockets

TYPE_CHECKING = False
if TYPE_CHECKING:
    from _socket import socket

    from pyspaces.features.network.values import Network
    from pyspaces.launch.inner.steps import Context

_INSIDE = "127.0.0.1"
_PROXIED = ("http_proxy", "https_proxy")
_DIRECT = "localhost,127.0.0.1,::1"


class Inside:
    """The pair of sockets between the child and the launcher, before there is a child."""

    more = 0

    def __init__(self, network: Network) -> None:
        self._network = network
        self._ours, self._theirs = rights.pair()

    def give_inner(self, context: Context) -> None:
        """Send a socket of this network, and those that listen in it. Raises KernelError."""
        made = [
            sockets.bound(_INSIDE, port.inside, port.protocol) for port in self._network.forward
        ]
        if self._network.allow_host:
            made.append(sockets.bound(_INSIDE, 0, "tcp"))
            _name_proxy_inner(context, sockets.port_of(made[-1]))
        made += self.more_inner()
        descriptors = [libc.inet_socket(), *(one.fileno() for one in made)]
        try:
            rights.send(self._theirs, b".", descriptors)
        except OSError as error:
            raise KernelError(error.errno or 0, "sendmsg") from None
        # All are close-on-exec; a function that is called instead of a command has none of them.
        for one in made:
            one.close()
        os.close(descriptors[0])
        self.close()

    def more_inner(self) -> list[socket]:
        """Return further sockets to send: as many as `more`."""
        return []

    def take(self) -> list[int]:
        """Return the descriptors that the child has sent; the first is that of its network."""
        count = 1 + len(self._network.forward) + bool(self._network.allow_host) + self.more
        return rights.take(self._ours, 1, count)[1]

    def close(self) -> None:
        """Close both ends; more than once is fine."""
        self._ours.close()
        self._theirs.close()


class Attachment(Inside):
    """The same for a program that leads out, which needs no socket that listens inside.

    forwarder: the address at which it answers for a name server on the host's loopback; None if
    that is not asked.
    """

    more = 1

    def __init__(self, network: Network, forwarder: str | None) -> None:
        super().__init__(network)
        self.forwarder = forwarder

    def more_inner(self) -> list[socket]:
        """Return one that tells which sockets there are, at the end."""
        return [flushing.opened_inner()]


def _name_proxy_inner(context: Context, port: int) -> None:
    """Tell programs of the proxy, by the variables that they read, some in lower case only.

    What the caller has said of a variable counts.
    """
    values = dict.fromkeys(_PROXIED, f"http://{_INSIDE}:{port}") | {"no_proxy": _DIRECT}
    said: set[str] = set()
    if context.plan.holds("environment"):
        changes = context.plan.environment
        said = {*changes.unset, *(name for name, _ in changes.set)}
    for name, value in values.items():
        for form in (name, name.upper()):
            if form not in said:
                context.environment[form.encode()] = value.encode()
