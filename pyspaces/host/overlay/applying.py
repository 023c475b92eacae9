"""Write what the upper directory of an overlay changes into the directory beneath.

Runs in the caller. The two are gone through one directory after the other, and each is written to
by its descriptor. What belongs to a directory itself comes last, when nothing in it is changed any
more. Whoever does the same again goes on where it was interrupted.
"""

from __future__ import annotations

import errno
import fcntl
import os

from pyspaces.errors import SpaceError
from pyspaces.host.overlay.kept import DIRECTORY, UPPER, Kept, is_due
from pyspaces.host.overlay.removing import remove
from pyspaces.host.overlay.writing import copy_metadata, is_directory, new_directory, put, replace
from pyspaces.mounts import changes
from pyspaces.mounts.changes import Way
from pyspaces.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from pyspaces.mounts.changes import Entry

    Identity = tuple[int, int]

_REPLACED = "was replaced meanwhile"
# What link(2) says where a file cannot have another name; then there are two files.
_NO_LINK = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EXDEV, errno.ENOENT)


def apply(kept: Kept) -> int:
    """Write all changes into the directory, and return their number.

    Raises SpaceError: if another process does the same, if something cannot be read, or not be
    created with its owner, before anything is written; otherwise it says what was written before.
    """
    _lock(kept)
    total = sum(1 for _ in kept.changes(to_apply=True))
    with Way(kept.upper, [kept.directory], contained=True) as finishing:
        writing = _Writing(kept, finishing)
        try:
            writing.go()
        except OSError as error:
            raise kept.error(error, writing.names, (writing.told(total),)) from error
    return writing.done


def _lock(kept: Kept) -> None:
    """Keep others from applying the same changes, until the directory with them is closed.

    That one, and not the one which they are written to: that may be one that everybody can open,
    and so lock. Raises SpaceError.
    """
    try:
        fcntl.flock(kept.upper, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise SpaceError(
            f"overlay: {kept.path(UPPER)}: is locked: its changes are being applied already"
        ) from None
    except OSError:  # this file system has no locks
        return


class _Known(Record):
    """A directory that was begun, or a file that was written: its names, and which file it is."""

    names: list[str]
    identity: Identity


class _Writing:
    """One pass. names: where it is. done: the number of changes that were written."""

    def __init__(self, kept: Kept, finishing: Way) -> None:
        self.names: list[str] = []
        self.done = 0
        self._last = ""
        self._kept = kept
        self._finishing = finishing
        self._begun: list[_Known] = []
        self._made: dict[tuple[str, ...], Identity] = {}
        # Directories that are there, and have changed: what belongs to them comes last.
        self._due: set[tuple[str, ...]] = set()
        # Where the first name of a file with several names was written.
        self._links: dict[Identity, _Known] = {}

    def told(self, total: int) -> str:
        """Return what was done up to now, for people."""
        if not self.done:
            return "nothing was changed before"
        return f"{self.done} of {total} changes were written before, the last one {self._last}"

    def go(self) -> None:
        """Write everything. Raises OSError."""
        kept = self._kept
        for names, here, entries in changes.walk(kept.upper, [kept.directory], contained=True):
            self._finish(names)
            self.names = names
            self._begin(names, here)
            for entry in entries:
                self.names = [*names, entry.name]
                self._write(here[0], here[1], entry)
        self._finish([])

    def _begin(self, names: list[str], here: Sequence[int]) -> None:
        identity = _identity(os.fstat(_lower(here)))
        if self._made.pop((*names,), identity) != identity:
            raise OSError(errno.EBUSY, _REPLACED)
        self._begun.append(_Known(names=names, identity=identity))

    def _finish(self, names: list[str]) -> None:
        """Give all directories that do not lead to `names` what belongs to them, deepest first.

        The topmost one keeps its own: that of the upper directory was there before the overlay.
        """
        while self._begun and (own := self._begun[-1].names) != names[: len(own)]:
            begun = self._begun.pop()
            self.names = begun.names
            here = self._finishing.go(begun.names)
            if _identity(os.fstat(_lower(here))) != begun.identity:
                raise OSError(errno.EBUSY, _REPLACED)
            assert here
            copy_metadata(here[0], here[1])
            if (*begun.names,) in self._due:
                self._due.remove((*begun.names,))
                self._count()

    def _write(self, upper: int, directory: int, entry: Entry) -> None:
        if entry.kind == changes.DELETED:
            remove(directory, entry.name)
        elif entry.is_directory():
            if entry.kind and is_directory(directory, entry.name):
                self._due.add((*self.names,))
                return
            if entry.kind:
                status = new_directory(directory, entry.name)
                self._made[(*self.names,)] = _identity(status)
        elif entry.status:
            self._write_file(upper, directory, entry)
        if entry.kind:
            self._count()

    def _count(self) -> None:
        self.done += 1
        self._last = self._kept.path(DIRECTORY, *self.names)

    def _write_file(self, upper: int, directory: int, entry: Entry) -> None:
        """Write a file, unless it is there as it should be; as a link if it has a name already."""
        assert entry.status
        is_linked = entry.status.st_nlink > 1
        identity = _identity(entry.status)
        if is_linked and identity in self._links and self._link(directory, identity, entry.name):
            return
        if is_due(directory, entry):
            written = replace(upper, directory, entry.name, "/".join(self.names))
        else:
            written = os.stat(entry.name, dir_fd=directory, follow_symlinks=False)
        if is_linked:
            self._links.setdefault(identity, _Known(names=self.names, identity=_identity(written)))

    def _link(self, directory: int, identity: Identity, name: str) -> bool:
        """Make `name` another name of a file that was written; return whether that was possible."""
        first = self._links[identity]
        try:
            there = os.stat(name, dir_fd=directory, follow_symlinks=False)
            if _identity(there) == first.identity:
                return True
        except FileNotFoundError:
            pass
        source, old = _lower(self._finishing.go(first.names[:-1])), first.names[-1]

        def make(temporary: str) -> os.stat_result:
            os.link(old, temporary, src_dir_fd=source, dst_dir_fd=directory, follow_symlinks=False)
            made = os.stat(temporary, dir_fd=directory, follow_symlinks=False)
            if _identity(made) != first.identity:
                raise OSError(errno.EMLINK, _REPLACED)
            return made

        try:
            put(directory, name, make)
        except OSError as error:
            if error.errno in _NO_LINK:
                return False
            raise
        return True


def _lower(here: Sequence[int] | None) -> int:
    """Return the descriptor of the directory to write to, if it is there. Raises OSError."""
    if here is None or len(here) < len(("upper", "lower")):
        raise OSError(errno.EBUSY, _REPLACED)
    return here[1]


def _identity(status: os.stat_result) -> Identity:
    return status.st_dev, status.st_ino
