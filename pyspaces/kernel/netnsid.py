"""The ids that one network namespace has assigned to others: RTM_GETNSID of rtnetlink(7).

Runs in any process. Not on the launch path: it loads `socket`.
"""

from __future__ import annotations

import contextlib
import socket
import struct

from pyspaces.kernel import constants

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_NLMSGHDR = struct.Struct("=IHHII")
# struct rtgenmsg, one byte, padded to four; then attributes: length, type, and four bytes here.
_RTGENMSG = 4
_ATTRIBUTE = struct.Struct("=HHi")


@contextlib.contextmanager
def asking() -> Iterator[Callable[[int], int | None]]:
    """Yield a function that returns the id of the network namespace behind a descriptor, or None.

    The caller's own network namespace answers, through a netlink socket.
    """
    try:
        opened = socket.socket(
            socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, constants.NETLINK_ROUTE
        )
    except OSError:  # a seccomp filter, or a kernel without netlink: ids are unknown
        yield lambda descriptor: None
        return
    with opened:
        yield lambda descriptor: _ask(opened, descriptor)


def _ask(opened: socket.socket, descriptor: int) -> int | None:
    attribute = _ATTRIBUTE.pack(_ATTRIBUTE.size, constants.NETNSA_FD, descriptor)
    size = _NLMSGHDR.size + _RTGENMSG + len(attribute)
    header = _NLMSGHDR.pack(size, constants.RTM_GETNSID, constants.NLM_F_REQUEST, 1, 0)
    try:
        opened.send(header + bytes(_RTGENMSG) + attribute)
        return _id_of(opened.recv(4096))
    except OSError:
        return None


def _id_of(answer: bytes) -> int | None:
    """Return the id in an answer; the kernel answers -1 if none was assigned."""
    if _NLMSGHDR.unpack_from(answer)[1] != constants.RTM_NEWNSID:
        return None
    at = _NLMSGHDR.size + _RTGENMSG
    while at + _ATTRIBUTE.size <= len(answer):
        length, kind, value = _ATTRIBUTE.unpack_from(answer, at)
        if kind == constants.NETNSA_NSID:
            return value if value >= 0 else None
        at += max(4, (length + 3) & ~3)
    return None
