"""The registry of names: a small file for each command that was given one.

Runs in the parent, and in processes that look for a name. A file identifies the process by pid,
start time and namespaces, so that a reused pid is never mistaken for it. The file of a process that
has ended is removed by the next process that finds it. All changes are made under a lock on the
directory. Must not know a Plan.

If the directory is in /tmp, it may belong to another user: then there are no names. Other programs
of the same user, such as the command, may have damaged its files: a file that cannot be parsed
registers no name, no wait is without limit, and no failure here ends a launcher whose command has
run.
"""

from __future__ import annotations

import errno
import fcntl
import os
import time

from pyspaces.errors import DESCRIPTOR_LIMIT, SpaceError
from pyspaces.features.existing import runtime
from pyspaces.features.existing.names import name_fault
from pyspaces.kernel import namespaces, nsfs, processes
from pyspaces.kernel.libc import KernelError
from pyspaces.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any, Self

_LARGEST = 4096
_PIDS = 1 << 31
_OPEN = os.O_NOFOLLOW | os.O_CLOEXEC
# How long another process may lock the directory, in seconds: none needs a hundredth of that.
_PATIENCE = 2.0
# Of open(2): this process, or the host, has no room for another descriptor.
_NO_ROOM = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)
_PAUSE = 0.005


class Holder(Record):
    """Who holds a name.

    pid, start: the process, and its start time in clock ticks. ready: whether that is the command;
    until it runs, it is the launcher. launcher, launcher_start: the process that waits for it and
    forwards signals, 0 for none. members: (name, inode) of its namespaces. made: names of those
    that were new. view: inodes of the pid and time namespaces to which pid and start refer.
    subnets: those of the network that it is, empty for others. network: what its new network
    namespace is connected by. ports: those of the host that lead there.
    """

    name: str
    pid: int
    start: int
    ready: bool = False
    launcher: int = 0
    launcher_start: int = 0
    members: tuple[tuple[str, int], ...] = ()
    made: tuple[str, ...] = ()
    subnets: tuple[str, ...] = ()
    network: str = ""
    ports: tuple[str, ...] = ()
    view: tuple[int, int]

    def is_alive(self) -> bool:
        """Return whether the registered process, and not another one with its pid, is alive."""
        if self.view != _view():
            # In other namespaces, neither number means the same, so this cannot be known here.
            return True
        return processes.start_time(self.pid) == self.start and not processes.has_ended(self.pid)

    def is_elsewhere(self) -> bool:
        """Return whether it was registered from another pid or time namespace than ours."""
        return self.view != _view()

    def new_inodes(self) -> frozenset[int]:
        """Return the inodes of the namespaces that were made for it."""
        return frozenset(inode for name, inode in self.members if name in self.made)


def members_of(process: int | str) -> tuple[tuple[str, int], ...]:
    """Return (name, inode) of each namespace of a process. Raises KernelError."""
    found = []
    for row in namespaces.NAMESPACES:
        path = f"/proc/{process}/ns/{row.link}"
        try:
            found.append((row.name, nsfs.inode_of(os.readlink(path))))
        except OSError as error:
            if error.errno != errno.ENOENT or not os.path.lexists(f"/proc/{process}/ns"):
                raise KernelError(error.errno or 0, "readlink", [], path) from None
    return tuple(found)


def holders() -> list[Holder]:
    """Return the holders of this user's names, sorted by name. Removes those that have ended."""
    with _Directory() as names:
        found = [names.holder(name) for name in names.list()]
    return [holder for holder in found if holder]


def find(name: str) -> Holder | None:
    """Return the holder of `name`, or None."""
    with _Directory() as names:
        return names.holder(name)


