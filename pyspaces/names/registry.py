"""The registry of names: a small file for each command that was given one.

Runs in the parent, and in whatever looks for a name. A file says who holds its name (pid, start
time and namespaces, so that a pid that was used again is never mistaken for it). Whoever finds one
whose process has gone removes it. All changes are made under a lock on the folder. Must not know
a Plan.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat

from pyspaces import namespaces
from pyspaces.errors import SpaceError
from pyspaces.kernel import nsfs, procfs
from pyspaces.kernel.libc import KernelError
from pyspaces.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

_ROOTS_FOLDER = "/run/pyspaces"
_LARGEST = 4096


class Holder(Record):
    """Who holds a name.

    pid, start: the process, and its start time in clock ticks. ready: whether that is the command;
    until it runs, it is the launcher. launcher, launcher_start: who waits for it and passes signals
    on, 0 if nobody does. members: (name, inode) of the namespaces that it is in. made: names of
    those that were new. view: inodes of the pid and time namespaces in which pid and start count.
    """

    name: str
    pid: int
    start: int
    ready: bool = False
    launcher: int = 0
    launcher_start: int = 0
    members: tuple[tuple[str, int], ...] = ()
    made: tuple[str, ...] = ()
    view: tuple[int, int]

    def is_alive(self) -> bool:
        """Tell whether the process that was registered, and no later one of its pid, lives."""
        if self.view != _view():
            # Seen from elsewhere, neither number means what it says. Not ours to judge.
            return True
        return procfs.start_time(self.pid) == self.start and not _is_zombie(self.pid)

    def is_elsewhere(self) -> bool:
        """Tell whether it was registered from another pid or time namespace than ours."""
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


def folder() -> str:
    """Return the folder of this user's names, whether or not it exists.

    /run/pyspaces for root, else below the user's own XDG_RUNTIME_DIR or /run/user/UID; without
    one, /tmp/pyspaces-UID.
    """
    uid = os.geteuid()
    if uid == 0 and os.access("/run", os.W_OK):
        return _ROOTS_FOLDER
    for path in (os.environ.get("XDG_RUNTIME_DIR", ""), f"/run/user/{uid}"):
        if os.path.isabs(path) and _is_own_folder(path):
            return os.path.join(path, "pyspaces")
    return f"/tmp/pyspaces-{uid}"  # noqa: S108 - checked to be ours, and nobody else's, below


def holders() -> list[Holder]:
    """Return who holds a name of this user's, by name; what is left of the dead is removed."""
    with _Folder(create=False) as names:
        found = [names.holder(name) for name in names.list()]
    return [holder for holder in found if holder]


def find(name: str) -> Holder | None:
    """Return who holds `name`, or None where nobody does."""
    with _Folder(create=False) as names:
        return names.holder(name)


class Claim:
    """A name that this process has taken: first for itself, then for the command.

    Raises SpaceError, saying who holds it, where it is taken already.
    """

    def __init__(self, name: str) -> None:
        own = procfs.start_time("self")
        if own is None:
            raise SpaceError(f"name: {name}: cannot be registered: /proc shows no own process")
        # Not getpid(): the number has to be the one that /proc, and so everybody who looks, uses.
        pid = int(os.readlink("/proc/self"))
        self._holder = Holder(name=name, pid=pid, start=own, view=_view())
        with _Folder(create=True) as names:
            if other := names.holder(name):
                raise SpaceError(
                    f"name: {name}: is held by {_told(other)}",
                    hint=f"choose another name, or end that one: pyspaces stop {name}",
                )
            names.write(self._holder)

    def pass_to(self, pid: int, *, made: tuple[str, ...], watched: bool) -> None:
        """Say that the name now stands for process `pid`, as /proc numbers it.

        made: names of the namespaces that are new. watched: whether this process waits for it.
        Does nothing where the process has ended already. Raises KernelError.
        """
        start = procfs.start_time(pid)
        if start is None or _is_zombie(pid):
            return
        own = self._holder
        changed = own.replace(
            pid=pid,
            start=start,
            ready=True,
            launcher=own.pid if watched else 0,
            launcher_start=own.start if watched else 0,
            members=members_of(pid),
            made=made,
        )
        with _Folder(create=True) as names:
            names.write(changed)
        self._holder = changed

    def give_up(self) -> None:
        """Take the name back, where it is still ours."""
        with _Folder(create=False) as names:
            if names.read(self._holder.name) == self._holder:
                names.remove(self._holder.name)


