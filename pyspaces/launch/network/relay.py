"""The relay: a process in one network that carries what arrives at sockets of another.

A socket stays in the network namespace in which it was made: network_namespaces(7). The relay of
published ports is in the network of the command, and accepts connections of the host; that of
forwarded ports is the other way round.
"""

from __future__ import annotations

from pyspaces.launch.network.loop import Loop
from pyspaces.launch.network.tcp import Listener, carrier, connections_beside, places_of
from pyspaces.launch.network.udp import Datagrams

TYPE_CHECKING = False
if TYPE_CHECKING:
    from _socket import socket
    from collections.abc import Sequence

    # A socket, its protocol, and the addresses and the port where it leads; the first that answers
    # counts.
    Route = tuple[socket, str, Sequence[str], int]

# So many connections at most; each takes two descriptors.
_MOST = 4096
# What else there may be: ports, peers of UDP ports, our own.
_OTHERS = 1024


def serve(routes: Sequence[Route], pidfd: int, *, inside: int) -> None:
    """Carry connections until the process behind `pidfd` has ended.

    inside: as for Connections.
    """
    loop = Loop()
    connections = connections_beside(pidfd, loop, _MOST, _OTHERS, inside=inside)
    for own, protocol, addresses, port in routes:
        places = places_of(addresses, port)
        if protocol == "udp":
            Datagrams(loop, own, places[0])
        else:
            connections.listen(Listener(connections, own, carrier(connections, places)))
    loop.run()
