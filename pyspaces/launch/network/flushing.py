"""What a command has sent over TCP and nobody has confirmed yet, when it has ended: sock_diag(7).

A socket stays in the network namespace in which it was made, so one that asks for others, made
there, can be asked from anywhere. It also keeps the namespace, and what is sent from there, when
the last process has ended.

What is named `_inner` runs in the child; the rest in the parent, or in the process beside pasta or
slirp4netns.
"""

from __future__ import annotations

import _socket
import struct
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from _socket import socket

# linux/netlink.h, linux/sock_diag.h, linux/inet_diag.h, include/net/tcp_states.h
_NETLINK_SOCK_DIAG = 4
_SOCK_DIAG_BY_FAMILY = 20
_NLMSG_ERROR, _NLMSG_DONE = 2, 3
_NLM_F_REQUEST_DUMP = 0x301
_FIN_WAIT1, _LAST_ACK, _CLOSING = 4, 9, 11
# Closed by its process, with something that is not confirmed: its data, or the end of it.
_UNCONFIRMED = 1 << _FIN_WAIT1 | 1 << _LAST_ACK | 1 << _CLOSING
_HEAD = struct.Struct("=IHHII")  # struct nlmsghdr
_REQUEST = struct.Struct("=BBBBI48x")  # struct inet_diag_req_v2
_LONGEST_ANSWER = 65536
_MOST = 2.0  # seconds that are waited for a peer, which may be gone
_LOOK = 0.005
_PATIENCE = 1.0  # for an answer of the kernel, which comes at once


def opened_inner() -> socket:
    """Return a socket that can be asked for the sockets of this network namespace.

    If the kernel has none, another one, which answers nothing.
    """
    try:
        return _socket.socket(_socket.AF_NETLINK, _socket.SOCK_RAW, _NETLINK_SOCK_DIAG)
    except OSError:
        return _socket.socket(_socket.AF_INET, _socket.SOCK_DGRAM, 0)


def wait(descriptor: int) -> None:
    """Wait until all is confirmed that closed sockets have sent, but not for long.

    descriptor: of such a socket, which is closed.
    """
    own = _socket.socket(_socket.AF_NETLINK, _socket.SOCK_RAW, _NETLINK_SOCK_DIAG, descriptor)
    own.settimeout(_PATIENCE)
    until = time.monotonic() + _MOST
    try:
        while time.monotonic() < until and any(map(_has_any, (own, own), _FAMILIES)):
            time.sleep(_LOOK)
    except OSError:  # this kernel does not tell
        return
    finally:
        own.close()


_FAMILIES = (_socket.AF_INET, _socket.AF_INET6)


def _has_any(own: socket, family: int) -> bool:
    """Return whether a TCP socket is in one of these states. Raises OSError."""
    body = _REQUEST.pack(family, _socket.IPPROTO_TCP, 0, 0, _UNCONFIRMED)
    size = _HEAD.size + len(body)
    own.send(_HEAD.pack(size, _SOCK_DIAG_BY_FAMILY, _NLM_F_REQUEST_DUMP, 0, 0) + body)
    found = False
    while True:
        data = own.recv(_LONGEST_ANSWER)
        while len(data) >= _HEAD.size:
            length, kind, *_ = _HEAD.unpack_from(data)
            if kind in (_NLMSG_DONE, _NLMSG_ERROR) or length < _HEAD.size:
                return found
            found = True
            data = data[(length + 3) & ~3 :]
