"""Process creation.

With `through_fork`, the only module in which a function runs on both sides of a fork. Must not know
a Plan or a message.

A single-threaded caller clones directly. A caller with threads forks first: in a raw clone of a
process with threads, locks of the C library (above all malloc's) may stay locked in the child,
while fork(2) of the C library resets them. The forked, single-threaded process then clones with
CLONE_PARENT, so that the new process is a child of the caller all the same (`through_fork`).

The same is done if something has to happen first, such as joining existing namespaces: the process
in between does it, and the caller does not change.
"""

from __future__ import annotations

import _thread
import errno
import os

from pyspaces.kernel import constants, libc, nsfs, procfs
from pyspaces.kernel.libc import KernelError
from pyspaces.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager
    from typing import NoReturn

INIT_NAME = "pyspaces-init"  # what our own process 1 is called, by which others know it
# Flags that clone(2) cannot take: its low byte is the exit signal, and it has 32 bits.
_BEYOND_CLONE = ~0xFFFFFF00
_CHILD_CRASHED = 70  # sysexits.h EX_SOFTWARE; the parent learns the truth from the channel


# Held while descriptors are open that no other child may inherit: a copy of the far end of a
# socket in an unrelated child would keep back the end-of-file for which its owner waits. A fork
# by any other thread, ours or not, waits for it.
_descriptors = _thread.RLock()
_waiting: list[_thread.LockType] = []  # a gate for each thread that waits for it, in turn
_LONGEST_WAIT = 1.0  # seconds for a gate: the turns are a courtesy, the lock alone keeps others out


class _InTurn:
    """Hold the descriptors; among several threads, the one that asked first gets them.

    A free lock goes to whoever asks first from then on, which is seldom the thread that has to be
    woken: among threads that launch all the time, one waited for two minutes. What leaves is no
    Python code: the exception of a signal handler could come before its first line, and the lock
    would be kept for good.
    """

    def __enter__(self) -> None:
        gate = _thread.allocate_lock()
        gate.acquire()
        try:
            try:
                _waiting.append(gate)
                if _waiting[0] is not gate and not gate.acquire(timeout=_LONGEST_WAIT):
                    _forget_before(gate)
                _descriptors.acquire()
            finally:
                _pass_on(gate)
        except BaseException:  # of a signal handler too, which can come once the lock is ours
            if _is_held():
                _descriptors.release()
            raise

    __exit__ = _descriptors.__exit__


def _forget_before(gate: _thread.LockType) -> None:
    """Drop those that should have had their turn: one of them was interrupted in `_pass_on`."""
    try:
        del _waiting[: _waiting.index(gate)]
    except ValueError:
        return  # a later one has dropped this one, too


def _pass_on(gate: _thread.LockType) -> None:
    """Let the next thread wait for the lock itself."""
    try:
        _waiting.remove(gate)
        _waiting[0].release()
    except (ValueError, IndexError, RuntimeError):
        return  # we were given up, nobody waits, or the next one has its turn already


_in_turn = _InTurn()


def forks_held() -> AbstractContextManager[object]:
    """Return a context in which no other thread of this process forks."""
    return _descriptors if _is_held() else _in_turn


def _is_held() -> bool:
    return _descriptors._is_owned()  # type: ignore[attr-defined, no-any-return]


def _hold() -> None:
    forks_held().__enter__()


# A child may not have the threads that hold the locks, so they are free there. After a fork no
# function of Python is called: both processes would have to copy what that takes, and a handler
# that raised in it would leave the lock held.
os.register_at_fork(before=_hold, after_in_parent=_descriptors.release)
os.register_at_fork(after_in_child=_descriptors._at_fork_reinit)  # type: ignore[attr-defined]
os.register_at_fork(after_in_child=_waiting.clear)


class Spawned(Record):
    """A new child of the caller: its pid in the caller's pid namespace, and a pidfd to own.

    told: (name, inode) of its namespaces, if it has reported them: others may not inspect it.
    """

    pid: int
    pidfd: int
    told: tuple[tuple[str, int], ...] = ()


