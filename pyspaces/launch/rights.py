"""Descriptors that are sent from one process to another: SCM_RIGHTS of unix(7).

Pure, but for the calls; runs in any process. Loaded only if there are some to send.
"""

from __future__ import annotations

import _socket
import errno
import os
import struct

from pyspaces.kernel.libc import KernelError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from _socket import socket
    from collections.abc import Iterable, Sequence

_WORD = struct.calcsize("i")


def pair() -> tuple[socket, socket]:
    """Return two connected sockets, close-on-exec: a message arrives whole, or not at all."""
    kind = _socket.SOCK_SEQPACKET | _socket.SOCK_CLOEXEC
    return _socket.socketpair(_socket.AF_UNIX, kind)


def send(own: socket, data: bytes, descriptors: Sequence[int] = ()) -> None:
    """Send a message with descriptors, at once or not at all. Raises OSError."""
    ancillary = []
    if descriptors:
        rights = struct.pack(f"{len(descriptors)}i", *descriptors)
        ancillary = [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, rights)]
    own.sendmsg([data], ancillary, _socket.MSG_NOSIGNAL | _socket.MSG_DONTWAIT)


def receive(own: socket, size: int, most: int, flags: int = 0) -> tuple[bytes, list[int], bool]:
    """Wait for a message; return it, its descriptors, and whether all of it has arrived.

    size: the bytes of the longest message. most: descriptors. The descriptors are close-on-exec.
    Raises OSError.
    """
    room = _socket.CMSG_SPACE(_WORD * most)
    data, ancillary, got, _ = own.recvmsg(size, room, flags | _socket.MSG_CMSG_CLOEXEC)
    found: list[int] = []
    for level, kind, rights in ancillary:
        if (level, kind) == (_socket.SOL_SOCKET, _socket.SCM_RIGHTS):
            count = len(rights) // _WORD
            found += struct.unpack(f"{count}i", rights[: count * _WORD])
    return data, found, not got & (_socket.MSG_TRUNC | _socket.MSG_CTRUNC)


def take(own: socket, size: int, count: int) -> tuple[bytes, list[int]]:
    """Return a message that is there, with `count` descriptors. Raises OSError and KernelError."""
    data, found, _ = receive(own, size, count, _socket.MSG_DONTWAIT)
    if len(found) < count:  # the kernel leaves out what there is no room for
        close(found)
        raise KernelError(errno.EMFILE, "recvmsg")
    return data, found


def close(descriptors: Iterable[int]) -> None:
    """Close descriptors that are open."""
    for descriptor in descriptors:
        os.close(descriptor)
