"""The end of a child: kill it, reap it, and learn how it ended and what it used.

Runs in the parent.
"""

from __future__ import annotations

import errno
import os

from pyspaces.errors import SpaceError
from pyspaces.kernel import libc, nsfs
from pyspaces.kernel.libc import KernelError
from pyspaces.launch import signals
from pyspaces.status import Status, Usage

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyspaces.kernel.spawn import Spawned


class StatusLost(SpaceError):
    """How a child ended cannot be known: something else has reaped it."""


def end_child(child: Spawned) -> Status | None:
    """Kill the child, wait until it has ended, and reap it. None if something else reaped it."""
    _kill(child)
    try:
        return reap(child.pid)[0]
    except StatusLost:
        return None


def discard(child: Spawned) -> None:
    """Reap a child, killed if it has not ended by itself, and close its pidfd."""
    _kill(child)
    try:
        nsfs.reap_by_pidfd(child.pidfd)
    finally:
        os.close(child.pidfd)


def _kill(child: Spawned) -> None:
    signals.send(child.pidfd, signals.KILL)
    nsfs.has_ended(child.pidfd, timeout=None)


def reap(pid: int, *, wall: float = 0.0, peak_floor: int = 0) -> tuple[Status, Usage]:
    """Take the status of a child that has ended, and what it used.

    wall, peak_floor: as Usage has them. Raises StatusLost if another has taken them.
    """
    try:
        word, user, system, peak = libc.wait4(pid)
    except KernelError as error:
        if error.errno != errno.ECHILD:
            raise
        raise StatusLost(
            f"cannot learn how process {pid} ended: wait4: {os.strerror(errno.ECHILD)}",
            details=["SIGCHLD is ignored in this process, or something else waited for the child"],
        ) from None
    usage = Usage(wall=wall, user=user, system=system, peak_memory=peak, peak_floor=peak_floor)
    return Status.from_wait(word), usage
