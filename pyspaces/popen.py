"""The `multiprocessing` side of a process in namespaces: what Clone and Container share.

Runs in both processes, each function in one. What CPython does around fork (it differs from
version to version) is not copied: `popen_fork.Popen._launch` itself runs on each side, with
the process already created.
"""

from __future__ import annotations

import os
import threading
from multiprocessing import popen_fork, util
from types import FunctionType

from pyspaces import signals
from pyspaces.kernel import constants, nsfs, procfs
from pyspaces.kernel.libc import KernelError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from multiprocessing.process import BaseProcess
    from typing import Any


class NamespacePopen(popen_fork.Popen):
    """A Popen whose process is created by a subclass, in `_create`.

    sentinel: a pidfd, ready when the process ends and not before, whatever its own children hold.
    """

    def __init__(self, process_obj: BaseProcess) -> None:
        self._pidfd = -1
        self._killed_for: int | None = None
        self._reaping = threading.Lock()
        super().__init__(process_obj)

    def _create(self, bootstrap: Callable[[], object]) -> tuple[int, int]:
        """Create the process, in which `bootstrap` is called last; return (pid, pidfd)."""
        raise NotImplementedError

    def _is_pid_1(self) -> bool:
        """Tell whether the process is the first of a pid namespace."""
        raise NotImplementedError

    def _launch(self, process_obj: BaseProcess) -> None:
        pipes: list[tuple[int, int]] = []
        try:
            pipes += [os.pipe()]
            pipes += [os.pipe()]
            pid, pidfd = self._create(lambda: self._play(process_obj, pid=0, pipes=pipes))
        except BaseException:
            for descriptor in (end for pipe in pipes for end in pipe):
                os.close(descriptor)
            raise
        self._play(process_obj, pid=pid, pipes=pipes)
        self._pidfd = pidfd
        self.sentinel = pidfd
        self._close_pidfd = util.Finalize(self, os.close, (pidfd,))

    def _play(
        self, process_obj: BaseProcess, *, pid: int, pipes: Sequence[tuple[int, int]]
    ) -> None:
        """Run CPython's own `_launch` on one side, as if its fork had just returned `pid`."""
        base: Any = popen_fork.Popen
        original = base._launch
        played = FunctionType(
            original.__code__, {**original.__globals__, "os": _ReplayedOs(pid, pipes)}
        )
        played(self, process_obj)

    def poll(self, flag: int = os.WNOHANG) -> int | None:
        """Return the exit code (minus the signal), or None while the process runs.

        flag: options of waitpid(2); 0 waits for ever.
        """
        if self.returncode is None and not flag & os.WNOHANG:
            nsfs.has_ended(self._pidfd, timeout=None)
        # `multiprocessing` polls every child at each start, in whatever thread. Two at once: one
        # reaps, and the other would find no child and take it for one that still runs.
        with self._reaping:
            code = super().poll(flag)
            if code == -constants.SIGKILL and self._killed_for is not None:
                self.returncode = -self._killed_for
            return self.returncode

    def _send_signal(self, sig: int) -> None:
        """Send a signal; one that pid 1 would never notice ends it, as it would any other."""
        if self.returncode is not None:
            return
        signals.send(self._pidfd, sig)
        if sig not in signals.ENDING or not self._is_pid_1():
            return
        # Once more after a moment: while Python starts a program it blocks every signal, and what
        # came meanwhile is dropped when it unblocks them.
        for pause in (0, 0.02, 0.1):
            if nsfs.has_ended(self._pidfd, timeout=pause):
                return
            if self._is_lost(sig):
                self._killed_for = sig
                signals.send(self._pidfd, constants.SIGKILL)
                return

    def _is_lost(self, sig: int) -> bool:
        try:
            process = procfs.pid_of_pidfd(self._pidfd)
            return process > 0 and signals.is_lost_on(process, sig)
        except KernelError:
            return False

    def close(self) -> None:
        """Release the descriptors; the process, if it runs, goes on."""
        super().close()
        self._close_pidfd()
        self._pidfd = -1

    @staticmethod
    def thread_is_spawning() -> bool:
        """Return False: no start of a process by a thread has to be waited for."""
        return False

    def _end_now(self) -> None:
        """Kill and reap a process whose start has failed."""
        pidfd, self._pidfd = self._pidfd, -1
        signals.send(pidfd, constants.SIGKILL)
        nsfs.has_ended(pidfd, timeout=None)
        os.waitpid(self.pid, 0)
        os.close(pidfd)


class _ReplayedOs:
    """The module `os`, but for a fork and two pipes that have happened already."""

    def __init__(self, pid: int, pipes: Sequence[tuple[int, int]]) -> None:
        self._pid = pid
        self._pipes = iter(pipes)

    def __getattr__(self, name: str) -> Any:
        return getattr(os, name)

    def fork(self) -> int:
        return self._pid

    def pipe(self) -> tuple[int, int]:
        return next(self._pipes)
