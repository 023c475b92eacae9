"""List the namespaces of this host, with their processes, owners, and what keeps them alive.

Runs in the caller, and changes nothing. Must not know the command line, nor how rows are shown.
Processes that cannot be read are counted, and those that have ended are ignored; neither is an
error.
"""

from __future__ import annotations

import errno
import functools
import os
import pwd

from pyspaces.errors import SpaceError
from pyspaces.features.existing import registry
from pyspaces.host.launched import Uses, is_launcher, launched
from pyspaces.kernel import (
    held,
    ioctl_ns,
    mountinfo,
    namespaces,
    netnsid,
    netproc,
    nsfs,
    processes,
    procfs,
)
from pyspaces.kernel.libc import KernelError
from pyspaces.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Any, ClassVar

_BY_LINK = {row.link: row.name for row in namespaces.NAMESPACES}
# Reason: reading one takes 4 us, so this limits the search to about a second; most hosts have
# fewer. lsns(8) reads all of them, however long it takes.
_MOST_DESCRIPTORS = 200_000
# Of how many processes in a network namespace it is tried to read the addresses.
_MOST_READ = 8


class Row(Record):
    """A namespace of the host.

    ns: its inode number. type: a name in namespaces.NAMES. nprocs: the number of processes in
    it. pid: the lowest of their ids; ppid, uid, user and command belong to that process.
    netnsid: the id that the caller's network namespace has assigned to a network namespace.
    name: the one registered with `run --name`. age: seconds since the command was started for which
    pyspaces has created the namespace, and memory: the resident bytes of all processes of that
    launch; pages that they share count for each. addresses: the IP addresses in a network namespace
    with a process, except those of the loopback and of one link. network, ports: what a network
    namespace with a name is connected by, and the ports of the host that lead there, as
    OUTSIDE:INSIDE. files:
    the files that it is bound to. held: the descriptors and sockets that refer to it, as
    /proc/PID/fd/N and socket:/proc/PID/fd/N; searched for only if no process is in it. owner:
    the inode number of the user namespace that owns it. parent: that of the parent of a user or
    pid namespace. Unknown values are None or empty.
    """

    ns: int
    type: str
    nprocs: int = 0
    pid: int | None = None
    ppid: int | None = None
    uid: int | None = None
    user: str | None = None
    netnsid: int | None = None
    name: str | None = None
    age: float | None = None
    memory: int | None = None
    network: str | None = None
    addresses: tuple[str, ...] = ()
    ports: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    held: tuple[str, ...] = ()
    owner: int | None = None
    parent: int | None = None
    command: str | None = None


class Listing(Record):
    """Rows in the order of their inode numbers, and what may be missing from them.

    unreadable: the number of processes whose namespaces could not be read. hidden: whether /proc
    hides processes of other users. unsearched: the number of open descriptors that were not
    searched because there were too many.
    """

    rows: tuple[Row, ...]
    unreadable: int = 0
    hidden: bool = False
    unsearched: int = 0

    _nested: ClassVar = {"rows": Row}


def listing(
    *,
    types: Iterable[str] = (),
    pid: int | None = None,
    ours: bool = False,
    descriptors: bool | None = None,
) -> Listing:
    """Return the namespaces that this process can see.

    types: names in namespaces.NAMES; empty for all. pid: list only those that this process is in.
    ours: list only those that pyspaces created: those with a registered name, and those that only
    descendants of a launcher are in. descriptors: whether to search open descriptors and sockets
    for namespaces that nothing else keeps alive; None for at most 200,000 of them.
    Raises KernelError if /proc cannot be read, and SpaceError if process `pid` cannot be read.
    """
    wanted = frozenset(types) or frozenset(namespaces.NAMES)
    scan = _Scan()
    scan.read_processes()
    scan.read_files()
    if pid is None and descriptors is not False:
        # A socket keeps its network namespace, and that its owner.
        sockets = not wanted.isdisjoint(("net", "user"))
        scan.read_descriptors(None if descriptors else _MOST_DESCRIPTORS, sockets=sockets)
    scan.read_relations()
    chosen = set(scan.found)
    if pid is not None:
        chosen &= _inodes_of(pid)
    if ours:
        chosen &= scan.ours()
    rows = (scan.row(inode) for inode in sorted(chosen) if scan.found[inode].type in wanted)
    return Listing(
        rows=tuple(rows),
        unreadable=scan.unreadable,
        hidden=_hides_processes(),
        unsearched=scan.unsearched,
    )


