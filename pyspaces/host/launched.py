"""What pyspaces has started and still runs: the process of each launch, its age, and its memory.

Runs in the caller, and changes nothing. Processes that end while they are read are left out.
"""

from __future__ import annotations

import os

from pyspaces.kernel import processes, procfs
from pyspaces.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from pyspaces.features.existing.registry import Holder

    Members = Mapping[int, frozenset[tuple[str, int]]]


class Launched(Record):
    """A launch that still runs.

    pid: of the command, or of what holds the namespaces. made: the inodes of its new namespaces.
    holder: its entry among the registered names, if it has a name.
    """

    pid: int
    made: frozenset[int]
    holder: Holder | None = None

    def inside(self, members: Members) -> list[int]:
        """Return the processes in one of its new namespaces, and its own process."""
        made = self.made
        found = {pid for pid, rows in members.items() if any(inode in made for _, inode in rows)}
        return sorted(found | {self.pid})


def launched(members: Members, holders: Iterable[Holder]) -> list[Launched]:
    """Return the launches of this user: those with a name first, sorted by it.

    members: the namespaces of each process, as (type, inode). holders: the registered names.
    """
    named = [holder for holder in holders if not holder.is_elsewhere()]
    found = [Launched(pid=holder.pid, made=holder.new_inodes(), holder=holder) for holder in named]
    known = {holder.pid for holder in named} | {holder.launcher for holder in named}
    return found + list(_unnamed(members, known))


def _unnamed(members: Members, known: set[int]) -> Iterator[Launched]:
    """Yield the command of each launcher that holds no name, and its new namespaces."""
    for launcher, rows in members.items():
        if launcher in known or not is_launcher(launcher):
            continue
        for child in processes.children_of(launcher):
            made = frozenset(inode for _, inode in members.get(child, frozenset()) - rows)
            if made and child not in known:
                yield Launched(pid=child, made=made)
                break


class Uses:
    """The time of now, from which ages count, and the memory of processes."""

    def __init__(self) -> None:
        self._now = float(procfs.read("/proc/uptime").split()[0])
        self._ticks = os.sysconf("SC_CLK_TCK")

    def age(self, pid: int) -> float:
        """Return for how many seconds a process has been there."""
        return round(max(0.0, self._now - (processes.start_time(pid) or 0) / self._ticks), 2)

    def memory(self, pids: Iterable[int]) -> int:
        """Return the sum of the resident sets of processes, in bytes."""
        return sum(map(_resident, pids))


def _resident(pid: int) -> int:
    fields = (procfs.read_or_none(f"/proc/{pid}/statm") or "").split()
    return int(fields[1]) * os.sysconf("SC_PAGE_SIZE") if len(fields) > 1 else 0


def is_launcher(pid: int) -> bool:
    """Return whether a process is `pyspaces run` or `pyspaces enter`, by its command line."""
    words = processes.words_of(pid)
    for at, word in enumerate(words[:6]):
        if os.path.basename(word) == "pyspaces" and words[at + 1 : at + 2] in (["run"], ["enter"]):
            return at == 0 or os.path.basename(words[0]).startswith("python")
    return False
