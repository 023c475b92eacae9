"""List the changes in an overlay: compare its upper directory with the ones below.

Runs in a process of the launcher that has joined the user namespace of the command, and so may
read both. Documentation/filesystems/overlayfs.rst of the kernel describes the marks in an upper
directory.

The command has created these files, and processes that it has left behind may still change them.
So everything is opened by descriptor, one name at a time, without following links; what has
disappeared or been replaced meanwhile is skipped; any depth and any kind of file is handled.
"""

from __future__ import annotations

import errno
import os
import stat

from pyspaces.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

ADDED, CHANGED, DELETED = "added", "changed", "deleted"
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
_PIECE = 1 << 20
# The second is for user namespaces; the value "y" means that everything below is hidden.
_OPAQUE = ("trusted.overlay.opaque", "user.overlay.opaque")
# A name has disappeared, or is not a directory any more, or is a link.
_GONE = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)
_KEPT_OPEN = 16  # levels of directories above the current one


class _Place(Record):
    """A directory to compare: its name, and the directory above it; None for the topmost."""

    above: _Place | None
    name: str

    def names(self) -> list[str]:
        """Return the names on the way from the topmost directory."""
        found, place = [], self
        while place.above is not None:
            found.append(place.name)
            place = place.above
        return found[::-1]


def changes(upper: int, lower: Sequence[int], path: str) -> Iterator[tuple[str, str]]:
    """Yield each change: ADDED, CHANGED or DELETED, and the path.

    upper: a descriptor of the directory with the changes. lower: descriptors of the directories
    below it, the topmost first. path: the path of the overlay inside. A file with the same content
    is unchanged, whatever its time. Files that cannot be read below count as changed: the command
    could not read them either, but could replace them.
    """
    path = path.rstrip("/")
    with _Way(upper, lower) as way:
        pending = [_Place(above=None, name="")]
        while pending:
            place = pending.pop()
            names = place.names()
            opened = way.go(names)
            if opened is None:
                continue
            base = "/".join([path, *names])
            for name, kind, is_directory in _compared(opened[0], opened[1:]):
                if kind:
                    yield kind, f"{base}/{name}"
                if is_directory:
                    pending.append(_Place(above=place, name=name))


class _Way:
    """The directories from the topmost to the current one, of which the last few are open.

    Each level is a list of descriptors, that of the upper directory first.
    """

    def __init__(self, upper: int, lower: Sequence[int]) -> None:
        self._top = [upper, *lower]
        self._names: list[str] = []
        self._levels: list[list[int]] = []  # one for each name; empty if closed again

    def __enter__(self) -> _Way:
        return self

    def __exit__(self, *error: object) -> None:
        self._shorten(0)

    def go(self, names: list[str]) -> list[int] | None:
        """Return the descriptors of a directory, which stay ours; None if it has disappeared."""
        common = 0
        for one, other in zip(self._names, names, strict=False):
            if one != other:
                break
            common += 1
        while common and not self._levels[common - 1]:
            common -= 1
        self._shorten(common)
        for name in names[common:]:
            here = _beneath(self._levels[-1] if self._levels else self._top, name)
            if here is None:
                return None
            self._names.append(name)
            self._levels.append(here)
            if len(self._levels) > _KEPT_OPEN:
                self._close(len(self._levels) - 1 - _KEPT_OPEN)
        return self._levels[-1] if self._levels else self._top

    def _shorten(self, length: int) -> None:
        for index in range(length, len(self._levels)):
            self._close(index)
        del self._names[length:], self._levels[length:]

    def _close(self, index: int) -> None:
        for descriptor in self._levels[index]:
            os.close(descriptor)
        self._levels[index] = []


def _compared(upper: int, lower: Sequence[int]) -> Iterator[tuple[str, str | None, bool]]:
    """Yield each name in a directory, its change or None, and whether to look below it."""
    for name in {*os.listdir(upper), *_hidden(upper, lower)}:
        new, old = _status(upper, name), _topmost(lower, name)
        if new is None or _is_whiteout(new):
            yield name, None if old is None else DELETED, False
            continue
        kind = None
        if old is None:
            kind = ADDED
        elif _differ(upper, name, new, *old):
            kind = CHANGED
        yield name, kind, stat.S_ISDIR(new.st_mode)


def _beneath(above: Sequence[int], name: str) -> list[int] | None:
    """Open the directory `name` in the upper directory, and in those below that have it."""
    first = _opened(above[0], name)
    if first is None:
        return None
    opened = [first]
    for directory in above[1:]:
        status = _status(directory, name)
        if status is None:
            continue
        # Anything but a directory hides directories of the same name below it.
        if not stat.S_ISDIR(status.st_mode):
            break
        try:
            below = _opened(directory, name)
        except PermissionError:
            continue
        if below is not None:
            opened.append(below)
    return opened


def _opened(directory: int, name: str) -> int | None:
    try:
        return os.open(name, _DIRECTORY, dir_fd=directory)
    except OSError as error:
        if error.errno not in _GONE:
            raise
        return None


def _hidden(upper: int, lower: Sequence[int]) -> set[str]:
    """Return the names below a directory that hides them all: it was deleted and created again."""
    if not any(_attribute(upper, name) == b"y" for name in _OPAQUE):
        return set()
    return {name for directory in lower for name in os.listdir(directory)}


def _attribute(directory: int, name: str) -> bytes | None:
    try:
        return os.getxattr(directory, name)
    except OSError:  # no such attribute, or the file system has none
        return None


def _status(directory: int, name: str) -> os.stat_result | None:
    try:
        return os.stat(name, dir_fd=directory, follow_symlinks=False)
    except (FileNotFoundError, PermissionError):
        return None


def _topmost(lower: Sequence[int], name: str) -> tuple[int, os.stat_result] | None:
    """Return the topmost directory that has `name`, and its status; None if it was hidden."""
    for directory in lower:
        if status := _status(directory, name):
            return None if _is_whiteout(status) else (directory, status)
    return None


def _is_whiteout(status: os.stat_result) -> bool:
    return stat.S_ISCHR(status.st_mode) and status.st_rdev == 0


def _differ(upper: int, name: str, new: os.stat_result, lower: int, old: os.stat_result) -> bool:
    if (new.st_mode, new.st_uid, new.st_gid) != (old.st_mode, old.st_uid, old.st_gid):
        return True
    if stat.S_ISREG(new.st_mode):
        return new.st_size != old.st_size or not _same_content(upper, lower, name)
    if stat.S_ISLNK(new.st_mode):
        try:
            return os.readlink(name, dir_fd=upper) != os.readlink(name, dir_fd=lower)
        except OSError:  # not a link any more
            return True
    return new.st_rdev != old.st_rdev


def _same_content(upper: int, lower: int, name: str) -> bool:
    opened: list[int] = []
    try:
        for directory in (upper, lower):
            opened.append(os.open(name, _FILE, dir_fd=directory))
            if not stat.S_ISREG(os.fstat(opened[-1]).st_mode):
                return False
        while (piece := os.read(opened[0], _PIECE)) == os.read(opened[1], _PIECE):
            if not piece:
                return True
        return False
    except OSError:  # one cannot be read, or has disappeared
        return False
    finally:
        for descriptor in opened:
            os.close(descriptor)
