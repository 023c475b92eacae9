"""List the changes in an overlay: compare its upper directory with the ones below.

Runs in a process of the launcher that has joined the user namespace of the command, and so may
read both; or in the caller, for an upper directory that was kept.

The command has created these files, and processes that it has left behind may still change them.
So everything is opened by descriptor, one name at a time, without following links; what has
disappeared or been replaced meanwhile is skipped; any depth and any kind of file is handled.
"""

from __future__ import annotations

import errno
import os
import stat

from pyspaces.kernel import constants, mountapi
from pyspaces.mounts import marks
from pyspaces.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

ADDED, CHANGED, DELETED = "added", "changed", "deleted"
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
_NAMED = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC  # opens no device, and wakes nobody at a FIFO
_PIECE = 1 << 20
CONTAINED = constants.RESOLVE_BENEATH | constants.RESOLVE_NO_SYMLINKS | constants.RESOLVE_NO_XDEV
# A name has disappeared, or is not a directory any more, or is a link.
_GONE = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)
_KEPT_OPEN = 16  # levels of directories above the current one


class Place(Record):
    """A directory to compare: its name, and the directory above it; None for the topmost.

    is_hiding: whether one above it hides all that is below.
    """

    above: Place | None
    name: str
    is_hiding: bool = False

    def names(self) -> list[str]:
        """Return the names on the way from the topmost directory."""
        found, place = [], self
        while place.above is not None:
            found.append(place.name)
            place = place.above
        return found[::-1]


class Entry(Record):
    """A name in a directory: its change, if any, and what it is now; None if it was deleted."""

    name: str
    kind: str | None
    status: os.stat_result | None

    def is_directory(self) -> bool:
        """Return whether there are names beneath it."""
        return self.status is not None and stat.S_ISDIR(self.status.st_mode)


class LayerError(OSError):
    """A directory that cannot be read. layer: 0 for the upper one, then those below."""

    def __init__(self, error: OSError, path: str, layer: int) -> None:
        super().__init__(error.errno, error.strerror, path)
        self.layer = layer


def changes(upper: int, lower: Sequence[int], path: str) -> Iterator[tuple[str, str]]:
    """Yield each change: ADDED, CHANGED or DELETED, and the path.

    upper: a descriptor of the directory with the changes. lower: descriptors of the directories
    below it, the topmost first. path: the path of the overlay inside. A file with the same content
    is unchanged, whatever its time. Files that cannot be read below count as changed: the command
    could not read them either, but could replace them.
    """
    path = path.rstrip("/")
    for names, _, entries in walk(upper, lower):
        base = "/".join([path, *names])
        for entry in entries:
            if entry.kind:
                yield entry.kind, f"{base}/{entry.name}"


def walk(
    upper: int, lower: Sequence[int], *, contained: bool = False
) -> Iterator[tuple[list[str], list[int], list[Entry]]]:
    """Yield each directory of `upper`: the names that lead to it, its descriptors, its entries.

    A directory comes before those in it. The descriptors are those of `upper` and of each of
    `lower` that has it; they are closed later. contained: whether to stay on the file systems of
    the topmost directories, and raise LayerError for a directory that cannot be read.
    """
    with Way(upper, lower, contained=contained) as way:
        pending = [Place(above=None, name="")]
        while pending:
            place = pending.pop()
            names = place.names()
            here = way.go(names)
            if here is None:
                continue
            # The kernel marks the topmost of those that hide all below; the others need no mark.
            is_hiding = place.is_hiding or marks.is_opaque(here[0])
            try:
                entries = list(_compared(here[0], here[1:], is_hiding=is_hiding))
            except OSError as error:
                path = "/".join([*names, os.fsdecode(error.filename or "")])
                raise LayerError(error, path, 0) from error
            yield names, here, entries
            pending += [
                Place(above=place, name=entry.name, is_hiding=is_hiding)
                for entry in reversed(entries)
                if entry.is_directory()
            ]


