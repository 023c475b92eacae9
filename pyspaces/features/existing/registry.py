"""The registry of names: a small file for each command that was given one.

Runs in the parent, and in whatever looks for a name. A file says who holds its name (pid, start
time and namespaces, so that a pid that was used again is never mistaken for it). Whoever finds one
whose process has gone removes it. All changes are made under a lock on the folder. Must not know
a Plan.

The folder may be somebody else's, where it is in /tmp: then there are no names, and that is all.
What is in it may have been damaged by other programs of the same user, the command among them:
whatever makes no sense holds no name, nothing is waited for without end, and no failure here
ends a launcher whose command has run.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import time

from pyspaces.errors import SpaceError
from pyspaces.features.existing.names import name_fault
from pyspaces.kernel import namespaces, nsfs, procfs
from pyspaces.kernel.libc import KernelError
from pyspaces.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Self

_ROOTS_FOLDER = "/run/pyspaces"
_LARGEST = 4096
_PIDS = 1 << 31
_OPEN = os.O_NOFOLLOW | os.O_CLOEXEC
# How long somebody else may keep the folder locked, in seconds: nobody needs a hundredth of that.
_PATIENCE = 2.0
_PAUSE = 0.005


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


def trouble() -> str | None:
    """Say why this user can have no names here; None where nothing is wrong."""
    try:
        os.close(_open_folder(folder()))
    except FileNotFoundError:
        return None
    except OSError as error:
        return f"{folder()}: {error.strerror}"
    return None


def holders() -> list[Holder]:
    """Return who holds a name of this user's, by name; what is left of the dead is removed."""
    with _Folder() as names:
        found = [names.holder(name) for name in names.list()]
    return [holder for holder in found if holder]


def find(name: str) -> Holder | None:
    """Return who holds `name`, or None where nobody does."""
    with _Folder() as names:
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
        with _Folder(create_for=name) as names:
            if other := names.holder(name):
                raise SpaceError(
                    f"name: {name}: is held by {_told(other)}",
                    hint=f"choose another name, or end that one: pyspaces stop {name}",
                )
            names.write(self._holder)

    def pass_to(
        self, pid: int, *, made: tuple[str, ...], watched: bool, members: Mapping[str, int]
    ) -> None:
        """Say that the name now stands for process `pid`, as /proc numbers it.

        made: names of the namespaces that are new. watched: whether this process waits for it.
        members: the inodes of the namespaces that it is in, by name.
        Does nothing where the process has ended already. Raises KernelError and SpaceError.
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
            members=tuple(members.items()),
            made=made,
        )
        with _Folder(create_for=own.name) as names:
            names.write(changed)
        self._holder = changed

    def give_up(self) -> None:
        """Take the name back, where it is still ours."""
        with _Folder() as names:
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


def _open_folder(path: str) -> int:
    """Return a descriptor of the folder. Raises OSError, saying what is wrong with it."""
    # Looked at before it is opened: only then can be told whose it is.
    there = os.open(path, os.O_PATH | _OPEN)
    try:
        facts = os.fstat(there)
        if not stat.S_ISDIR(facts.st_mode):
            raise OSError(errno.ENOTDIR, "is no directory")
        if facts.st_uid != os.geteuid():
            raise OSError(errno.EPERM, f"belongs to user {facts.st_uid}")
        if facts.st_mode & 0o022:
            raise OSError(errno.EPERM, "somebody else can write to this directory")
        return os.open(".", os.O_RDONLY | os.O_DIRECTORY | _OPEN, dir_fd=there)
    finally:
        os.close(there)


class _Folder:
    """The folder of names, locked: nothing in it changes while this context lasts.

    create_for: the name for which it is made, where it is missing; without, a folder that is
    missing, or cannot be used, is an empty one. Raises SpaceError where a name can be no name.
    """

    def __init__(self, *, create_for: str | None = None) -> None:
        self._path = folder()
        self._descriptor = -1
        self._create_for = create_for
        self._locked = False

    def __enter__(self) -> Self:
        try:
            if self._create_for is not None:
                self._make()
            self._descriptor = _open_folder(self._path)
            self._lock()
        except OSError as error:
            if self._create_for is not None:
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
        """Lock the folder; the command, or another program of the user, may never let go of it.

        Raises OSError then; what is only looked up is read without.
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

    def _error(self, name: str, error: OSError) -> SpaceError:
        hint = None
        if self._path.startswith("/tmp/"):  # noqa: S108 - a directory that is refused
            hint = "set XDG_RUNTIME_DIR to a directory that is yours alone"
        why = f"{self._path}: {error.strerror}"
        return SpaceError(f"name: {name}: cannot be registered: {why}", hint=hint)

    def list(self) -> list[str]:
        """Return the names that have a file."""
        if self._descriptor < 0:
            return []
        return sorted(name for name in os.listdir(self._descriptor) if name_fault(name) is None)

    def holder(self, name: str) -> Holder | None:
        """Return the living holder of a name; remove what is left of one that has gone."""
        found = self.read(name)
        if found and found.is_alive():
            return found
        if self._locked:
            self.remove(name)
        return None

    def read(self, name: str) -> Holder | None:
        """Return what the file of a name says, or None where there is none that makes sense."""
        if self._descriptor < 0:
            return None
        try:
            # At a FIFO nothing waits.
            file = os.open(name, os.O_RDONLY | os.O_NONBLOCK | _OPEN, dir_fd=self._descriptor)
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
        """Write the file of a name, whole or not at all. Raises SpaceError."""
        temporary = f".{holder.name}"
        self.remove(temporary)  # of a launcher that was killed
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | _OPEN
        try:
            file = os.open(temporary, flags, 0o600, dir_fd=self._descriptor)
            try:
                data = os.fsencode(_text(holder))
                while data:
                    data = data[os.write(file, data) :]
            finally:
                os.close(file)
            os.rename(
                temporary,
                holder.name,
                src_dir_fd=self._descriptor,
                dst_dir_fd=self._descriptor,
            )
        except OSError as error:
            self.remove(temporary)
            raise self._error(holder.name, error) from None

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
        view=(view[0], view[1]),
    )
