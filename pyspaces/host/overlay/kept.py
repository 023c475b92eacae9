"""An upper directory that was kept, and the directory that it was laid over.

Runs in the caller. Changes nothing. Whatever is in the two may be of others, who may change it
meanwhile: names are opened one by one, on the file systems of the two, and no link is followed.
"""

from __future__ import annotations

import errno
import os
import shlex
import stat

from pyspaces.errors import SpaceError, UsageFault
from pyspaces.kernel import constants, mountapi, nsfs, procfs
from pyspaces.mounts import changes, marks
from pyspaces.mounts.changes import LayerError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pyspaces.mounts.changes import Entry

    Names = list[str]

_TOP = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
UPPER, DIRECTORY = 0, 1  # the layers
# Whatever is written there would have to be written there: that has no end.
_WITHIN = "is the directory to compare with, and within the one with the changes"
_OUTSIDE = "run this as root, outside of user namespaces"
_ORDER = "give the directory that took the changes, and then the one that the overlay was laid over"


class Refused(OSError):
    """A file that is not what it should be: the reason in words, and the cure if it has its own."""

    def __init__(self, why: str, path: str, layer: int, cure: str = "") -> None:
        super().__init__(0, why, path)
        self.layer = layer
        self.cure = cure


class Kept:
    """The two directories, open. Close it, or use it as a context.

    task: the command that is at work, for cures. Raises SpaceError if one cannot be opened, and
    UsageFault if both are the same.
    """

    def __init__(self, upper: str, directory: str, task: str) -> None:
        self.task = task
        self.paths = (upper, directory)
        self.upper = _opened(upper)
        try:
            self.directory = _opened(directory)
        except BaseException:
            os.close(self.upper)
            raise
        if os.path.samestat(os.fstat(self.upper), os.fstat(self.directory)):
            self.close()
            raise UsageFault([f"overlay: {upper} and {directory} are the same directory"])

    def __enter__(self) -> Kept:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Release the descriptors."""
        os.close(self.upper)
        os.close(self.directory)

    def path(self, layer: int, *names: str) -> str:
        """Return the path of a file for people."""
        return "/".join([self.paths[layer].rstrip("/"), *names])

    def changes(self, *, to_apply: bool = False) -> Iterator[tuple[str, str]]:
        """Yield what `upper` changes: ADDED, CHANGED or DELETED, and the path in the directory.

        to_apply: whether to see that this process may create the files as they are. Raises
        SpaceError for what cannot be read, or would mean something else.
        """
        try:
            for names, here, entries in changes.walk(self.upper, [self.directory], contained=True):
                _check_directory(names, here)
                if names and os.path.samestat(os.fstat(here[UPPER]), os.fstat(self.directory)):
                    raise Refused(_WITHIN, "/".join(names), UPPER, _ORDER)
                for entry in entries:
                    _check(here, names, entry, to_apply=to_apply)
                    if entry.kind:
                        yield entry.kind, self.path(DIRECTORY, *names, entry.name)
        except OSError as error:
            raise self.error(error) from error

    def error(
        self, error: OSError, names: Names | None = None, details: tuple[str, ...] = ()
    ) -> SpaceError:
        """Return an error in words, with the cure if it is known.

        names: where it happened in the directory, if the error does not say.
        """
        layer, path = DIRECTORY, "/".join(names or ())
        if isinstance(error, LayerError | Refused):
            layer, path = error.layer, os.fsdecode(error.filename or "")
        where = self.path(layer, *[path] if path else [])
        message = f"overlay: {where}: {_reason(error)}"
        return SpaceError(message, details=details, hint=self._cure(error, where))

    def _cure(self, error: OSError, where: str) -> str | None:
        if isinstance(error, Refused):
            if error.cure:
                return error.cure
        elif error.errno not in (errno.EACCES, errno.EPERM, errno.EINVAL, errno.EOVERFLOW):
            return None
        if _is_root_of_the_host():
            return None
        # To be root in a user namespace is what has not helped: an id is not mapped.
        is_root = error.errno == errno.EINVAL or procfs.has_capability(constants.CAP_CHOWN)
        if is_root and _is_in_a_user_namespace():
            return _OUTSIDE
        options = "--user" if _is_own(where) else "--user --map-auto"
        words = " ".join(map(shlex.quote, self.paths))
        line = f"pyspaces run {options} -- pyspaces overlay {self.task} {words}"
        return f"be root where its owner is mapped: {line}"


def is_due(directory: int, entry: Entry) -> bool:
    """Return whether a file, not a directory, has to be written: it has changed, or its time."""
    if entry.status is None or entry.is_directory():
        return False
    if entry.kind:
        return True
    old = os.stat(entry.name, dir_fd=directory, follow_symlinks=False)
    return old.st_mtime_ns != entry.status.st_mtime_ns


def may_give(uid: int, gid: int) -> bool:
    """Return whether this process may create files of this owner and group."""
    if procfs.has_capability(constants.CAP_CHOWN):
        return _is_mapped("uid_map", uid) and _is_mapped("gid_map", gid)
    return uid == os.geteuid() and gid in (os.getegid(), *os.getgroups())


def open_file(directory: int, name: str) -> int:
    """Open a file to read it, without waiting or following a link. Raises OSError."""
    return mountapi.openat2(directory, name, _FILE, changes.CONTAINED)


def _opened(path: str) -> int:
    try:
        return os.open(path, _TOP)
    except OSError as error:
        raise SpaceError(f"overlay: {path}: {error.strerror}") from error


def _is_own(path: str) -> bool:
    try:
        return os.lstat(path).st_uid == os.geteuid()
    except OSError:
        return False


def _is_mapped(name: str, number: int) -> bool:
    return any(first <= number < first + count for first, _, count in procfs.id_map(name, "self"))


def _is_root_of_the_host() -> bool:
    """Return whether this process reads every attribute, and gives files to everybody."""
    return not _is_in_a_user_namespace() and procfs.has_capability(constants.CAP_SYS_ADMIN)


def _is_in_a_user_namespace() -> bool:
    return nsfs.inode_of(os.readlink("/proc/self/ns/user")) != constants.PROC_USER_INIT_INO


def _check(here: Sequence[int], names: Names, entry: Entry, *, to_apply: bool) -> None:
    """Raise OSError for a file that means something else, or cannot be created as it is."""
    status = entry.status
    if status is None:
        return
    path = "/".join([*names, entry.name])
    if stat.S_ISREG(status.st_mode):
        _check_file(here[0], entry.name, path)
    is_written = entry.kind or (len(here) > 1 and is_due(here[1], entry))
    if to_apply and is_written and not may_give(status.st_uid, status.st_gid):
        whose = f"user {status.st_uid} and group {status.st_gid}"
        raise Refused(f"belongs to {whose}, to whom you cannot give files", path, UPPER)


def _check_file(directory: int, name: str, path: str) -> None:
    try:
        descriptor = open_file(directory, name)
    except OSError as error:
        raise LayerError(error, path, UPPER) from error
    try:
        check_marks(descriptor, path)
    finally:
        os.close(descriptor)


def check_marks(where: int | str, path: str) -> None:
    """Raise Refused if a file in the upper directory refers to another one.

    where: a descriptor, or a path such as /proc/self/fd/N. path: for people.
    """
    if mark := marks.foreign(where):
        cure = "mount the overlay, and copy what you want from there"
        raise Refused(f"has the mark {mark}, which refers to something else", path, UPPER, cure)


def _check_directory(names: Names, here: Sequence[int]) -> None:
    check_marks(here[0], "/".join(names))
    if not names or len(here) < len(("upper", "lower")) or _is_root_of_the_host():
        return
    # Whether it hides what is below then only root of the host can read.
    roots = os.stat("/proc/sys/kernel/ostype").st_uid
    if os.fstat(here[0]).st_uid == roots and not marks.has_marks_of_users(here[0]):
        why = "belongs to root of the host, who alone can read its marks"
        raise Refused(why, "/".join(names), UPPER, _OUTSIDE)


def _reason(error: OSError) -> str:
    if error.errno == errno.EXDEV:
        return "is on another file system"
    return error.strerror or "unknown error"
