"""The Popen of `multiprocessing` for processes in namespaces, which Clone and Container share.

Runs in both processes, each function in one. What CPython does around fork, which differs between
versions, is not copied: `popen_fork.Popen._launch` itself runs on each side, with the process
already created.
"""

from __future__ import annotations

import os
import threading
import time
from multiprocessing import popen_fork, util
from types import FunctionType

from pyspaces.kernel import constants, nsfs
from pyspaces.launch import signals
from pyspaces.launch.outer.process_1 import Process1

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from multiprocessing.process import BaseProcess
    from typing import Any

# How long, in seconds, `terminate` waits for a process 1 that blocks the signal.
_LOOKING = 0.25
_LOST = 255  # the exit code of a process whose own is not known


class NamespacePopen(popen_fork.Popen):
    """A Popen whose process is created by a subclass, in `_create`.

    sentinel: a pidfd, which is ready when the process itself ends, not when its children do.
    """

    def __init__(self, process_obj: BaseProcess) -> None:
        self._pidfd = -1
        self._process_1: Process1 | None = None
        self._reaping = threading.RLock()
        self._is_reaping = False
        super().__init__(process_obj)

    def _create(self, bootstrap: Callable[[], object]) -> tuple[int, int]:
        """Create a process that calls `bootstrap`; return (pid, pidfd)."""
        raise NotImplementedError

    def _is_pid_1(self) -> bool:
        """Return whether the process is process 1 of a pid namespace."""
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

        The code is 255 if something else has reaped the process, as with the method forkserver.
        flag: options of waitpid(2); 0 waits forever.
        """
        if self.returncode is None and not flag & os.WNOHANG:
            while not nsfs.has_ended(self._pidfd, timeout=self._pause()):
                self._look_again()
        self._look_again()
        # `multiprocessing` polls all children at each start, in any thread. Of two at once, one
        # reaps the child, and the other finds none and would take it for still running. So would a
        # handler of a signal, such as SIGCHLD, that comes in the middle of this.
        with self._reaping:
            if self.returncode is None and not self._is_reaping:
                try:
                    self._is_reaping = True
                    self._reap(flag)
                finally:
                    self._is_reaping = False
            return self.returncode

    def _reap(self, flag: int) -> None:
        has_ended = self._pidfd >= 0 and nsfs.has_ended(self._pidfd, timeout=0)
        if (code := super().poll(flag)) is not None:
            self.returncode = self._settled(code)
        elif has_ended:  # SIGCHLD is ignored, or something else has waited for it
            self.returncode = self._settled(_LOST)

    def _settled(self, code: int) -> int:
        """Return the exit code of a process that was reaped with `code`."""
        if code == -constants.SIGKILL and self._process_1 and self._process_1.killed_for:
            return -self._process_1.killed_for
        return code

    def _send_signal(self, sig: int) -> None:
        """Send a signal, and kill a process 1 for which the kernel discards the signal."""
        if self.returncode is not None:
            return
        if not self._is_pid_1():
            signals.send(self._pidfd, sig)
            return
        with self._reaping:
            if self._process_1 is None:
                self._process_1 = Process1(self._pidfd)
            self._process_1.send(sig)
        # If it blocks the signal, that is decided later, usually soon; `poll` checks again.
        limit = time.monotonic() + _LOOKING
        while (pause := self._pause()) is not None and time.monotonic() < limit:
            if nsfs.has_ended(self._pidfd, timeout=pause):
                return
            self._look_again()

    def _pause(self) -> float | None:
        """Return the seconds until process 1 must be checked again; None for never."""
        look = self._process_1.next_look() if self._process_1 else None
        return None if look is None else max(0.0, look - time.monotonic())

    def _look_again(self) -> None:
        with self._reaping:
            if self._process_1 and self.returncode is None:
                self._process_1.look_again()

    def close(self) -> None:
        """Release the descriptors; a running process continues."""
        super().close()
        self._process_1 = None
        self._close_pidfd()
        self._pidfd = -1

    @staticmethod
    def thread_is_spawning() -> bool:
        """Return False: starting a process never has to wait for other threads."""
        return False

    def _end_now(self) -> None:
        """Kill and reap a process whose start has failed."""
        pidfd, self._pidfd = self._pidfd, -1
        signals.send(pidfd, constants.SIGKILL)
        nsfs.has_ended(pidfd, timeout=None)
        os.waitpid(self.pid, 0)
        os.close(pidfd)


class _ReplayedOs:
    """The module `os`, with a fork and two pipes that have been created already."""

    def __init__(self, pid: int, pipes: Sequence[tuple[int, int]]) -> None:
        self._pid = pid
        self._pipes = iter(pipes)

    def __getattr__(self, name: str) -> Any:
        return getattr(os, name)

    def fork(self) -> int:
        return self._pid

    def pipe(self) -> tuple[int, int]:
        return next(self._pipes)
