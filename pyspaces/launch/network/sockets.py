"""Listening and bound sockets for ports, with errors that name the port.

Runs where the sockets are to be.
"""

from __future__ import annotations

import _socket

from pyspaces.kernel.libc import KernelError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from _socket import socket

_BACKLOG = 1024  # net.core.somaxconn is the least of these


def bound(address: str, port: int, protocol: str) -> socket:
    """Return a socket that is bound to a port, and listens if it is a TCP port.

    Raises KernelError naming the port.
    """
    family = _socket.AF_INET6 if ":" in address else _socket.AF_INET
    kind = _socket.SOCK_DGRAM if protocol == "udp" else _socket.SOCK_STREAM
    own = None
    call = "socket"
    try:
        own = _socket.socket(family, kind, 0)
        if protocol != "udp":
            # What an earlier launch has left in TIME_WAIT does not matter.
            own.setsockopt(_socket.SOL_SOCKET, _socket.SO_REUSEADDR, 1)
        if family == _socket.AF_INET6:
            # So that 0.0.0.0 and [::] can be published one beside the other.
            own.setsockopt(_socket.IPPROTO_IPV6, _socket.IPV6_V6ONLY, 1)
        call = "bind"
        own.bind((address, port))
        if protocol != "udp":
            call = "listen"  # if another socket, bound to the same, listens by now
            own.listen(_BACKLOG)
    except OSError as error:
        if own:
            own.close()
        raise KernelError(error.errno or 0, call, [], place(address, port, protocol)) from None
    return own


def place(address: str, port: int, protocol: str) -> str:
    """Return a port as people read it, such as `127.0.0.1:8080/udp`."""
    shown = f"[{address}]" if ":" in address else address
    return f"{shown}:{port}" + ("/udp" if protocol == "udp" else "")


def port_of(own: socket) -> int:
    """Return the port that a socket is bound to."""
    return int(own.getsockname()[1])
