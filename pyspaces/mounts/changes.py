"""What was changed in an overlay: its upper directory, compared with those that it lies over.

Runs in a process that may read both: in that of the launcher's own, joined to the user namespace
of the command. The marks are those of Documentation/filesystems/overlayfs.rst of the kernel.

The command has made what is looked at, and what it has left behind may still be changing it. So
everything is opened by descriptor, one name at a time and no link; whatever is not there any more,
or is something else by then, is passed over; and neither the depth nor the kind of a file matters.
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
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
_PIECE = 1 << 20
# In a user namespace the second; the kernel writes "y" for a folder that hides all beneath it.
_OPAQUE = ("trusted.overlay.opaque", "user.overlay.opaque")
# Where a name has gone meanwhile, or now is no directory, or a link.
_GONE = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)
_KEPT_OPEN = 16  # levels of directories above the one that is looked at


class _Place(Record):
    """A directory to be looked at: its name in the one above; None for the topmost."""

    above: _Place | None
    name: str

    def names(self) -> list[str]:
        """Return the names that lead here from the topmost."""
        found, place = [], self
        while place.above is not None:
            found.append(place.name)
            place = place.above
        return found[::-1]


def changes(upper: int, lower: Sequence[int], path: str) -> Iterator[tuple[str, str]]:
    """Yield what was changed, ADDED, CHANGED or DELETED and its path, each directory by itself.

    upper: a descriptor of the directory with the changes. lower: those of the directories beneath
    it, the topmost first. path: of the directory, as it reads inside. A file that was opened for
    writing and is as it was has not changed, whatever its time. What cannot be read beneath could
    not be changed by the command either, but replaced.
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
            for name, kind, is_folder in _compared(opened[0], opened[1:]):
                if kind:
                    yield kind, f"{base}/{name}"
                if is_folder:
                    pending.append(_Place(above=place, name=name))


class _Way:
    """The directories from the topmost to the one that is looked at, the last few of them open.

    Each level is a list of descriptors, the upper directory's first.
    """

    def __init__(self, upper: int, lower: Sequence[int]) -> None:
        self._top = [upper, *lower]
        self._names: list[str] = []
        self._levels: list[list[int]] = []  # those of the names; empty where closed again

    def __enter__(self) -> _Way:
        return self

    def __exit__(self, *error: object) -> None:
        self._shorten(0)

    def go(self, names: list[str]) -> list[int] | None:
        """Return the descriptors of a directory, to be left open; None where it has gone."""
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
    """Yield each name in a directory, what happened to it, and whether to look beneath it."""
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
    """Open the directory `name`, in the upper directory and in those beneath it that have it."""
    first = _opened(above[0], name)
    if first is None:
        return None
    opened = [first]
    for folder in above[1:]:
        status = _status(folder, name)
        if status is None:
            continue
        # Anything but a folder hides those of the same name beneath it.
        if not stat.S_ISDIR(status.st_mode):
            break
        try:
            below = _opened(folder, name)
        except PermissionError:
            continue
        if below is not None:
            opened.append(below)
    return opened


def _opened(folder: int, name: str) -> int | None:
    try:
        return os.open(name, _FOLDER, dir_fd=folder)
    except OSError as error:
        if error.errno not in _GONE:
            raise
        return None


def _hidden(upper: int, lower: Sequence[int]) -> set[str]:
    """Return what is beneath a folder that hides it all: it was deleted and made anew."""
    if not any(_attribute(upper, name) == b"y" for name in _OPAQUE):
        return set()
    return {name for folder in lower for name in os.listdir(folder)}


def _attribute(folder: int, name: str) -> bytes | None:
    try:
        return os.getxattr(folder, name)
    except OSError:  # it has none, or the file system knows of none
        return None


def _status(folder: int, name: str) -> os.stat_result | None:
    try:
        return os.stat(name, dir_fd=folder, follow_symlinks=False)
    except (FileNotFoundError, PermissionError):
        return None


def _topmost(lower: Sequence[int], name: str) -> tuple[int, os.stat_result] | None:
    """Return the folder in which `name` was seen, and what was there."""
    for folder in lower:
        if status := _status(folder, name):
            return None if _is_whiteout(status) else (folder, status)
    return None


def _is_whiteout(status: os.stat_result) -> bool:
    return stat.S_ISCHR(status.st_mode) and status.st_rdev == 0


def _differ(upper: int, name: str, new: os.stat_result, folder: int, old: os.stat_result) -> bool:
    if (new.st_mode, new.st_uid, new.st_gid) != (old.st_mode, old.st_uid, old.st_gid):
        return True
    if stat.S_ISREG(new.st_mode):
        return new.st_size != old.st_size or not _same_content(upper, folder, name)
    if stat.S_ISLNK(new.st_mode):
        try:
            return os.readlink(name, dir_fd=upper) != os.readlink(name, dir_fd=folder)
        except OSError:  # it is no link any more
            return True
    return new.st_rdev != old.st_rdev


def _same_content(upper: int, folder: int, name: str) -> bool:
    opened: list[int] = []
    try:
        for directory in (upper, folder):
            opened.append(os.open(name, _FILE, dir_fd=directory))
            if not stat.S_ISREG(os.fstat(opened[-1]).st_mode):
                return False
        while (piece := os.read(opened[0], _PIECE)) == os.read(opened[1], _PIECE):
            if not piece:
                return True
    except OSError:  # what cannot be read, or is not there any more
        return False
    else:
        return False
    finally:
        for descriptor in opened:
            os.close(descriptor)