def _inodes_of(pid: int) -> set[int]:
    try:
        return {inode for _, inode in registry.members_of(pid)}
    except KernelError as error:
        why = error.strerror if os.path.exists(f"/proc/{pid}") else "no such process"
        raise SpaceError(f"cannot list the namespaces of process {pid}: {why}") from None


class _Found:
    """What is known about a namespace so far."""

    def __init__(self, kind: str) -> None:
        self.type = kind
        self.pids: list[int] = []
        self.files: list[str] = []
        self.held: list[held.Place] = []
        self.owner: int | None = None
        self.parent: int | None = None
        self.netnsid: int | None = None


class _Scan:
    """One walk over /proc and the mounts of this process."""

    def __init__(self) -> None:
        self.found: dict[int, _Found] = {}
        self.unreadable = 0
        self.unsearched = 0
        self._members: dict[int, frozenset[tuple[str, int]]] = {}
        self._holders = registry.holders()
        self._used: dict[int, dict[str, Any]] | None = None

    def read_processes(self) -> None:
        """Read the namespaces of every process."""
        links = sorted(nsfs.link_names().intersection(_BY_LINK))
        for pid in processes.ids():
            members, denied = _members(pid, links)
            for link, inode in members:
                self._add(inode, _BY_LINK[link]).pids.append(pid)
            if members:
                self._members[pid] = frozenset(members)
            self.unreadable += denied and not members

    def read_files(self) -> None:
        """Read which namespaces are bound to files of this mount namespace."""
        for link, inode, path in mountinfo.namespace_files():
            if link in _BY_LINK:
                self._add(inode, _BY_LINK[link]).files.append(path)

    def read_descriptors(self, limit: int | None, *, sockets: bool) -> None:
        """Read which namespaces the descriptors of readable processes refer to."""
        search = held.Search(_BY_LINK, sockets=sockets, limit=limit)
        search.walk([*self._members])
        for (link, inode), places in search.found.items():
            self._add(inode, _BY_LINK[link]).held.extend(places)
        self.unsearched = search.unsearched

    def read_relations(self) -> None:
        """Find owners and parents, which get rows too, even if no process is in them."""
        with netnsid.asking() as ask:
            for inode, found in list(self.found.items()):
                descriptor = _open(inode, found)
                if descriptor is None:
                    continue
                if found.type == "net":
                    found.netnsid = ask(descriptor)
                self._relate(inode, descriptor)

    def _relate(self, inode: int, descriptor: int) -> None:
        """Follow owners and parents up to known namespaces; closes the descriptor."""
        found = self.found[inode]
        related = {"owner": ioctl_ns.owner(descriptor)}
        if found.type in ("user", "pid"):
            related["parent"] = ioctl_ns.parent(descriptor)
        os.close(descriptor)
        for relation, other in related.items():
            if other is None:
                continue
            above = os.fstat(other).st_ino
            setattr(found, relation, above)
            if above in self.found:
                os.close(other)
            else:
                self._add(above, found.type if relation == "parent" else "user")
                self._relate(above, other)

    def _add(self, inode: int, kind: str) -> _Found:
        return self.found.setdefault(inode, _Found(kind))

    def row(self, inode: int) -> Row:
        """Return the row of a namespace; only the process with the lowest id is read."""
        found = self.found[inode]
        holders = [holder for holder in self._holders if inode in holder.new_inodes()]
        names = [holder.name for holder in holders]
        of_net = holders if found.type == "net" else []
        facts = self._facts(found.pids[0]) if found.pids else {}
        facts |= self._uses().get(inode, {})
        return Row(
            ns=inode,
            type=found.type,
            nprocs=len(found.pids),
            netnsid=found.netnsid,
            name=",".join(names) or None,
            network=",".join(holder.network for holder in of_net if holder.network) or None,
            addresses=_addresses(inode, found) if found.type == "net" else (),
            ports=tuple(port for holder in of_net for port in holder.ports),
            files=tuple(sorted(found.files)),
            held=() if found.pids else tuple(str(place) for place in found.held),
            owner=found.owner,
            parent=found.parent,
            **facts,
        )

    def _uses(self) -> dict[int, dict[str, Any]]:
        """Return age and memory of the launch by which each namespace was made."""
        if self._used is None:
            self._used = {}
            uses = Uses()
            for one in launched(self._members, self._holders):
                memory = uses.memory(one.inside(self._members))
                row = {"age": uses.age(one.pid), "memory": memory}
                self._used |= dict.fromkeys(one.made, row)
        return self._used

    def _facts(self, pid: int) -> dict[str, Any]:
        facts: dict[str, Any] = {"pid": pid}
        if fields := procfs.stat_fields(pid):
            facts["ppid"] = int(fields[1])
        ids = (procfs.status_field(pid, "Uid") or "").split()
        if ids:
            facts["uid"] = uid = int(ids[1])
            facts["user"] = _user(uid)
        words = processes.words_of(pid) or [procfs.read_or_none(f"/proc/{pid}/comm") or ""]
        facts["command"] = " ".join(words) or None
        return facts

    def ours(self) -> set[int]:
        """Return the namespaces that pyspaces created."""
        made = {inode for holder in self._holders for inode in holder.new_inodes()}
        pids = {pid for found in self.found.values() for pid in found.pids}
        parents = {pid: procfs.parent_of(pid) for pid in pids}
        above = {pid for pid in parents if is_launcher(pid)}
        below: set[int] = set()
        while more := {pid for pid, parent in parents.items() if parent in above} - below:
            below |= more
            above |= more
        for inode, found in self.found.items():
            if found.pids and below.issuperset(found.pids):
                made.add(inode)
        return made


