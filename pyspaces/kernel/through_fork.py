"""Process creation through a process in between, which is forked and has one thread.

`spawn` says when. Off the launch path of a program with one thread.
"""

from __future__ import annotations

import errno
import os
import select
import sys
import time

from pyspaces.kernel import constants, nsfs
from pyspaces.kernel.libc import KernelError, Naming

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import NoReturn

_LONGEST_ANSWER = 8192  # bytes: a path has at most 4,096
_FAILED = 70  # sysexits.h EX_SOFTWARE; the caller learns the truth from the pipe


def pid_of(
    create: Callable[[int], int],
    flags: int,
    before: Callable[[], object] | None,
    deadline: float | None,
) -> int:
    """Return the pid of what `create` creates in a process in between, as a child of this one.

    create: is given a descriptor that the new process has to close, and returns its pid. flags: of
    the clone, for errors. before, deadline: as for `spawn.spawn`. Raises KernelError.
    """
    with Naming("pipe"):
        reading, writing = os.pipe()
    try:
        with Naming("fork"):
            middle = _fork_with_threads()
    except BaseException:
        os.close(reading)
        os.close(writing)
        raise
    if middle == 0:
        _answer_and_exit(create, before, reading, writing)
    os.close(writing)
    try:
        if deadline is not None:
            _wait_for_answer(reading, middle, deadline)
        # One message, not up to end-of-file: another child may hold a copy of the pipe.
        answer = os.read(reading, _LONGEST_ANSWER)
    finally:
        os.close(reading)
        nsfs.reap(middle)
    if not answer:
        raise KernelError(errno.ECHILD, "fork", ["the process between us and the child died"])
    pid, number, call, path = answer.split(b"\0")
    if int(number):
        raise KernelError(int(number), call.decode(), [hex(flags)], os.fsdecode(path) or None)
    return int(pid)


def _fork_with_threads() -> int:
    """Fork a process that has threads: os.fork() calls hooks and fork(2) without a gap.

    Since 3.12 it warns that the child may hang. Ours runs nothing that waits for a lock, and a
    program that makes errors of warnings must not be left with a child that it does not know of.
    """
    if sys.version_info >= (3, 12):
        import warnings

        warnings.filterwarnings("ignore", ".*multi-threaded.*fork", DeprecationWarning, __name__)
    return os.fork()


def _answer_and_exit(
    create: Callable[[int], int], before: Callable[[], object] | None, reading: int, writing: int
) -> NoReturn:
    """Be the process in the middle: no exception and no exit handler leaves this function."""
    try:
        os.close(reading)
        os.write(writing, _answer(create, before, writing))
        os._exit(0)
    finally:
        os._exit(_FAILED)


def _answer(
    create: Callable[[int], int], before: Callable[[], object] | None, writing: int
) -> bytes:
    """Create the sibling and return what tells the caller its pid, or why there is none.

    The pid needs no translation: the process in the middle is in the caller's pid namespace, even
    if it has joined another one for its children.
    """
    try:
        if before:
            before()
        pid = create(writing)
    except KernelError as error:
        path = os.fsencode(error.filename or "")
        return b"0\0%d\0%s\0%s" % (error.errno or errno.EIO, error.call.encode(), path)
    return b"\0".join((b"%d" % pid, b"0", b"", b""))


def _wait_for_answer(reading: int, middle: int, deadline: float) -> None:
    poller = select.poll()
    poller.register(reading, select.POLLIN)
    if not poller.poll(max(0.0, deadline - time.monotonic()) * 1000):
        os.kill(middle, constants.SIGKILL)
        raise KernelError(errno.ETIMEDOUT, "clone")
