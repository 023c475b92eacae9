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

import errno
import marshal
import os
import stat
import sys

from pyspaces.launch import rights
from pyspaces.plan.plan import VERSION
from pyspaces.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    import _socket
    from typing import Any

ASK, CREATED, REFUSED, UNABLE = b"A", b"C", b"E", b"U"
# Where a server finds its end, and a pidfd of its caller.
SOCKET, CALLER = 3, 4
# Bytes: of a message, whose longest is a hello with some long paths of cgroups; and of a request,
# whose environment and words the kernel limits to a quarter of the stack: execve(2).
LARGEST, LARGEST_REQUEST = 1 << 16, 1 << 26
# The kernel sends 253 at once: SCM_MAX_FD of include/net/scm.h.
MOST_DESCRIPTORS = 240


class Malformed(Exception):
    """An invalid message: neither side sends such."""


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


def receive(socket: _socket.socket) -> tuple[bytes, list[int]]:
    """Receive a message and its descriptors, which are close-on-exec; b"" is end-of-file.

    Raises Malformed, with nothing left open, and OSError.
    """
    data, descriptors, whole = rights.receive(socket, LARGEST, MOST_DESCRIPTORS + 16)
    if not whole or len(descriptors) > MOST_DESCRIPTORS:
        rights.close(descriptors)
        raise Malformed("a message that is too long")
    return data, descriptors


def packed(record: Record) -> bytes:
    """Return the fields of a record as bytes. Raises ValueError for what is not plain data."""
    return marshal.dumps(tuple(getattr(record, name) for name in record._fields))


def _unpacked(data: bytes, record: type[Record]) -> dict[str, Any]:
    # Both sides are one program, and nobody else has the socket.
    try:
        values = marshal.loads(data)  # noqa: S302
        found = dict(zip(record._fields, values, strict=True))
    except (ValueError, TypeError, EOFError) as error:
        raise Malformed(str(error)) from None
    # By the first word of each annotation, such as dict[str, Any]: a bool is no int here.
    kinds = {name: str(kind).partition("[")[0] for name, kind in record.__annotations__.items()}
    wrong = [name for name, value in found.items() if type(value).__name__ != kinds[name]]
    if wrong:
        raise Malformed(f"of another type: {', '.join(wrong)}")
    return found


def hello_of(data: bytes) -> Hello:
    """Read a hello. Raises Malformed."""
    return Hello(**_unpacked(data, Hello))


def request_of(descriptor: int) -> Request:
    """Read a request from a file in memory. Raises Malformed."""
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode) or status.st_size > LARGEST_REQUEST:
        raise Malformed("a request that is not a file, or too long")
    return Request(**_unpacked(os.pread(descriptor, status.st_size, 0), Request))


def memory_of(request: Request) -> int:
    """Return a descriptor of a file in memory with a request. Raises OSError and ValueError."""
    data = packed(request)
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
