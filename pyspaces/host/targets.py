"""What can be entered, and ended: a process, by its pid or its name, and a namespace file.

Runs in the caller. Must not know the command line.
"""

from __future__ import annotations

import os
import time

from pyspaces.errors import SpaceError, UsageFault
from pyspaces.features.existing import registry
from pyspaces.features.existing.names import name_fault
from pyspaces.features.existing.values import Join, Joining
from pyspaces.kernel import constants, namespaces, nsfs, procfs
from pyspaces.kernel.libc import KernelError
from pyspaces.launch import signals
from pyspaces.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from pyspaces.features.existing.registry import Holder

# How long a name may stand for a command that is being started, in seconds.
_STARTING = 5.0
_PAUSE = 0.01


class Target(Record):
    """What is to be entered: a process and its start time, or a file; what is not is 0 or empty."""

    pid: int = 0
    start: int = 0
    path: str = ""

    def joins(self, names: Iterable[str]) -> tuple[Join, ...]:
        """Return the namespaces `names` of it; all that it has, if there are none of them."""
        wanted = tuple(names)
        if not self.path:
            return tuple(
                Join(namespace=name, pid=self.pid) for name in wanted or namespaces.supported()
            )
        name = _type_of(self.path)
        if wanted and wanted != (name,):
            raise UsageFault([f"target: {self.path}: is a {name} namespace, and nothing else"])
        return (Join(namespace=name, path=self.path),)

    def joining(self, joins: Iterable[Join], **more: bool) -> Joining:
        """Return what a plan needs to join `joins`, some or all of which are the target's."""
        return Joining(joins=tuple(joins), target=self.pid, start=self.start, **more)


def find(text: str) -> Target:
    """Return what `text` means: a pid, a file (it has a slash), or else a name.

    Raises UsageFault where it can be none of them, and SpaceError where nothing has that name.
    """
    if text.isascii() and text.isdecimal():
        if not 0 < int(text) < 1 << 31:
            raise UsageFault([f"target: {text} is not a process id"])
        return Target(pid=int(text), start=_start_of(int(text)))
    if "/" in text:
        return Target(path=text)
    holder = holder_of(text)
    limit = time.monotonic() + _STARTING
    while not holder.ready:
        if time.monotonic() > limit:
            raise SpaceError(f"target: {text}: has not started yet, after {_STARTING:g} s")
        time.sleep(_PAUSE)
        holder = holder_of(text)
    return Target(pid=holder.pid, start=holder.start)


def holder_of(name: str) -> Holder:
    """Return who holds a name. Raises UsageFault, or SpaceError where nobody does."""
    if fault := name_fault(name):
        raise UsageFault([f"name: {fault}"])
    holder = registry.find(name)
    if holder is None and (trouble := registry.trouble()):
        raise SpaceError(f"name: {name}: names cannot be used here: {trouble}")
    if holder is None:
        others = ", ".join(holder.name for holder in registry.holders()) or "none"
        raise SpaceError(f"name: {name}: nothing runs under it", details=[f"names: {others}"])
    if holder.is_elsewhere():
        raise SpaceError(
            f"name: {name}: was given in another pid or time namespace, and is of use there only"
        )
    return holder


def names() -> list[str]:
    """Return the names that can be entered from here."""
    return [holder.name for holder in registry.holders() if not holder.is_elsewhere()]


def own_processes() -> list[tuple[int, str]]:
    """Return pid and command line of this user's processes, but for this one and kernel threads."""
    found = []
    for pid in procfs.processes():
        try:
            if os.stat(f"/proc/{pid}").st_uid != os.geteuid() or pid == os.getpid():
                continue
        except OSError:
            continue
        if words := procfs.words_of(pid):
            found.append((pid, " ".join(words)))
    return found


def stop(name: str, *, grace: float) -> None:
    """End what runs under a name, as TERM to its launcher would; wait until it has ended.

    grace: seconds after which it is killed. Raises SpaceError where nothing has that name, and
    OSError where it may not be signalled.
    """
    holder = holder_of(name)
    command = _open(holder.pid, holder.start)
    # The launcher passes the signal on, knows what pid 1 would drop, and reports what it was.
    launcher = _open(holder.launcher, holder.launcher_start) if holder.launcher else -1
    try:
        for descriptor in (launcher, command):
            if descriptor >= 0:
                signals.send(descriptor, constants.SIGTERM)
                break
        if command >= 0 and not nsfs.has_ended(command, timeout=grace):
            signals.send(command, constants.SIGKILL)
            nsfs.has_ended(command, timeout=None)
        if launcher >= 0:
            nsfs.has_ended(launcher, timeout=grace)
    finally:
        for descriptor in (command, launcher):
            if descriptor >= 0:
                os.close(descriptor)
    registry.find(name)  # which removes what is left of it


def _start_of(pid: int) -> int:
    """Return the start time of a process, by which a later one of its pid is told; 0 for none."""
    try:
        pidfd = nsfs.pidfd_open(pid)
    except KernelError:
        return 0
    try:
        return procfs.start_time(procfs.pid_of_pidfd(pidfd)) or 0
    finally:
        os.close(pidfd)


def _open(pid: int, start: int) -> int:
    """Return a pidfd of the process that was started then; -1 where it has gone."""
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
    try:
        flag = nsfs.clone_flag(descriptor)
    finally:
        os.close(descriptor)
    for row in namespaces.NAMESPACES:
        if row.flag == flag:
            return row.name
    raise SpaceError(f"target: {path}: is not a namespace")