class Claim:
    """A name that this process has registered: first for itself, then for the command.

    Raises SpaceError naming the holder if the name is in use.
    """

    def __init__(self, name: str) -> None:
        own = processes.start_time("self")
        if own is None:
            raise SpaceError(f"name: {name}: cannot be registered: this process is not in /proc")
        # Not getpid(): the number has to be that of /proc, where others look it up.
        pid = int(os.readlink("/proc/self"))
        self._holder = Holder(name=name, pid=pid, start=own, view=_view())
        with _Directory(create_for=name) as names:
            if other := names.holder(name):
                raise SpaceError(
                    f"name: {name}: is held by {_told(other)}",
                    hint=f"choose another name, or end that one: pyspaces stop {name}",
                )
            names.write(self._holder)

    def pass_to(
        self,
        pid: int,
        *,
        made: tuple[str, ...],
        watched: bool,
        members: Mapping[str, int],
        **facts: Any,
    ) -> None:
        """Make the name refer to process `pid`, its number in /proc.

        made: names of the namespaces that are new. watched: whether this process waits for it.
        members: the inodes of its namespaces, by name. facts: subnets, network and ports, as in
        Holder. Does nothing if the process has ended. Raises KernelError and SpaceError.
        """
        start = processes.start_time(pid)
        if start is None or processes.has_ended(pid):
            return
        own = self._holder
        changed = own.replace(
            pid=pid,
            start=start,
            ready=True,
            launcher=own.pid if watched else 0,
            launcher_start=own.start if watched else 0,
            members=tuple(members.items()),
            made=made,
            **facts,
        )
        with _Directory(create_for=own.name) as names:
            names.write(changed)
        self._holder = changed

    def give_up(self) -> None:
        """Remove the name, if it is still ours."""
        try:
            with _Directory() as names:
                if names.read(self._holder.name) == self._holder:
                    names.remove(self._holder.name)
        except SpaceError:  # no descriptor is free: whoever looks for the name next removes it
            return


def _told(holder: Holder) -> str:
    words = " ".join(processes.words_of(holder.pid))
    if holder.is_elsewhere():
        return f"process {holder.pid} of another pid namespace"
    return f"process {holder.pid} ({words[:60]})" if words else f"process {holder.pid}"


def _view() -> tuple[int, int]:
    """Return the namespaces that decide what a pid and a start time mean: pid and time."""
    pid, time_ = (nsfs.inode_or_none(f"/proc/self/ns/{link}") or 0 for link in ("pid", "time"))
    return pid, time_


