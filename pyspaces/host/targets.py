"""Targets to enter or stop: a process, given by its pid or name, or a namespace file.

Runs in the caller. Must not know the command line.
"""

from __future__ import annotations

import errno
import os

from pyspaces.errors import SpaceError, UsageFault
from pyspaces.features.existing import registry
from pyspaces.features.existing.lookup import holder_of, ready_holder_of
from pyspaces.features.existing.values import Join, Joining
from pyspaces.kernel import constants, ioctl_ns, namespaces, nsfs, procfs
from pyspaces.kernel.libc import KernelError
from pyspaces.launch import signals
from pyspaces.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from pyspaces.features.existing.registry import Holder


class Target(Record):
    """A target: a process and its start time, or a file; the other fields are 0 or empty."""

    pid: int = 0
    start: int = 0
    path: str = ""

    def joins(self, names: Iterable[str]) -> tuple[Join, ...]:
        """Return its namespaces of the types `names`, or all for none. Raises UsageFault."""
        wanted = tuple(names)
        if not self.path:
            return tuple(
                Join(namespace=name, pid=self.pid) for name in wanted or namespaces.supported()
            )
        name = _type_of(self.path)
        if wanted and wanted != (name,):
            raise UsageFault([f"target: {self.path}: is a {name} namespace: only --{name} applies"])
        return (Join(namespace=name, path=self.path),)

    def joining(self, joins: Iterable[Join], **more: bool) -> Joining:
        """Return the field of a plan that joins `joins`, some or all of which are the target's."""
        return Joining(joins=tuple(joins), target=self.pid, start=self.start, **more)


def find(text: str) -> Target:
    """Return the target `text`: a pid, a file if it has a slash, or else a name.

    Raises UsageFault if it cannot be any of them, and SpaceError if the name is not registered.
    """
    if text.isascii() and text.isdecimal():
        if not 0 < int(text) < 1 << 31:
            raise UsageFault([f"target: {text} is not a process id"])
        return Target(pid=int(text), start=_start_of(int(text)))
    if "/" in text:
        return Target(path=text)
    try:
        holder = ready_holder_of(text)
    except SpaceError as error:
        if os.path.isfile(text):
            error.hint = f"write ./{text} to name the file"
        raise
    return Target(pid=holder.pid, start=holder.start)


def names() -> list[str]:
    """Return the names that can be entered from here."""
    return [holder.name for holder in registry.holders() if not holder.is_elsewhere()]


def own_processes() -> list[tuple[int, str]]:
    """Return pid and command line of this user's processes, except this one and kernel threads."""
    found = []
    for pid in procfs.processes():
        try:
            own = os.stat(f"/proc/{pid}").st_uid == os.geteuid() and pid != os.getpid()
        except OSError:
            own = False
        if own and (words := procfs.words_of(pid)):
            found.append((pid, " ".join(words)))
    return found


def stop(
    name: str,
    *,
    grace: float,
    waiting: Callable[[int, float], object] = lambda pid, left: None,
    after: float = 0,
) -> Holder:
    """Stop the command or hold registered as `name`, wait until it has ended, and return it.

    grace: seconds between SIGTERM and SIGKILL. waiting: is called with the process and the seconds
    that are left if it has not ended `after` so many. Raises SpaceError if the name is not
    registered, and OSError if the process cannot be signalled.
    """
    holder = holder_of(name)
    if holder.subnets:
        from pyspaces.launch.network import shared  # noqa: PLC0415 - few names are networks

        # First, while the name is not free: launches that wait for the network see it, and fail.
        shared.remove_files(name)
    command = _open(holder.pid, holder.start)
    launcher = _open(holder.launcher, holder.launcher_start) if holder.launcher else -1
    opened = [descriptor for descriptor in (launcher, command) if descriptor >= 0]
    try:
        # The launcher forwards the signal, even to a process 1 that would ignore it.
        for first in opened[:1]:
            signals.send(first, constants.SIGTERM)
        # Stopped, by Ctrl-Z say, they would not notice it. The command first: process 1 of ours
        # would lose this SIGCONT while that of the launcher, with another mark, is pending.
        for each in reversed(opened):
            _continue(each)
        if command >= 0 and not _has_ended(
            command, grace, after, lambda left: waiting(holder.pid, left)
        ):
            signals.send(command, constants.SIGKILL)
            nsfs.has_ended(command, timeout=None)
        if launcher >= 0:
            nsfs.has_ended(launcher, timeout=grace)
    finally:
        for descriptor in opened:
            os.close(descriptor)
    registry.find(name)  # removes its file
    return holder


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


def _start_of(pid: int) -> int:
    """Return the start time of a process in clock ticks; 0 if there is no such process."""
    try:
        pidfd = nsfs.pidfd_open(pid)
    except KernelError:
        return 0
    try:
        return procfs.start_time(procfs.pid_of_pidfd(pidfd)) or 0
    finally:
        os.close(pidfd)


def _open(pid: int, start: int) -> int:
    """Return a pidfd of the process that was started at `start`, or -1 if it has ended."""
    try:
        descriptor = nsfs.pidfd_open(pid)
    except KernelError:
        return -1
    if procfs.start_time(pid) != start:
        os.close(descriptor)
        return -1
    return descriptor


def _type_of(path: str) -> str:
    try:
        descriptor = nsfs.open_file(path)
    except KernelError as error:
        raise SpaceError(f"target: {path}: {error.strerror}") from None
    flag = ioctl_ns.clone_flag(descriptor)
    os.close(descriptor)
    for row in namespaces.NAMESPACES:
        if row.flag == flag:
            return row.name
    raise SpaceError(f"target: {path}: is not a namespace")
