"""Targets to enter: a process, given by its pid or name, or a namespace file.

Runs in the caller. Must not know the command line.
"""

from __future__ import annotations

import os

from pyspaces.errors import SpaceError, UsageFault
from pyspaces.features.existing import registry
from pyspaces.features.existing.lookup import ready_holder_of
from pyspaces.features.existing.values import Join, Joining
from pyspaces.kernel import ioctl_ns, namespaces, nsfs, processes, procfs
from pyspaces.kernel.libc import KernelError
from pyspaces.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable


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
    for pid in processes.ids():
        try:
            own = os.stat(f"/proc/{pid}").st_uid == os.geteuid() and pid != os.getpid()
        except OSError:
            own = False
        if own and (words := processes.words_of(pid)):
            found.append((pid, " ".join(words)))
    return found


def _start_of(pid: int) -> int:
    """Return the start time of a process in clock ticks; 0 if there is no such process."""
    try:
        pidfd = nsfs.pidfd_open(pid)
    except KernelError:
        return 0
    try:
        return processes.start_time(procfs.pid_of_pidfd(pidfd)) or 0
    finally:
        os.close(pidfd)


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
