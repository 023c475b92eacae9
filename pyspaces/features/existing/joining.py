"""Existing namespaces: open them as descriptors, and join them: setns(2).

Functions that open run in any process; those that join run in the process that moves. Must not
know options.
"""

from __future__ import annotations

import errno
import os

from pyspaces.kernel import cgroupfs, ioctl_ns, libc, namespaces, nsfs, processes, procfs, spawn
from pyspaces.kernel.libc import KernelError, Naming
from pyspaces.kernel.mountapi import mount_number
from pyspaces.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from pyspaces.features.clocks import Offset
    from pyspaces.features.existing.values import Join, Joining


class Handle(Record):
    """A namespace held open: its name, an owned descriptor, and the path it was opened at."""

    name: str
    descriptor: int
    path: str


# How long, in seconds, a process may take from losing its namespaces to its end.
_DYING = 0.2


class Visit(Record):
    """What to join, as open descriptors.

    handles: the namespaces. process: a pidfd of the process that they all belong to; -1 if there
    are several, or none. owners: the user namespaces that own them, outermost first, which are
    joined if the others cannot be joined without. root, workdir: directories to move to; -1 for
    none. root_path: the path at which the root was opened. cgroups: cgroup.procs files of the
    cgroups to join. keep_ids: as in Joining. keep_groups: whether the supplementary groups stay.
    variables: the environment of the target, if it is asked for. new_clocks: the offsets of the
    boottime and monotonic clocks of a time namespace to create there. open_child: whether the
    child, and the process that joins before it, stay dumpable, so that an ordinary launcher can
    write the maps of a new user namespace.
    """

    handles: tuple[Handle, ...]
    process: int = -1
    owners: tuple[Handle, ...] = ()
    root: int = -1
    workdir: int = -1
    root_path: str = ""
    cgroups: tuple[Handle, ...] = ()
    keep_ids: bool = False
    keep_groups: bool = False
    variables: Mapping[bytes, bytes] | None = None
    new_clocks: tuple[Offset | None, Offset | None] | None = None
    open_child: bool = False

    @property
    def joins_user(self) -> bool:
        """Whether a user namespace may be joined, for its own sake or as an owner."""
        return bool(self.owners) or any(handle.name == "user" for handle in self.handles)

    def close(self) -> None:
        """Release the descriptors."""
        close((*self.handles, *self.owners, *self.cgroups))
        for descriptor in (self.process, self.root, self.workdir):
            if descriptor >= 0:
                os.close(descriptor)


def open_visit(joining: Joining) -> Visit:
    """Open everything that is to be joined, before joining any of it.

    Raises KernelError naming the file; ESRCH if the process has ended, even if its pid is reused.
    """
    opening = _Opening()
    try:
        visit = _opened(opening, joining)
        opening.check()
    except BaseException as error:
        for descriptor in opening.opened:
            os.close(descriptor)
        if isinstance(error, KernelError):
            # A process on its way out has lost its namespaces before its pidfd tells of the end.
            opening.check(patience=_DYING if error.errno == errno.ENOENT else 0)
        raise
    finally:
        opening.forget()
    return visit


def _opened(opening: _Opening, joining: Joining) -> Visit:
    # The process first: if it is still alive in the end, what was opened meanwhile is its own.
    process = opening.process(joining.target, joining.start) if joining.target else 0
    joins = tuple(map(opening.resolved, joining.joins))
    handles = [handle for join in joins if (handle := opening.namespace(join))]
    root = workdir = -1
    root_path = f"/proc/{process}/root"
    if joining.root:
        flags = os.O_PATH | os.O_DIRECTORY
        root = opening.open(root_path, flags)
        workdir = opening.open(f"/proc/{process}/cwd", flags)
        # Staying in the same root needs no privilege; chroot(2) does.
        if not any(handle.name == "mount" for handle in handles) and _is_own_root(root):
            opening.close(root)
            root = -1
    return Visit(
        handles=tuple(handles),
        process=opening.only_process(joins) if handles else -1,
        owners=tuple(opening.owners(handles)),
        root=root,
        workdir=workdir,
        root_path=root_path,
        cgroups=tuple(opening.cgroups(process)) if joining.cgroup else (),
        keep_ids=joining.keep_ids,
        variables=procfs.initial_environment(process) if joining.environment else None,
    )


def _is_own_root(descriptor: int) -> bool:
    """Return whether this is our root: the same directory, on the same mount.

    In another mount namespace, the same directory is on another one, with other mounts below it.
    """
    own = os.open("/", os.O_PATH | os.O_CLOEXEC)
    try:
        if not os.path.samestat(os.fstat(descriptor), os.fstat(own)):
            return False
        return mount_number(descriptor) == mount_number(own)
    finally:
        os.close(own)


