"""Write single files of an upper directory into another directory, each as a whole.

Runs in the caller. A file is made under a name that nobody can predict, with everything that
belongs to it, and then renamed: it is the old one or the new one at any time. What is made is known
by its descriptor from then on, and never looked up again: whoever may write to the directory could
have put something else there. What exists is never opened for writing, as it may be a link to a
file elsewhere.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat

from pyspaces.host.overlay.kept import UPPER, check_marks, open_file
from pyspaces.host.overlay.removing import remove
from pyspaces.launch.records.files import temporary_name
from pyspaces.mounts import marks
from pyspaces.mounts.changes import LayerError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_LINK = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_PIECE = 1 << 20
_PRIVATE = 0o700
_OF_OTHERS = 0o077
_REPLACED = "was replaced meanwhile"
_NOT_MAPPED = "has an ACL for a user or group that is not mapped here"
# What copy_file_range(2) says where it cannot copy from one of the two to the other.
_APART = (errno.EXDEV, errno.EINVAL, errno.EOPNOTSUPP, errno.ENOSYS, errno.EPERM, errno.EBADF)


def new_directory(directory: int, name: str) -> os.stat_result:
    """Create a directory for nobody else, in the place of any file; return its status."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(name, dir_fd=directory)
    os.mkdir(name, _PRIVATE, dir_fd=directory)
    made = _held(directory, name)
    try:
        status = os.fstat(made)
        is_ours = status.st_uid == os.geteuid() and not status.st_mode & _OF_OTHERS
        if not stat.S_ISDIR(status.st_mode) or not is_ours:
            raise OSError(errno.EBUSY, _REPLACED)
        # The umask, or a default ACL of the directory, may have taken bits.
        if status.st_mode & _PRIVATE != _PRIVATE:
            os.chmod(_path_of(made), _PRIVATE)
        return status
    finally:
        os.close(made)


def replace(upper: int, directory: int, name: str, path: str) -> os.stat_result:
    """Put the file `name` of `upper` in the place of that in `directory`; return its new status.

    path: of the file, for people. Raises OSError.
    """
    try:
        status = os.stat(name, dir_fd=upper, follow_symlinks=False)
        source = open_file(upper, name) if stat.S_ISREG(status.st_mode) else _held(upper, name)
    except OSError as error:
        raise LayerError(error, path, UPPER) from error
    try:
        check_marks(_path_of(source), path)
        return put(directory, name, lambda temporary: _make(source, directory, temporary))
    finally:
        os.close(source)


def put(directory: int, name: str, make: Callable[[str], os.stat_result]) -> os.stat_result:
    """Let `make` create a file under a name, and rename that to `name`, whatever is there."""
    temporary = temporary_name()
    try:
        made = make(temporary)
        if is_directory(directory, name):
            remove(directory, name)
        os.rename(temporary, name, src_dir_fd=directory, dst_dir_fd=directory)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary, dir_fd=directory)
        raise
    return made


def copy_metadata(source: int, target: int) -> None:
    """Give a file the owner, attributes, mode and times of another: both by their descriptors."""
    new, old = os.fstat(source), os.fstat(target)
    # Descriptors that were opened by O_PATH, as those of links are, do for paths only.
    here, there = _path_of(source), _path_of(target)
    if (new.st_uid, new.st_gid) != (old.st_uid, old.st_gid):
        os.chown(there, new.st_uid, new.st_gid)
    _copy_attributes(here, there)
    # After the others, which may take bits from it.
    if not stat.S_ISLNK(new.st_mode) and os.fstat(target).st_mode != new.st_mode:
        os.chmod(there, stat.S_IMODE(new.st_mode))
        if os.fstat(target).st_mode != new.st_mode:
            raise OSError(errno.EPERM, f"cannot be given the mode {stat.S_IMODE(new.st_mode):04o}")
    if new.st_mtime_ns != old.st_mtime_ns:
        os.utime(there, ns=(new.st_atime_ns, new.st_mtime_ns))


def _copy_attributes(here: str, there: str) -> None:
    new, old = marks.attributes(here), marks.attributes(there)
    for name, value in new.items():
        if old.get(name) != value:
            _set_attribute(there, name, value)
    for name in old.keys() - new.keys():
        os.removexattr(there, name)