class Way:
    """The directories from the topmost to the current one, of which the last few are open.

    Each level is a list of descriptors, that of the upper directory first. contained: as in `walk`.
    """

    def __init__(self, upper: int, lower: Sequence[int], *, contained: bool = False) -> None:
        self._top = [upper, *lower]
        self._contained = contained
        self._names: list[str] = []
        self._levels: list[list[int]] = []  # one for each name; empty if closed again

    def __enter__(self) -> Way:
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
            here = self._beneath(self._levels[-1] if self._levels else self._top, name)
            if here is None:
                return None
            self._names.append(name)
            self._levels.append(here)
            if len(self._levels) > _KEPT_OPEN:
                self._close(len(self._levels) - 1 - _KEPT_OPEN)
        return self._levels[-1] if self._levels else self._top

    def _beneath(self, above: Sequence[int], name: str) -> list[int] | None:
        """Open the directory `name` in the upper directory, and in those below that have it."""
        found: list[int] = []
        for layer, directory in enumerate(above):
            status = _status(directory, name) if layer else None
            # Anything but a directory hides directories of the same name below it.
            if status and not stat.S_ISDIR(status.st_mode):
                break
            try:
                here = opened(directory, name, contained=self._contained)
            except OSError as error:
                if layer and isinstance(error, PermissionError) and not self._contained:
                    continue
                for descriptor in found:
                    os.close(descriptor)
                raise LayerError(error, "/".join([*self._names, name]), layer) from error
            if here is not None:
                found.append(here)
                if layer and marks.is_opaque(here):
                    break
            elif not layer:
                return None
        return found

    def _shorten(self, length: int) -> None:
        for index in range(length, len(self._levels)):
            self._close(index)
        del self._names[length:], self._levels[length:]

    def _close(self, index: int) -> None:
        for descriptor in self._levels[index]:
            os.close(descriptor)
        self._levels[index] = []


def _compared(upper: int, lower: Sequence[int], *, is_hiding: bool) -> Iterator[Entry]:
    """Yield each name in a directory. is_hiding: whether it hides all names below."""
    there = set(os.listdir(upper))
    hidden = {name for each in lower for name in os.listdir(each)} if is_hiding else set()
    for name in sorted(there | hidden):
        new, old = None, _topmost(lower, name)
        if name in there:
            try:
                new = os.stat(name, dir_fd=upper, follow_symlinks=False)
            except FileNotFoundError:  # not deleted by the command: that would be a mark
                continue
        if new is None or marks.is_whiteout(new):
            yield Entry(name=name, kind=None if old is None else DELETED, status=None)
            continue
        kind = None
        if old is None:
            kind = ADDED
        elif _differ(upper, name, new, *old):
            kind = CHANGED
        yield Entry(name=name, kind=kind, status=new)


def opened(directory: int, name: str, *, contained: bool) -> int | None:
    """Open a directory in another; None if it is none any more. contained: as in `walk`."""
    try:
        if contained:
            return mountapi.openat2(directory, name, _DIRECTORY, CONTAINED)
        return os.open(name, _DIRECTORY, dir_fd=directory)
    except OSError as error:
        if error.errno not in _GONE:
            raise
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
            return None if marks.is_whiteout(status) else (directory, status)
    return None


def _differ(upper: int, name: str, new: os.stat_result, lower: int, old: os.stat_result) -> bool:
    if (new.st_mode, new.st_uid, new.st_gid) != (old.st_mode, old.st_uid, old.st_gid):
        return True
    if stat.S_ISREG(new.st_mode):
        return new.st_size != old.st_size or not _same_content(upper, lower, name)
    if stat.S_ISDIR(new.st_mode):
        return not _same_attributes(upper, lower, name)
    if stat.S_ISLNK(new.st_mode):
        try:
            return os.readlink(name, dir_fd=upper) != os.readlink(name, dir_fd=lower)
        except OSError:  # not a link any more
            return True
    return new.st_rdev != old.st_rdev or not _same_attributes(upper, lower, name, _NAMED)


def _same_content(upper: int, lower: int, name: str) -> bool:
    both: list[int] = []
    try:
        for directory in (upper, lower):
            both.append(os.open(name, _FILE, dir_fd=directory))
            if not stat.S_ISREG(os.fstat(both[-1]).st_mode):
                return False
        while (piece := os.read(both[0], _PIECE)) == os.read(both[1], _PIECE):
            if not piece:
                return marks.attributes(both[0]) == marks.attributes(both[1])
        return False
    except OSError:  # one cannot be read, or has disappeared
        return False
    finally:
        for descriptor in both:
            os.close(descriptor)


def _same_attributes(upper: int, lower: int, name: str, how: int = _DIRECTORY) -> bool:
    """Return whether two files have the same attributes, or one cannot be read.

    how: flags. Files that are only named are read by /proc, which the process that compares for
    --overlay-diff does not see: there, they are the same.
    """
    both: list[int] = []
    try:
        both.append(os.open(name, how, dir_fd=upper))
        both.append(os.open(name, how, dir_fd=lower))
        where = [f"/proc/self/fd/{each}" if how == _NAMED else each for each in both]
        return marks.attributes(where[0]) == marks.attributes(where[1])
    except OSError:
        return True
    finally:
        for descriptor in both:
            os.close(descriptor)