class _Opening:
    """The descriptors that are opened, and the pidfds of the processes they belong to."""

    def __init__(self) -> None:
        self.opened: list[int] = []
        self._processes: dict[int, tuple[int, int]] = {}

    def process(self, pid: int, start: int = 0) -> int:
        """Open a process, and return its number in /proc. Raises KernelError."""
        if pid not in self._processes:
            try:
                pidfd = nsfs.pidfd_open(pid)
            except KernelError as error:
                raise _gone(pid) if error.errno == errno.ESRCH else error from None
            self._processes[pid] = (pidfd, 0)
            number = procfs.pid_of_pidfd(pidfd)
            if number <= 0 or (start and processes.start_time(number) != start):
                raise _gone(pid)
            self._processes[pid] = (pidfd, number)
            self._processes[pid] = _way_in(pidfd, number)
        return self._processes[pid][1]

    def resolved(self, join: Join) -> Join:
        """Return a join that names a process or a path. Raises KernelError and SpaceError."""
        if not join.name:
            return join
        from pyspaces.features.existing import lookup, registry  # few launches name a name

        if registry.find(join.name) is None and os.path.lexists(join.name):
            return join.replace(path=join.name, name="")
        holder = lookup.ready_holder_of(join.name, "join")
        self.process(holder.pid, holder.start)
        return join.replace(pid=holder.pid, name="")

    def only_process(self, joins: Sequence[Join]) -> int:
        """Return a pidfd of the one process that all joins name, or -1 if there is none."""
        pids = {0 if join.path else join.pid for join in joins}
        if len(pids) != 1 or (pid := pids.pop()) == 0:
            return -1
        duplicate = os.dup(self._processes[pid][0])
        self.opened.append(duplicate)
        return duplicate

    def open(self, path: str, flags: int) -> int:
        """Open a file, and record the descriptor. Raises KernelError."""
        with Naming("open", path):
            descriptor = os.open(path, flags | os.O_CLOEXEC)
        self.opened.append(descriptor)
        return descriptor

    def close(self, descriptor: int) -> None:
        """Close a descriptor that is not needed after all."""
        self.opened.remove(descriptor)
        os.close(descriptor)

    def namespace(self, join: Join) -> Handle | None:
        """Open a namespace; return None if this thread is in it already."""
        row = next(row for row in namespaces.NAMESPACES if row.name == join.namespace)
        path = join.path or f"/proc/{self.process(join.pid)}/ns/{row.link}"
        # A path may be anything: opening a FIFO must not wait.
        descriptor = self.open(path, os.O_RDONLY | os.O_NONBLOCK)
        if ioctl_ns.clone_flag(descriptor) != row.flag:
            raise KernelError(errno.EINVAL, f"open as a {row.name} namespace", [], path)
        if nsfs.same_file(f"/proc/self/fd/{descriptor}", f"/proc/thread-self/ns/{row.link}"):
            self.close(descriptor)
            return None
        return Handle(name=row.name, descriptor=descriptor, path=path)

    def owners(self, handles: Sequence[Handle]) -> Iterator[Handle]:
        """Yield the user namespaces that own the open ones, outermost first, each once.

        Leaves out those at or below a user namespace that is to be joined itself: there is no way
        back from them.
        """
        found: dict[int, tuple[int, Handle]] = {}
        limit = min((_depth(h.descriptor) for h in handles if h.name == "user"), default=None)
        own = os.stat("/proc/thread-self/ns/user").st_ino
        for handle in handles:
            if handle.name == "user" or (descriptor := ioctl_ns.owner(handle.descriptor)) is None:
                continue
            self.opened.append(descriptor)
            inode, depth = os.fstat(descriptor).st_ino, _depth(descriptor)
            if inode == own or inode in found or (limit is not None and depth >= limit):
                self.close(descriptor)
                continue
            path = f"the owner of {handle.path}"
            found[inode] = (depth, Handle(name="user", descriptor=descriptor, path=path))
        for _, handle in sorted(found.values(), key=lambda pair: pair[0]):
            yield handle

    def cgroups(self, process: int) -> Iterator[Handle]:
        """Open the cgroup.procs file of each cgroup in which a process differs from this one."""
        own = dict(cgroupfs.cgroups_of("self"))
        for hierarchy, path in cgroupfs.cgroups_of(process):
            if own.get(hierarchy) != path:
                file = cgroupfs.procs_file(hierarchy, path)
                yield Handle(name="cgroup", descriptor=self.open(file, os.O_WRONLY), path=file)

    def check(self, *, patience: float = 0) -> None:
        """Raise KernelError if a process has ended: the files may then be those of another one.

        patience: how many seconds to wait for its end.
        """
        for pid, (pidfd, _) in self._processes.items():
            if nsfs.has_ended(pidfd, timeout=patience):
                raise _gone(pid)

    def forget(self) -> None:
        """Release the pidfds."""
        for pidfd, _ in self._processes.values():
            os.close(pidfd)


