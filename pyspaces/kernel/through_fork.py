"""Process creation through a process in between, which is forked and has one thread.

`spawn` says when. Off the launch path of a program with one thread.
"""

from __future__ import annotations

import errno
import os
import sys
import time

from pyspaces.kernel import constants, nsfs
from pyspaces.kernel.libc import KernelError, Naming

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import NoReturn

_LONGEST_ANSWER = 8192  # bytes: a path has at most 4,096
_PATIENCE = 5.0  # seconds: for a process in between that is to be discarded
_FAILED = 70  # sysexits.h EX_SOFTWARE; the caller learns the truth from the pipe


def create_sibling(
    create: Callable[[int], int],
    flags: int,
    before: Callable[[], object] | None,
    deadline: float | None,
) -> tuple[int, int]:
    """Have a process in between create a child of this one; return its pid and a pidfd.

    create: is given a descriptor that the new process has to close, and returns its pid. flags: of
    the clone, for errors. before, deadline: as for `spawn.spawn`. Raises KernelError. No child is
    left if the handler of a signal raises: though this thread blocks signals, another one may get
    them, and the handlers run in the main thread all the same.
    """
    with Naming("pipe"):
        reading, writing = os.pipe()
    # A handler may raise right after read(2) or fork(2), whose result would be lost.
    answer = bytearray(_LONGEST_ANSWER)
    middle: int | None = None
    pidfd = -1
    try:
        try:
            with Naming("fork"):
                middle = _fork_with_threads()
            if middle == 0:
                _answer_and_exit(create, before, reading, writing)
        finally:
            os.close(writing)
        if deadline is not None:
            _wait_for_answer(reading, middle, deadline)
        # One message, not up to end-of-file: another child may hold a copy of the pipe.
        os.readv(reading, [answer])
        nsfs.reap(middle)
        middle = 0
        pid = _pid_in(answer, flags)
        pidfd = nsfs.pidfd_open(pid)
        open_end, reading = reading, -1
        os.close(open_end)
        return pid, pidfd
    except BaseException:
        if pidfd >= 0:
            os.close(pidfd)
        _discard(middle, reading, answer)
        if reading >= 0:
            os.close(reading)
        raise


def _pid_in(answer: bytearray, flags: int) -> int:
    """Return the pid that an answer tells; raise the error that it tells."""
    pid, _, number, call, path = bytes(answer).split(b"\0")[:5]
    if not pid:
        raise KernelError(errno.ECHILD, "fork", ["the process between us and the child died"])
    if int(number):
        raise KernelError(int(number), call.decode(), [hex(flags)], os.fsdecode(path) or None)
    return int(pid)


def _discard(middle: int | None, reading: int, answer: bytearray) -> None:
    """Reap the process in between, and end what it has created.

    middle: 0 if it is reaped, None if there is none, or nobody knows of it but the answer.
    """
    # It may have died without a word, and another child may hold a copy of the pipe.
    if not answer[0] and nsfs.wait_for(reading, _PATIENCE):
        os.readv(reading, [answer])
    pid, told = (int(word or b"0") for word in bytes(answer).split(b"\0")[:2])
    if middle := told if middle is None else middle:
        nsfs.reap(middle)
    if pid:
        nsfs.kill_and_reap(pid)


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
    """Create the sibling and return what tells the caller its pid and ours, or why there is none.

    The pid needs no translation: the process in the middle is in the caller's pid namespace, even
    if it has joined another one for its children.
    """
    try:
        if before:
            before()
        pid = create(writing)
    except KernelError as error:
        path = os.fsencode(error.filename or "")
        words = (0, os.getpid(), error.errno or errno.EIO, error.call.encode(), path)
    else:
        words = (pid, os.getpid(), 0, b"", b"")
    return b"%d\0%d\0%d\0%s\0%s" % words


def _wait_for_answer(reading: int, middle: int, deadline: float) -> None:
    if not nsfs.wait_for(reading, deadline - time.monotonic()):
        os.kill(middle, constants.SIGKILL)
        raise KernelError(errno.ETIMEDOUT, "clone")
