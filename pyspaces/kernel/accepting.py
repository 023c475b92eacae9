"""A socket that accepts connections and can make none: a filter of what arrives there, socket(7).

Runs in any process. Loaded only for sockets that a command is given. A socket stays in the network
in which it was made: who holds one that listens can end that by connect(2) with AF_UNSPEC, and
connect it to anything there; so it is with those that it accepts.

A TCP socket takes the filter of root alone: without CAP_NET_ADMIN in its network, the kernel
refuses it (seen with Linux 6.18), while sockets of other kinds take one of anybody.
"""

from __future__ import annotations

import _socket
import array
import struct

from pyspaces.kernel import bpf
from pyspaces.kernel.libc import KernelError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from _socket import socket

_ATTACH_FILTER, _LOCK_FILTER = 26, 44  # SO_* of include/uapi/asm-generic/socket.h
_DROPPED, _WHOLE = 0, 0xFFFFFFFF
# Of a TCP header (RFC 9293): the places of the sequence number and of the flags, and these.
_SEQUENCE, _FLAGS = 4, 13
_SYN, _RST, _ACK = 0x02, 0x04, 0x10
# Dropped is what answers the first packet of a connection that is made, be it accepted or refused:
# a port that is open looks like any other. A reset of a connection that is there has its number.
_PROGRAM = bpf.assembled(
    (
        (bpf.LOAD_BYTE, 0, 0, _FLAGS),
        (bpf.ANY_BIT, 2, 0, _RST),
        (bpf.AND, 0, 0, _SYN | _ACK),
        (bpf.EQUAL, 2, 3, _SYN | _ACK),
        (bpf.LOAD_WORD, 0, 0, _SEQUENCE),
        (bpf.EQUAL, 0, 1, 0),
        (bpf.RETURN, 0, 0, _DROPPED),
        (bpf.RETURN, 0, 0, _WHOLE),
    )
)


def let_accept_only(own: socket) -> None:
    """Keep a TCP socket, and those that it accepts, from ever being connected. Raises KernelError.

    They inherit the filter, and nobody who holds one can take it away. Does nothing for a caller
    who may not filter.
    """
    code = array.array("B", _PROGRAM)
    head = struct.pack("HP", len(_PROGRAM) // bpf.SIZE, code.buffer_info()[0])  # struct sock_fprog
    try:
        own.setsockopt(_socket.SOL_SOCKET, _ATTACH_FILTER, head)
        own.setsockopt(_socket.SOL_SOCKET, _LOCK_FILTER, 1)
    except PermissionError:
        return
    except OSError as error:
        raise KernelError(error.errno or 0, "setsockopt", ["SO_ATTACH_FILTER"]) from None
