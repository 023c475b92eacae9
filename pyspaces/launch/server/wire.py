"""The messages between the caller of a launch and its server.

One seqpacket socket pair without a name, so that a message arrives whole or not at all and nobody
else can send one; descriptors go along by SCM_RIGHTS. A request that is larger than a message, as
an environment can be, is in a file in memory. Pure, but for the two calls.

    caller                              server
      | <-- hello: Hello, its pidfd ----- |  once
      | --- ASK Asked, descriptors -----> |  ASK alone: the first of them is a file with it
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
from pyspaces.plan.plan import VERSION, Plan
from pyspaces.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    import _socket
    from typing import Any

    # What ASK carries: a Request, packed; the words of the plan's command; the program to execute,
    # and the process group to join, if they are others than those of the plan and the caller.
    Asked = tuple[bytes, tuple[str, ...], tuple[str | None, int | None]]

ASK, CREATED, REFUSED, UNABLE = b"A", b"C", b"E", b"U"
# Where a server finds its end, and a pidfd of its caller.
SOCKET, CALLER = 3, 4
# Bytes: of a message, whose longest is a hello with some long paths of cgroups; of a request that
# is in one, far below what a socket takes (net.core.wmem_default, some 200,000: where that is less
# than this, such a launch forks); and of any request, whose environment and words the kernel limits
# to a quarter of the stack: execve(2).
LARGEST, LARGEST_SENT, LARGEST_REQUEST = 1 << 16, 1 << 15, 1 << 26
# The kernel sends 253 at once: SCM_MAX_FD of include/net/scm.h.
MOST_DESCRIPTORS = 240


class Malformed(Exception):
    """An invalid message: neither side sends such."""


class Hello(Record):
    """What a server says first: its program, which has to be the caller's, and its facts."""

    program: tuple[int, int]
    facts: dict[str, str | None]


class Request(Record):
    """One launch but for its command: programs launch the same way again and again.

    plan: without its command, as `data_of` packs it, since the rest changes more often. variables:
    the environment, before the plan changes it. mask, ignored: of signals. umask: of the command.
    held: whether the child waits before exec. flags: of its creation. targets: the numbers that the
    descriptors behind `own` get in the command. own: how many come before them: the child's end of
    the channel, the working directory, and, if there is to be a process 1 of ours, its pipe.
    """

    plan: bytes
    variables: dict[bytes, bytes]
    mask: tuple[int, ...]
    ignored: tuple[int, ...]
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


def packed_asked(asked: Asked) -> bytes:
    """Return what ASK carries. Raises ValueError for what is not plain data."""
    return marshal.dumps(asked)


# By the first word of each annotation, such as dict[bytes, bytes]: a bool is no int here.
_KINDS: dict[type[Record], tuple[str, ...]] = {
    record: tuple([str(kind).partition("[")[0] for kind in record.__annotations__.values()])
    for record in (Hello, Request)
}


def _unpacked(data: bytes, record: type[Record]) -> dict[str, Any]:
    # Both sides are one program, and nobody else has the socket.
    try:
        values = marshal.loads(data)  # noqa: S302
        found = dict(zip(record._fields, values, strict=True))
    except (ValueError, TypeError, EOFError) as error:
        raise Malformed(str(error)) from None
    if tuple([type(value).__name__ for value in values]) != _KINDS[record]:
        raise Malformed("of another type")
    return found


def data_of(plan: Plan) -> bytes:
    """Return a plan without its command, for a request."""
    data = plan.to_data(whole=False)
    del data["command"]
    return marshal.dumps(data)


def plan_of(data: bytes, command: tuple[str, ...]) -> Plan:
    """Return the plan that `data_of` has packed, with a command. Raises Malformed."""
    try:
        fields = marshal.loads(data)  # noqa: S302 - as above
        return Plan.from_data({**fields, "command": list(command)})
    except (ValueError, TypeError, EOFError) as error:
        raise Malformed(str(error)) from None


def hello_of(data: bytes) -> Hello:
    """Read a hello. Raises Malformed."""
    return Hello(**_unpacked(data, Hello))


def asked_of(data: bytes, descriptors: list[int]) -> tuple[Asked, list[int]]:
    """Read a message that asks; return what it carries, and the descriptors that it is about.

    Raises Malformed, and OSError.
    """
    body, first = data[1:], 0
    if not body and descriptors:
        body, first = _in_memory(descriptors[0]), 1
    try:
        request, command, handed = marshal.loads(body)  # noqa: S302 - as above
        program, group = handed
    except (ValueError, TypeError, EOFError) as error:
        raise Malformed(str(error)) from None
    kinds = type(request), type(command), type(handed)
    if data[:1] != ASK or kinds != (bytes, tuple, tuple):
        raise Malformed(repr(data[:1]))
    return (request, command, (program, group)), descriptors[first:]


def request_of(data: bytes) -> Request:
    """Read a request. Raises Malformed."""
    request = Request(**_unpacked(data, Request))
    if request.own not in (2, 3):
        raise Malformed("the number of its own descriptors")
    return request


def _in_memory(descriptor: int) -> bytes:
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode) or status.st_size > LARGEST_REQUEST:
        raise Malformed("a request that is not a file, or too long")
    return os.pread(descriptor, status.st_size, 0)


def memory_of(data: bytes) -> int:
    """Return a descriptor of a file in memory with a request. Raises OSError."""
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