def _told(holder: Holder) -> str:
    words = " ".join(procfs.words_of(holder.pid))
    if holder.is_elsewhere():
        return f"process {holder.pid} of another pid namespace"
    return f"process {holder.pid} ({words[:60]})" if words else f"process {holder.pid}"


def _view() -> tuple[int, int]:
    """Return the namespaces that decide what a pid and a start time mean: pid and time."""
    inodes = []
    for link in ("pid", "time"):
        try:
            inodes.append(nsfs.inode_of(os.readlink(f"/proc/self/ns/{link}")))
        except OSError:
            inodes.append(0)
    return inodes[0], inodes[1]


def _is_zombie(pid: int) -> bool:
    fields = procfs.stat_fields(pid)
    return fields is None or fields[0] in "ZX"


def _is_own_folder(path: str) -> bool:
    try:
        facts = os.lstat(path)
    except OSError:
        return False
    return stat.S_ISDIR(facts.st_mode) and facts.st_uid == os.geteuid()


class _Folder:
    """The folder of names, locked: nothing in it changes while this context lasts."""

    def __init__(self, *, create: bool) -> None:
        self._path = folder()
        self._descriptor = -1
        self._create = create

    def __enter__(self) -> Self:
        try:
            if self._create:
                self._make()
            self._descriptor = os.open(
                self._path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
            )
        except FileNotFoundError:
            return self
        except OSError as error:
            raise KernelError(error.errno or 0, "open", [], self._path) from None
        facts = os.fstat(self._descriptor)
        if facts.st_uid != os.geteuid() or facts.st_mode & 0o022:
            self.__exit__(None, None, None)
            raise SpaceError(f"name: {self._path}: somebody else can write to this folder")
        fcntl.flock(self._descriptor, fcntl.LOCK_EX)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._descriptor >= 0:
            descriptor, self._descriptor = self._descriptor, -1
            os.close(descriptor)

    def _make(self) -> None:
        try:
            os.mkdir(self._path, 0o700)
        except FileExistsError:
            return

    def list(self) -> list[str]:
        """Return the names that have a file."""
        if self._descriptor < 0:
            return []
        return sorted(name for name in os.listdir(self._descriptor) if name[0] != ".")

    def holder(self, name: str) -> Holder | None:
        """Return the living holder of a name; remove what is left of one that has gone."""
        found = self.read(name)
        if found and found.is_alive():
            return found
        if self._descriptor >= 0:
            self.remove(name)
        return None

    def read(self, name: str) -> Holder | None:
        """Return what the file of a name says, or None where there is none that makes sense."""
        if self._descriptor < 0:
            return None
        try:
            file = os.open(
                name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=self._descriptor
            )
        except OSError:
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
        """Write the file of a name, whole or not at all."""
        temporary = f".{holder.name}"
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            file = os.open(temporary, flags, 0o600, dir_fd=self._descriptor)
            try:
                os.write(file, os.fsencode(_text(holder)))
            finally:
                os.close(file)
            os.rename(
                temporary,
                holder.name,
                src_dir_fd=self._descriptor,
                dst_dir_fd=self._descriptor,
            )
        except OSError as error:
            path = os.path.join(self._path, holder.name)
            raise KernelError(error.errno or 0, "write", [], path) from None

    def remove(self, name: str) -> None:
        """Remove the file of a name; one that is not there is no error."""
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
    )
    return "".join(f"{key} {value}\n" for key, value in rows)


def _parse(name: str, text: str) -> Holder:
    """Read what `_text` wrote. Raises ValueError or KeyError."""
    rows = {key: rest for key, _, rest in (line.partition(" ") for line in text.splitlines())}
    pid, start, ready = map(int, rows["process"].split())
    launcher, launcher_start = map(int, rows["launcher"].split())
    view = tuple(map(int, rows["view"].split()))
    pairs = (word.partition("=") for word in rows["members"].split())
    return Holder(
        name=name,
        pid=pid,
        start=start,
        ready=bool(ready),
        launcher=launcher,
        launcher_start=launcher_start,
        members=tuple((word, int(inode)) for word, _, inode in pairs),
        made=tuple(rows["made"].split()),
        view=(view[0], view[1]),
    )