class _Directory:
    """The directory of names, locked for the time of the context.

    create_for: the name for which it is created if it is missing. Without one, a directory that is
    missing or cannot be used counts as empty. Raises SpaceError if the name cannot be registered,
    and if no descriptor is free.
    """

    def __init__(self, *, create_for: str | None = None) -> None:
        self._path = runtime.directory()
        self._descriptor = -1
        self._create_for = create_for
        self._locked = False

    def __enter__(self) -> Self:
        try:
            if self._create_for is not None:
                self._make()
            self._descriptor = runtime.open_directory(self._path)
            self._lock()
        except OSError as error:
            if self._create_for is not None or error.errno in _NO_ROOM:
                self.__exit__()
                raise self._error(self._create_for, error) from None
        return self

    def __exit__(self, *_: object) -> None:
        if self._descriptor >= 0:
            descriptor, self._descriptor = self._descriptor, -1
            os.close(descriptor)

    def _make(self) -> None:
        try:
            os.mkdir(self._path, 0o700)
        except FileExistsError:
            return

    def _lock(self) -> None:
        """Lock the directory. Raises OSError if another program of the user keeps it locked.

        Lookups then read it without a lock.
        """
        limit = time.monotonic() + _PATIENCE
        while True:
            try:
                fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() > limit:
                    raise OSError(errno.EAGAIN, "another process keeps it locked") from None
                time.sleep(_PAUSE)
            else:
                self._locked = True
                return

    def _error(self, name: str | None, error: OSError) -> SpaceError:
        hint = None
        if error.errno == errno.EMFILE:
            hint = DESCRIPTOR_LIMIT
        elif self._path.startswith("/tmp/"):  # noqa: S108 - a directory that is refused
            hint = "set XDG_RUNTIME_DIR to a directory that is yours alone"
        what = "name: " if name is None else f"name: {name}: "
        what += "cannot be looked up" if self._create_for is None else "cannot be registered"
        return SpaceError(f"{what}: {self._path}: {error.strerror}", hint=hint)

    def list(self) -> list[str]:
        """Return the names that have a file."""
        if self._descriptor < 0:
            return []
        return sorted(name for name in os.listdir(self._descriptor) if name_fault(name) is None)

    def holder(self, name: str) -> Holder | None:
        """Return the holder of a name; remove the file of one that has ended."""
        found = self.read(name)
        if found and found.is_alive():
            return found
        if self._locked:
            self.remove(name)
        return None

    def read(self, name: str) -> Holder | None:
        """Return the content of the file of a name, or None if it is missing or invalid.

        Raises SpaceError if no descriptor is free.
        """
        if self._descriptor < 0:
            return None
        try:
            # O_NONBLOCK: opening a FIFO must not wait.
            file = os.open(name, os.O_RDONLY | os.O_NONBLOCK | _OPEN, dir_fd=self._descriptor)
        except OSError as error:
            if error.errno in _NO_ROOM:  # it may be there, and must not be removed
                raise self._error(name, error) from None
            return None
        try:
            text = os.fsdecode(os.read(file, _LARGEST))
        except OSError:
            return None
        finally:
            os.close(file)
        try:
            return _parse(name, text)
        except (ValueError, KeyError):
            return None

    def write(self, holder: Holder) -> None:
        """Write the file of a name, whole or not at all. Raises SpaceError."""
        temporary = f".{holder.name}"
        self.remove(temporary)  # left by a launcher that was killed
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | _OPEN
        try:
            file = os.open(temporary, flags, 0o600, dir_fd=self._descriptor)
            try:
                data = os.fsencode(_text(holder))
                while data:
                    data = data[os.write(file, data) :]
            finally:
                os.close(file)
            here = self._descriptor
            os.rename(temporary, holder.name, src_dir_fd=here, dst_dir_fd=here)
        except OSError as error:
            self.remove(temporary)
            raise self._error(holder.name, error) from None

    def remove(self, name: str) -> None:
        """Remove the file of a name. A missing file is no error."""
        try:
            os.unlink(name, dir_fd=self._descriptor)
        except OSError:
            return


def _text(holder: Holder) -> str:
    members = " ".join(f"{name}={inode}" for name, inode in holder.members)
    rows = (
        ("process", f"{holder.pid} {holder.start} {int(holder.ready)}"),
        ("launcher", f"{holder.launcher} {holder.launcher_start}"),
        ("view", f"{holder.view[0]} {holder.view[1]}"),
        ("members", members),
        ("made", " ".join(holder.made)),
        ("subnets", " ".join(holder.subnets)),
        ("network", holder.network),
        ("ports", " ".join(holder.ports)),
    )
    return "".join(f"{key} {value}\n" for key, value in rows)


def _parse(name: str, text: str) -> Holder:
    """Read what `_text` wrote. Raises ValueError or KeyError."""
    rows = {key: rest for key, _, rest in (line.partition(" ") for line in text.splitlines())}
    pid, start, ready = map(int, rows["process"].split())
    launcher, launcher_start = map(int, rows["launcher"].split())
    view = [int(word) for word in rows["view"].split()]
    if len(view) != 2 or not (0 < pid < _PIDS and 0 <= launcher < _PIDS):
        raise ValueError
    pairs = [word.partition("=") for word in rows["members"].split()]
    made = tuple(rows["made"].split())
    if not {*made, *(word for word, _, _ in pairs)}.issubset(namespaces.NAMES):
        raise ValueError
    return Holder(
        name=name,
        pid=pid,
        start=start,
        ready=bool(ready),
        launcher=launcher,
        launcher_start=launcher_start,
        members=tuple((word, int(inode)) for word, _, inode in pairs),
        made=made,
        subnets=tuple(rows.get("subnets", "").split()),  # an earlier version has none of these
        network=rows.get("network", ""),
        ports=tuple(rows.get("ports", "").split()),
        view=(view[0], view[1]),
    )