def _way_in(pidfd: int, number: int) -> tuple[int, int]:
    """Return the pidfd and number of the process to enter; for an init of ours, its command.

    Only root of the host may inspect our init, so that its command cannot; the command is in the
    same namespaces. The descriptor that is not returned is closed.
    """
    if _is_open(number) or procfs.read_or_none(f"/proc/{number}/comm") != spawn.INIT_NAME:
        return pidfd, number
    for child in processes.children_of(number):
        try:
            other = nsfs.pidfd_open(child)
        except KernelError:
            continue
        # Still the same process, since it is looked at by a descriptor that stands for it.
        if _is_open(child) and procfs.parent_of(child) == number and not nsfs.has_ended(other):
            os.close(pidfd)
            return other, child
        os.close(other)
    return pidfd, number


def _is_open(process: int) -> bool:
    """Return whether this process may inspect the namespaces of another."""
    try:
        os.readlink(f"/proc/{process}/ns/user")
    except OSError as error:
        return not isinstance(error, PermissionError)
    return True


def _gone(pid: int) -> KernelError:
    return KernelError(errno.ESRCH, "open", [], f"/proc/{pid}/ns")


def _depth(descriptor: int) -> int:
    """Return how many user namespaces are above this one, up to the caller's own."""
    depth, above = 0, ioctl_ns.parent(descriptor)
    while above is not None:
        depth += 1
        further = ioctl_ns.parent(above)
        os.close(above)
        above = further
    return depth


def close(handles: Iterable[Handle]) -> None:
    """Release the descriptors."""
    for handle in handles:
        os.close(handle.descriptor)


def join_inner(visit: Visit, leaving: Callable[[], object]) -> bool:
    """Join namespaces; return whether a user namespace was joined.

    leaving: called before a user namespace is joined. Raises KernelError naming the namespace.

    All at once if they belong to one process (setns(2) with a pidfd, since Linux 5.8): this process
    is then never in a foreign user namespace with a root that its processes must not see.
    """
    names = [handle.name for handle in visit.handles]
    if "user" in names:
        leaving()
    if visit.process >= 0 and _are_joined_at_once_inner(visit.process, names):
        return "user" in names
    return _join_in_turn_inner(visit.handles, visit.owners, leaving)


def _are_joined_at_once_inner(process: int, names: Sequence[str]) -> bool:
    """Try to join all at once; the kernel does not say which one it refuses."""
    try:
        libc.setns(process, namespaces.flags_of(names))
    except KernelError:
        return False
    return True


def _join_in_turn_inner(
    handles: Sequence[Handle], owners: Sequence[Handle], leaving: Callable[[], object]
) -> bool:
    """Join one by one; return whether a user namespace was joined. Raises KernelError naming one.

    In passes, as nsenter(1) does: root joins the others first, while it has its rights, and the
    user namespace last; the ordinary owner of a user namespace gets its rights by joining it.
    If the owner of a namespace is further out than its process (bubblewrap sets up in one user
    namespace and runs the command in a nested one), only joining that owner gives the rights.
    """
    pending = _attempt_inner([handle for handle in handles if handle.name != "user"])
    user = [handle for handle in handles if handle.name == "user"]
    joined = bool(user)
    for owner in owners:
        if not pending:
            break
        leaving()
        if _is_joined_inner(owner):
            pending = _attempt_inner(pending)
            joined = True
    for handle in (*user, *pending):
        _join_one_inner(handle)
    return joined


def join_cgroups_inner(cgroups: Sequence[Handle]) -> None:
    """Move this process into cgroups. Raises KernelError naming the file."""
    for handle in cgroups:
        with Naming("write", handle.path):
            os.write(handle.descriptor, b"0")


def move_inner(visit: Visit) -> None:
    """Change root and working directory, if the visit has them. Raises KernelError.

    If the working directory cannot be entered, the root is used: nobody asked for it explicitly.
    """
    if visit.root >= 0:
        with Naming("chroot", visit.root_path):
            os.fchdir(visit.root)
            os.chroot(".")
    if visit.workdir < 0:
        return
    try:
        os.fchdir(visit.workdir)
    except OSError:
        os.chdir("/")


def _attempt_inner(handles: Iterable[Handle]) -> list[Handle]:
    """Join those that the current rights allow; return the rest."""
    return [handle for handle in handles if not _is_joined_inner(handle)]


def _is_joined_inner(handle: Handle) -> bool:
    try:
        _join_one_inner(handle)
    except KernelError:
        return False
    return True


def _join_one_inner(handle: Handle) -> None:
    """Join one namespace. Raises KernelError naming it."""
    libc.setns(handle.descriptor, namespaces.flags_of([handle.name]), path=handle.path)