def _set_attribute(path: str, name: str, value: bytes) -> None:
    try:
        os.setxattr(path, name, value)
    except OSError as error:
        # An id that is not mapped is read as -1, which no ACL can have (posix_acl_valid).
        if error.errno == errno.EINVAL and name.startswith(marks.ACL):
            raise OSError(errno.EINVAL, _NOT_MAPPED) from error
        raise


def _make(source: int, directory: int, name: str) -> os.stat_result:
    """Create a copy of a file, under a name that is not there yet; return its status."""
    if stat.S_ISREG(os.fstat(source).st_mode):
        return _completed(source, os.open(name, _NEW, 0o600, dir_fd=directory))
    # No descriptor comes with these, so that they are looked up: where nobody has replaced them.
    with _private(directory, name) as own:
        _make_special(source, own, name)
        status = _completed(source, _held(own, name))
        os.rename(name, name, src_dir_fd=own, dst_dir_fd=directory)
        return status


@contextlib.contextmanager
def _private(directory: int, name: str) -> Iterator[int]:
    """Create a directory for nobody else, in which `name` is made and from which it is moved."""
    temporary = temporary_name()
    status = new_directory(directory, temporary)
    own = os.open(temporary, _DIRECTORY, dir_fd=directory)
    try:
        if not os.path.samestat(os.fstat(own), status):
            raise OSError(errno.EBUSY, _REPLACED)
        yield own
    finally:
        with contextlib.suppress(OSError):
            os.unlink(name, dir_fd=own)
        os.close(own)
        with contextlib.suppress(OSError):
            os.rmdir(temporary, dir_fd=directory)


def _make_special(source: int, directory: int, name: str) -> None:
    """Create a link, a device, a FIFO or a socket, which is nobody else's for now."""
    status = os.fstat(source)
    if stat.S_ISLNK(status.st_mode):
        os.symlink(os.readlink("", dir_fd=source), name, dir_fd=directory)
    else:
        made = stat.S_IFMT(status.st_mode) | 0o600
        os.mknod(name, made, status.st_rdev, dir_fd=directory)


def _completed(source: int, target: int) -> os.stat_result:
    """Give a new file what the source has, and close it; return its status."""
    try:
        kind, there = os.fstat(source).st_mode, os.fstat(target)
        if there.st_nlink != 1 or stat.S_IFMT(there.st_mode) != stat.S_IFMT(kind):
            raise OSError(errno.EBUSY, _REPLACED)
        if stat.S_ISREG(kind):
            _copy_content(source, target)
        copy_metadata(source, target)
        return os.fstat(target)
    finally:
        os.close(target)


def _copy_content(source: int, target: int) -> None:
    """Copy a file as long as it is now, with its holes."""
    size = os.fstat(source).st_size
    os.ftruncate(target, size)
    at = 0
    while at < size:
        try:
            start = os.lseek(source, at, os.SEEK_DATA)
            at = min(os.lseek(source, start, os.SEEK_HOLE), size)
        except OSError as error:
            if error.errno != errno.ENXIO:
                raise
            return  # nothing but a hole, or cut off meanwhile
        _copy_range(source, target, start, at)


def _copy_range(source: int, target: int, start: int, end: int) -> None:
    """Copy some bytes: by the kernel, which may share them, or else piece by piece."""
    copies = True
    while start < end:
        done = 0
        if copies:
            try:
                done = os.copy_file_range(source, target, end - start, start, start)
            except OSError as error:
                if error.errno not in _APART:
                    raise
            copies = done > 0
        if not done:
            piece = os.pread(source, min(_PIECE, end - start), start)
            if not piece:
                return
            done = os.pwrite(target, piece, start)
        start += done


def is_directory(directory: int, name: str) -> bool:
    """Return whether a name is that of a directory, and not of a link to one."""
    try:
        return stat.S_ISDIR(os.stat(name, dir_fd=directory, follow_symlinks=False).st_mode)
    except FileNotFoundError:
        return False


def _held(directory: int, name: str) -> int:
    """Open any file, only to name it."""
    return os.open(name, _LINK, dir_fd=directory)


def _path_of(descriptor: int) -> str:
    return f"/proc/self/fd/{descriptor}"
