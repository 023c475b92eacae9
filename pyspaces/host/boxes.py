"""The boxes of this user: what pyspaces has started and still runs, one for each launch.

A box is known by its name, or else by its launcher's command line. Runs in the caller, and changes
nothing. Processes that end while they are read are left out.
"""

from __future__ import annotations

import os

from pyspaces.features.existing import registry
from pyspaces.host import listing
from pyspaces.kernel import nsfs, procfs
from pyspaces.kernel.libc import KernelError
from pyspaces.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from pyspaces.features.existing.registry import Holder

_ENDING = 1.0  # seconds
_HOST, _NONE, _JOINED = "host", "none", "joined"


class Box(Record):
    """A launch that still runs.

    name: the one that was registered, or None. pid: of the command, or of what holds the
    namespaces. age: seconds since that was started. nprocs: the processes in its new namespaces,
    at least the command itself. memory: the sum of their resident sets, in bytes; pages that they
    share count for each. network: `host`, `none` for one without a way out, `joined`, or how it is
    connected. command: that of the process.
    """

    name: str | None
    pid: int
    age: float
    nprocs: int
    memory: int
    network: str
    command: str


class _Scan:
    """What has to be read once: who is in which namespaces, and the time."""

    def __init__(self) -> None:
        self.members: dict[int, frozenset[tuple[str, int]]] = {}
        for pid in procfs.processes():
            try:
                self.members[pid] = frozenset(registry.members_of(pid))
            except KernelError:  # of somebody else, or ended
                continue
        self.own = dict(registry.members_of("self"))
        self._now = float(procfs.read("/proc/uptime").split()[0])
        self._ticks = os.sysconf("SC_CLK_TCK")

    def age(self, pid: int) -> float:
        """Return for how many seconds a process has been there."""
        return round(max(0.0, self._now - (procfs.start_time(pid) or 0) / self._ticks), 2)

    def inside(self, made: frozenset[int], pid: int) -> list[int]:
        """Return the processes in one of the namespaces `made`, and process `pid`."""
        found = {
            other for other, rows in self.members.items() if any(inode in made for _, inode in rows)
        }
        return sorted(found | {pid})

    def box(self, pid: int, made: frozenset[int], holder: Holder | None) -> Box:
        """Return the box of a process."""
        inside = self.inside(made, pid)
        return Box(
            name=holder.name if holder else None,
            pid=pid,
            age=self.age(pid),
            nprocs=len(inside),
            memory=sum(map(_resident, inside)),
            network=self._network(pid, made, holder),
            command=" ".join(procfs.words_of(pid)) or (procfs.read_or_none(_comm(pid)) or "?"),
        )

    def _network(self, pid: int, made: frozenset[int], holder: Holder | None) -> str:
        if holder and (holder.subnets or holder.network):
            return holder.network or ",".join(holder.subnets)
        inode = dict(self.members.get(pid, ())).get("net")
        if inode is None or inode == self.own.get("net"):
            return _HOST
        return _NONE if inode in made else _JOINED


def boxes() -> list[Box]:
    """Return the boxes of this user: those with a name first, sorted by it, then by age."""
    scan = _Scan()
    holders = [holder for holder in registry.holders() if not holder.is_elsewhere()]
    found = [scan.box(holder.pid, holder.new_inodes(), holder) for holder in holders]
    known = {holder.pid for holder in holders} | {holder.launcher for holder in holders}
    unnamed = [scan.box(pid, made, None) for pid, made in _unnamed(scan.members, known)]
    return found + sorted(unnamed, key=lambda box: -box.age)


def inhabitants(made: frozenset[int]) -> list[tuple[int, str]]:
    """Return pid and command line of each process in one of the namespaces `made`.

    Those that are about to end are waited for, a second each, and left out.
    """
    found = []
    for pid in procfs.processes():
        try:
            if made.isdisjoint(inode for _, inode in registry.members_of(pid)):
                continue
            pidfd = nsfs.pidfd_open(pid)
        except KernelError:  # of somebody else, or ended
            continue
        try:
            if not nsfs.has_ended(pidfd, timeout=_ENDING):
                found.append((pid, " ".join(procfs.words_of(pid))))
        finally:
            os.close(pidfd)
    return found


def _unnamed(
    members: Mapping[int, frozenset[tuple[str, int]]], known: set[int]
) -> Iterator[tuple[int, frozenset[int]]]:
    """Yield the command of each launcher that holds no name, and its new namespaces."""
    for launcher, rows in members.items():
        if launcher in known or not listing.is_launcher(launcher):
            continue
        for child in procfs.children_of(launcher):
            made = frozenset(inode for _, inode in members.get(child, frozenset()) - rows)
            if made and child not in known:
                yield child, made
                break


def _resident(pid: int) -> int:
    fields = (procfs.read_or_none(f"/proc/{pid}/statm") or "").split()
    return int(fields[1]) * os.sysconf("SC_PAGE_SIZE") if len(fields) > 1 else 0


def _comm(pid: int) -> str:
    return f"/proc/{pid}/comm"