def _addresses(inode: int, found: _Found) -> tuple[str, ...]:
    for pid in found.pids[:_MOST_READ]:
        if (known := netproc.addresses(pid, inode)) is not None:
            return known
    return ()


@functools.cache
def _user(uid: int) -> str | None:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return None


def _members(pid: int, links: Iterable[str]) -> tuple[list[tuple[str, int]], bool]:
    """Return (link, inode) of each namespace that can be read, and whether one was refused.

    A zombie has only some of them. A process that has ended has none, which is not a refusal.
    """
    try:
        # That of a zombie belongs to root: its owner may search it, and not read it.
        directory = os.open(f"/proc/{pid}/ns", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        return [], error.errno in (errno.EACCES, errno.EPERM)
    members, denied = [], False
    try:
        for link in links:
            try:
                members.append((link, nsfs.inode_of(os.readlink(link, dir_fd=directory))))
            except OSError as error:
                denied = error.errno in (errno.EACCES, errno.EPERM)
                if denied:
                    break
    finally:
        os.close(directory)
    return members, denied


def _open(inode: int, found: _Found) -> int | None:
    """Open a namespace through a process in it, a file that it is bound to, or a descriptor."""
    link = next(row.link for row in namespaces.NAMESPACES if row.name == found.type)
    for opened in _opened(link, found):
        # The pid may have been reused by now, and another mount may cover the file.
        if opened is not None:
            if os.fstat(opened).st_ino == inode:
                return opened
            os.close(opened)
    return None


def _opened(link: str, found: _Found) -> Iterator[int | None]:
    for path in (*(f"/proc/{pid}/ns/{link}" for pid in found.pids), *found.files):
        yield nsfs.open_safely(path)
    for place in found.held:
        yield place.open()


def _hides_processes() -> bool:
    """Return whether /proc is mounted with an option that hides other users' processes: proc(5)."""
    hiding = {"hidepid=2", "hidepid=invisible", "hidepid=4", "hidepid=ptraceable"}
    options = [mount.options for mount in mountinfo.mounts() if mount.point == "/proc"]
    return bool(options) and not hiding.isdisjoint(options[-1])