def spawn(
    start: Callable[[], object],
    *,
    flags: int = 0,
    before: Callable[[], object] | None = None,
    deadline: float | None = None,
    cgroup: int = -1,
) -> Spawned:
    """Create a process in the new namespaces of `flags` and run `start` in it.

    flags: CLONE_NEW* bits of clone(2), without CLONE_NEWTIME. before: called first in the process
    that clones, which is then a separate, single-threaded one. deadline: when to give up on that
    process, which others may be able to stop, by the monotonic clock: KernelError ETIMEDOUT.
    cgroup: a descriptor of the cgroup in which the child starts; a kernel before 5.7 ignores it.
    Negative: that of the caller.
    Returns in the parent only; the child ends when `start` does. The pidfd is close-on-exec.
    Raises KernelError, with the call, when the kernel refuses either, and RuntimeError in a
    sub-interpreter, as os.fork() does: CPython aborts the child of one.
    """
    if not libc.is_main_interpreter():
        raise RuntimeError("a sub-interpreter cannot fork: launch from the main interpreter")
    if before is None and procfs.thread_count() == 1:
        return spawn_alone(start, flags, cgroup)
    # Not needed by a program with one thread: 0.1 ms. In the parent, and nothing is created yet.
    from pyspaces.kernel import through_fork

    def create(writing: int) -> int:
        def begin() -> None:
            os.close(writing)
            start()

        return spawn_sibling(begin, flags, cgroup)[0]

    pid, pidfd = through_fork.create_sibling(create, flags, before, deadline)
    try:
        return Spawned(pid=pid, pidfd=pidfd)
    except BaseException:  # of the handler of a signal
        os.close(pidfd)
        nsfs.kill_and_reap(pid)
        raise


def spawn_alone(start: Callable[[], object], flags: int = 0, cgroup: int = -1) -> Spawned:
    """Create a process from one that has no other thread, such as one that we have cloned.

    Does not read /proc, which may be that of another pid namespace there. Returns and raises as
    `spawn` does.
    """
    pid, pidfd = _clone(flags, constants.SIGCHLD, cgroup)
    if pid == 0:
        _run_and_exit(start)
    return Spawned(pid=pid, pidfd=pidfd)


def spawn_sibling(start: Callable[[], object], flags: int, cgroup: int = -1) -> tuple[int, int]:
    """Create a process as `spawn` does, but as a child of this one's parent: CLONE_PARENT.

    Only for a process without other threads. With CLONE_PARENT the exit signal must be 0; the
    kernel gives the sibling that of this process. Returns its pid and pidfd: right after a clone,
    to make more than that takes longer than usual. Raises KernelError.
    """
    pid, pidfd = _clone(flags | constants.CLONE_PARENT, 0, cgroup)
    if pid == 0:
        _run_and_exit(start)
    return pid, pidfd


def close_others(*kept: int) -> None:
    """Close all descriptors of this process but some: a reader of the others has to see their end.

    kept: negative numbers are left out.
    """
    last = -1
    for descriptor in sorted(kept):
        if descriptor > last + 1:  # closerange(0, 0) closes everything (seen with Python 3.11)
            os.closerange(last + 1, descriptor)
        last = max(last, descriptor)
    os.closerange(last + 1, 1 << 20)


def _clone(flags: int, exit_signal: int, cgroup: int = -1) -> tuple[int, int]:
    """Clone into new namespaces; return (pid, pidfd) in the parent, (0, -1) in the child.

    CPython's own hooks are called before and after, as by os.fork(): the child can run Python.
    Only for a process without other threads: one that waits for the GIL asks for it to be dropped,
    the child inherits the request, and obeys it before its hook has run: it waits for ever for a
    thread that it does not have (seen with 3.12, in 1 of 200 launches beside busy threads).
    """
    libc.before_fork()
    pid = -1
    try:
        pid, pidfd = _call_clone(flags, exit_signal, cgroup)
    finally:
        if pid == 0:
            libc.after_fork_child()
        else:
            libc.after_fork_parent()
    return pid, pidfd


def _call_clone(flags: int, exit_signal: int, cgroup: int) -> tuple[int, int]:
    try:
        return libc.clone3(flags, exit_signal=exit_signal, cgroup=cgroup)
    except KernelError as error:
        # ENOSYS: a kernel before 5.3, or the seccomp filter of a container that answers so
        # on purpose, because a filter cannot look into the arguments of clone3. E2BIG: a kernel
        # before 5.7, which does not know of the cgroup.
        unknown = (errno.ENOSYS, errno.E2BIG) if cgroup >= 0 else (errno.ENOSYS,)
        if error.errno not in unknown or flags & _BEYOND_CLONE:
            raise
        return libc.clone(flags, exit_signal=exit_signal)


def _run_and_exit(start: Callable[[], object]) -> NoReturn:
    """Run `start`, and end this process: no exception and no exit handler leaves this function."""
    try:
        start()
        os._exit(0)
    finally:
        os._exit(_CHILD_CRASHED)
