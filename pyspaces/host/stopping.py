"""The end of a command or hold that has a name: asked for first, and then awaited.

Runs in the caller. Must not know the command line.
"""

from __future__ import annotations

import errno
import os
import time

from pyspaces.errors import SpaceError
from pyspaces.features.existing import registry
from pyspaces.features.existing.lookup import holder_of
from pyspaces.kernel import constants, nsfs, processes
from pyspaces.kernel.libc import KernelError
from pyspaces.launch import signals

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Self

    from pyspaces.features.existing.registry import Holder


class Stopping:
    """What is registered as `name`, asked to end by SIGTERM; a context that waits for nothing.

    Raises SpaceError if the name is not registered, or if its process may not be signalled.
    """

    def __init__(self, name: str) -> None:
        self.holder = holder = holder_of(name)
        if holder.subnets:
            from pyspaces.launch.network import shared  # noqa: PLC0415 - few names are networks

            # First, while the name is not free: launches that wait for it see that, and fail.
            shared.remove_files(name)
        self._begun = time.monotonic()
        self._command = _open(holder.pid, holder.start)
        self._launcher = _open(holder.launcher, holder.launcher_start) if holder.launcher else -1
        try:
            self._ask()
        except BaseException:
            self.close()
            raise

    def _ask(self) -> None:
        opened = [one for one in (self._launcher, self._command) if one >= 0]
        # The launcher forwards the signal, even to a process 1 that would ignore it.
        for first in opened[:1]:
            self._send(first, constants.SIGTERM)
        # Stopped, by Ctrl-Z say, they would not notice it. The command first: process 1 of ours
        # would lose this SIGCONT while that of the launcher, with another mark, is pending.
        for each in reversed(opened):
            _continue(each)

    def _send(self, pidfd: int, number: int) -> None:
        try:
            signals.send(pidfd, number)
        except PermissionError as error:
            pid = self.holder.pid if pidfd == self._command else self.holder.launcher
            raise SpaceError(
                f"cannot stop {self.holder.name}: process {pid}: {error.strerror}",
                hint="if another user has it, stop it as that user, or as root with CAP_KILL",
            ) from error

    def finish(
        self,
        *,
        grace: float,
        waiting: Callable[[int, float], object] = lambda pid, left: None,
        after: float = 0,
    ) -> Holder:
        """Wait until it has ended, and return what it was.

        grace: seconds between SIGTERM and SIGKILL. waiting: is called with the process and the
        seconds that are left if it has not ended `after` so many. Raises SpaceError if it may not
        be signalled.
        """
        left = max(0.0, self._begun + grace - time.monotonic())
        if self._command >= 0 and not _has_ended(
            self._command, left, after, lambda rest: waiting(self.holder.pid, rest)
        ):
            self._send(self._command, constants.SIGKILL)
            nsfs.has_ended(self._command, timeout=None)
        if self._launcher >= 0:
            nsfs.has_ended(self._launcher, timeout=grace)
        registry.find(self.holder.name)  # removes its file
        return self.holder

    def close(self) -> None:
        """Release its processes; more than once is fine."""
        for descriptor in (self._launcher, self._command):
            if descriptor >= 0:
                os.close(descriptor)
        self._launcher = self._command = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _continue(pidfd: int) -> None:
    try:
        signals.send_marked(pidfd, signals.CONT, signals.ANY_STOP)
    except KernelError as error:
        if error.errno != errno.EPERM:  # the command may have become another user
            raise


def _has_ended(pidfd: int, grace: float, after: float, waiting: Callable[[float], object]) -> bool:
    if nsfs.has_ended(pidfd, timeout=min(grace, after)):
        return True
    if grace <= after:
        return False
    waiting(grace - after)
    return nsfs.has_ended(pidfd, timeout=grace - after)


def _open(pid: int, start: int) -> int:
    """Return a pidfd of the process that was started at `start`, or -1 if it has ended."""
    try:
        descriptor = nsfs.pidfd_open(pid)
    except KernelError:
        return -1
    if processes.start_time(pid) != start:
        os.close(descriptor)
        return -1
    return descriptor
