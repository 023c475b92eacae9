"""The messages between the caller of a launch and its server.

One seqpacket socket pair without a name, so that a message arrives whole or not at all and nobody
else can send one; descriptors go along by SCM_RIGHTS. What has no limit of its own, such as an
environment, is in a file in memory. Pure, but for the two calls.

    caller                              server
      | <-- hello: Hello, its pidfd ----- |  once
      | --- ASK, descriptors -----------> |  Request, in the first one
      | <-- CREATED pid, its pidfd ------ |
      | <-- REFUSED errno, call, path --- |  by the kernel: a fork would be, too
      | <-- UNABLE ---------------------- |  this one is for a fork
      |                                   |
      | ==== end-of-file ===============> |  it ends

Anything else ends the dialogue: the server ends, and the caller ends the server.
"""

from __future__ import annotations

import _socket
import errno
import marshal
import os
import stat
import struct
import sys

from pyspaces.plan.plan import VERSION
from pyspaces.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

ASK, CREATED, REFUSED, UNABLE = b"A", b"C", b"E", b"U"
# Where a server finds its end, and a pidfd of its caller.
SOCKET, CALLER = 3, 4
# Bytes: of a message, whose longest is a hello with some long paths of cgroups; and of a request,
# whose environment and words the kernel limits to a quarter of the stack: execve(2).
LARGEST, LARGEST_REQUEST = 1 << 16, 1 << 26
# The kernel sends 253 at once: SCM_MAX_FD of include/net/scm.h.
MOST_DESCRIPTORS = 240
_WORD = struct.calcsize("i")


class Malformed(Exception):
    """A message that no side of ours sends."""


class Hello(Record):
    """What a server says first: its program, which has to be the caller's, and its facts."""

    program: tuple[int, int]
    facts: dict[str, str | None]


class Request(Record):
    """One launch.

    plan: as `Plan.to_data` gives it. variables: the environment, before the plan changes it. mask,
    ignored: of signals. handed: the program to execute and the process group to join, if they are
    others than those of the plan and the caller. umask: of the command. held: whether the child
    waits before exec. flags: of its creation. targets: the numbers that the descriptors behind
    `own` get in the command. own: how many come before them: this request, the child's end of the
    channel, the working directory, and, if there is to be a process 1 of ours, its pipe.
    """

    plan: dict[str, Any]
    variables: dict[bytes, bytes]
    mask: tuple[int, ...]
    ignored: tuple[int, ...]
    handed: tuple[str | None, int | None]
    umask: int
    held: bool
    flags: int
    targets: tuple[int, ...]
    own: int


def program() -> tuple[int, int]:
    """Return the versions of plans and of the interpreter, which both sides have to share."""
    return VERSION, sys.hexversion


def send(socket: _socket.socket, data: bytes, descriptors: Sequence[int]) -> None:
    """Send a message at once, or raise OSError: the other side is the only one to have sent."""
    ancillary = []
    if descriptors:
        rights = struct.pack(f"{len(descriptors)}i", *descriptors)
        ancillary = [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, rights)]
    socket.sendmsg([data], ancillary, _socket.MSG_NOSIGNAL | _socket.MSG_DONTWAIT)


def receive(socket: _socket.socket) -> tuple[bytes, list[int]]:
    """Receive a message and its descriptors, which are close-on-exec; b"" is end-of-file.

    Raises Malformed, with nothing left open, and OSError.
    """
    room = _socket.CMSG_SPACE(_WORD * (MOST_DESCRIPTORS + 16))
    data, ancillary, flags, _ = socket.recvmsg(LARGEST, room, _socket.MSG_CMSG_CLOEXEC)
    descriptors: list[int] = []
    for level, kind, rights in ancillary:
        if (level, kind) == (_socket.SOL_SOCKET, _socket.SCM_RIGHTS):
            count = len(rights) // _WORD
            descriptors += struct.unpack(f"{count}i", rights[: count * _WORD])
    if flags & (_socket.MSG_TRUNC | _socket.MSG_CTRUNC) or len(descriptors) > MOST_DESCRIPTORS:
        close(descriptors)
        raise Malformed("a message that is too long")
    return data, descriptors


def close(descriptors: Sequence[int]) -> None:
    """Close descriptors that are open."""
    for descriptor in descriptors:
        os.close(descriptor)


# How each is written: the types of its fields, in their order.
_HELLO = {"program": tuple, "facts": dict}
_REQUEST = {
    "plan": dict,
    "variables": dict,
    "mask": tuple,
    "ignored": tuple,
    "handed": tuple,
    "umask": int,
    "held": bool,
    "flags": int,
    "targets": tuple,
    "own": int,
}


def bytes_of_hello(hello: Hello) -> bytes:
    """Return a hello as bytes."""
    return _packed(hello, _HELLO)


def _packed(record: Record, kinds: Mapping[str, type]) -> bytes:
    """Return a record as bytes. Raises ValueError for what is not plain data."""
    return marshal.dumps(tuple(getattr(record, name) for name in kinds))


def _unpacked(data: bytes, kinds: Mapping[str, type]) -> dict[str, Any]:
    # Both sides are one program, and nobody else has the socket.
    try:
        values = marshal.loads(data)  # noqa: S302
        found = dict(zip(kinds, values, strict=True))
    except (ValueError, TypeError, EOFError) as error:
        raise Malformed(str(error)) from None
    wrong = [name for name, kind in kinds.items() if type(found[name]) is not kind]
    if wrong:
        raise Malformed(f"of another type: {', '.join(wrong)}")
    return found


def hello_of(data: bytes) -> Hello:
    """Read a hello. Raises Malformed."""
    return Hello(**_unpacked(data, _HELLO))


def request_of(descriptor: int) -> Request:
    """Read a request from a file in memory. Raises Malformed."""
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode) or status.st_size > LARGEST_REQUEST:
        raise Malformed("a request that is no file, or too long")
    return Request(**_unpacked(os.pread(descriptor, status.st_size, 0), _REQUEST))


def memory_of(request: Request) -> int:
    """Return a descriptor of a file in memory with a request. Raises OSError and ValueError."""
    data = _packed(request, _REQUEST)
    if len(data) > LARGEST_REQUEST:
        raise OSError(errno.E2BIG, "a request that is too long")
    descriptor = os.memfd_create("pyspaces-launch")
    try:
        if os.write(descriptor, data) != len(data):
            raise OSError(errno.ENOSPC, "no memory for a request")
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor
