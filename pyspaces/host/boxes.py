"""The boxes of this user: what pyspaces has started and still runs, one for each launch.

A box is known by its name, or else by its launcher's command line. Runs in the caller, and changes
nothing. Processes that end while they are read are left out.
"""

from __future__ import annotations

import os

from pyspaces.features.existing import registry
from pyspaces.host.launched import Launched, Uses, launched
from pyspaces.kernel import nsfs, processes, procfs
from pyspaces.kernel.libc import KernelError
from pyspaces.record import Record

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
        for pid in processes.ids():
            try:
                self.members[pid] = frozenset(registry.members_of(pid))
            except KernelError:  # of somebody else, or ended
                continue
        self._own = dict(registry.members_of("self"))
        self._uses = Uses()

    def box(self, one: Launched) -> Box | None:
        """Return the box of a launch, or None if its process has ended."""
        inside, pid = one.inside(self.members), one.pid
        box = Box(
            name=one.holder.name if one.holder else None,
            pid=pid,
            age=self._uses.age(pid),
            nprocs=len(inside),
            memory=self._uses.memory(inside),
            network=self._network(one),
            command=" ".join(processes.words_of(pid)) or (procfs.read_or_none(_comm(pid)) or "?"),
        )
        # Asked last: what was read is then that of a process.
        return None if processes.has_ended(pid) else box

    def _network(self, one: Launched) -> str:
        holder = one.holder
        if holder and (holder.subnets or holder.network):
            return holder.network or ",".join(holder.subnets)
        inode = dict(self.members.get(one.pid, ())).get("net")
        if inode is None or inode == self._own.get("net"):
            return _HOST
        return _NONE if inode in one.made else _JOINED


def boxes() -> list[Box]:
    """Return the boxes of this user: those with a name first, sorted by it, then by age."""
    scan = _Scan()
    rows = [scan.box(one) for one in launched(scan.members, registry.holders())]
    found = [box for box in rows if box]
    return sorted(found, key=lambda box: (box.name is None, 0 if box.name else -box.age))


def inhabitants(made: frozenset[int]) -> list[tuple[int, str]]:
    """Return pid and command line of each process in one of the namespaces `made`.

    Those that are about to end are waited for, a second each, and left out.
    """
    found = []
    for pid in processes.ids():
        try:
            if made.isdisjoint(inode for _, inode in registry.members_of(pid)):
                continue
            pidfd = nsfs.pidfd_open(pid)
        except KernelError:  # of somebody else, or ended
            continue
        try:
            if not nsfs.has_ended(pidfd, timeout=_ENDING):
                found.append((pid, " ".join(processes.words_of(pid))))
        finally:
            os.close(pidfd)
    return found


def _comm(pid: int) -> str:
    return f"/proc/{pid}/comm"
