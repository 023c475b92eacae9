"""Files that appear whole or not at all, for records that programs read.

Runs in the parent. Must not know what is in them.

The directory may be one that others write to, such as /tmp, and the command may do what it likes
with it while it runs. So the path is resolved once, at the beginning, a component at a time; from
then on there is a descriptor of the directory and a name in it. What is found under that name is
looked at before it is removed or replaced, and never opened.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import sys

from pyspaces.errors import UsageFault

_DIRECTORY = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_LINK = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_MOST_LINKS = 40  # MAXSYMLINKS of linux/namei.h
# What link(2) says on a file system that has no hard links, or no more of them.
_NO_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EXDEV)


class Place:
    """Where a file is to appear. Close it when that is over.

    path: as it was given, for people. name: that of the file, once links are followed.
    Raises OSError if there is no such directory, or another user's link is on the way.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self._file = -1
        self._text = b""
        self._directory, self.name = _resolved(path)

    def is_same(self, other: Place) -> bool:
        """Return whether both are one name in one directory."""
        return self.name == other.name and os.path.samestat(
            os.fstat(self._directory), os.fstat(other._directory)
        )

    def fault(self) -> str | None:
        """Try the directory by making a file in it; return what is wrong, or None."""
        try:
            if fault := self._fault_of(self._look()):
                return fault
            trial = temporary_name()
            os.close(os.open(trial, _NEW, 0o600, dir_fd=self._directory))
            os.unlink(trial, dir_fd=self._directory)
        except OSError as error:
            if error.errno == errno.ENOENT and os.fstat(self._directory).st_nlink == 0:
                return "the directory has been removed"
            return error.strerror
        return None

    def clear(self) -> None:
        """Remove what an earlier launch has left there. Raises OSError."""
        if self._look() is not None:
            os.unlink(self.name, dir_fd=self._directory)

    def write(self, text: str) -> None:
        """Write the file. Raises OSError, also if somebody else's is there by now."""
        self._text = text.encode()
        temporary = temporary_name()
        try:
            self._file = os.open(temporary, _NEW, 0o666, dir_fd=self._directory)
            try:
                data = self._text
                while data:
                    data = data[os.write(self._file, data) :]
                self._put(temporary)
            except BaseException:
                self._remove(temporary)
                os.close(self._file)
                self._file = -1
                raise
        except OSError as error:
            raise OSError(error.errno, error.strerror, self.path) from error

    def withdraw(self) -> None:
        """Remove the file that was written, unless it is another one or says something else by now.

        Raises OSError if it cannot be removed, or is gone.
        """
        if self._file < 0 or os.pread(self._file, len(self._text) + 1, 0) != self._text:
            return
        try:
            self._remove(self.name)
        except OSError as error:
            raise OSError(error.errno, error.strerror, self.path) from error

    def close(self) -> None:
        """Release the descriptors; more than once is fine."""
        for descriptor in (self._file, self._directory):
            if descriptor >= 0:
                os.close(descriptor)
        self._file = self._directory = -1

    def _look(self) -> os.stat_result | None:
        try:
            return os.lstat(self.name, dir_fd=self._directory)
        except FileNotFoundError:
            return None

    def _fault_of(self, there: os.stat_result | None) -> str | None:
        if there is None:
            return None
        if not stat.S_ISREG(there.st_mode):
            return "is not a regular file, and would be replaced by one"
        directory = os.fstat(self._directory)
        if _is_shared(directory) and there.st_uid not in (os.geteuid(), directory.st_uid):
            return f"belongs to user {there.st_uid}"
        return None

    def _put(self, temporary: str) -> None:
        """Give the file its name, without taking that from a file which is not ours."""
        here = self._directory
        there = self._look()
        if there is None:
            # Not rename(2), which would replace what somebody puts there at this moment.
            try:
                os.link(temporary, self.name, src_dir_fd=here, dst_dir_fd=here)
                self._remove(temporary)
            except OSError as error:
                if error.errno not in _NO_LINKS:
                    raise
            else:
                return
        elif not stat.S_ISREG(there.st_mode) or there.st_uid != os.geteuid():
            raise FileExistsError(errno.EEXIST, "somebody else has put something there meanwhile")
        os.rename(temporary, self.name, src_dir_fd=here, dst_dir_fd=here)

    def _remove(self, name: str) -> None:
        """Remove a name, if it is the file that was written.

        The descriptor keeps the number of its inode from being given to another file. Between the
        look and unlink(2) only somebody can come who may write to the directory and to whatever is
        in it: in a sticky one, nobody.
        """
        there = os.lstat(name, dir_fd=self._directory)
        if os.path.samestat(there, os.fstat(self._file)):
            os.unlink(name, dir_fd=self._directory)


class StandardOutput:
    """Standard output, which the command has written to as well, in the place of a file."""

    name = "-"

    def __init__(self) -> None:
        # Python found it closed: the number may be that of something else by now.
        if sys.__stdout__ is None:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        self._descriptor = fcntl.fcntl(1, fcntl.F_DUPFD_CLOEXEC, 3)

    def clear(self) -> None:
        """Leave what is there."""

    def write(self, text: str) -> None:
        """Write a text. Raises OSError naming it."""
        data = memoryview(text.encode(errors="surrogateescape"))
        try:
            while data:
                data = data[os.write(self._descriptor, data) :]
        except OSError as error:
            raise OSError(error.errno, error.strerror, "standard output") from None

    def close(self) -> None:
        """Release the descriptor."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
        self._descriptor = -1


def usable_or_standard_output(option: str, path: str) -> Place | StandardOutput:
    """Do the same as `usable`, but for `-`, which is standard output. Raises UsageFault."""
    if path != "-":
        return usable(option, path)
    try:
        return StandardOutput()
    except OSError as error:
        raise UsageFault([f"{option}: standard output: {error.strerror}"]) from None


def usable(option: str, path: str) -> Place:
    """Return the place of the file that an option names, after a test. Raises UsageFault."""
    try:
        place = Place(path)
    except OSError as error:
        raise UsageFault([f"{option}: {path}: {error.strerror}"]) from None
    if fault := place.fault():
        place.close()
        raise UsageFault([f"{option}: {path}: {fault}"])
    return place


def told(error: OSError) -> str:
    """Return an error in one line, with its path."""
    where = f"{error.filename}: " if error.filename else ""
    return f"{where}{error.strerror}"


def temporary_name() -> str:
    """Return a name that nobody can predict."""
    return f".pyspaces-{os.urandom(8).hex()}"


def _resolved(path: str) -> tuple[int, str]:
    """Return a descriptor of the directory that a path leads to, and the name in it."""
    here = _start(path)
    rest = _parts(path)
    links = 0
    try:
        while rest:
            name = rest.pop()
            text = _text_of_link(here, name, last=not rest)
            if text is not None:
                links += 1
                if links > _MOST_LINKS:
                    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
                rest += _parts(text)
                if text.startswith("/"):
                    here = _replaced(here, _start(text))
            elif rest or name == "..":
                here = _replaced(here, os.open(name, _DIRECTORY, dir_fd=here))
            else:
                return here, name
    except BaseException:
        os.close(here)
        raise
    return here, "."


def _start(path: str) -> int:
    return os.open("/" if path.startswith("/") else ".", _DIRECTORY)


def _parts(path: str) -> list[str]:
    """Return the components of a path, the last one first."""
    return [part for part in reversed(path.split("/")) if part not in ("", ".")]


def _replaced(old: int, new: int) -> int:
    os.close(old)
    return new


def _text_of_link(directory: int, name: str, *, last: bool) -> str | None:
    """Return where a symbolic link leads, or None. Raises OSError for a link of another user."""
    try:
        link = os.open(name, _LINK, dir_fd=directory)
    except FileNotFoundError:
        return None
    try:
        facts = os.fstat(link)
        if not stat.S_ISLNK(facts.st_mode):
            return None
        if not _may_follow(facts, os.fstat(directory), last=last):
            raise OSError(errno.EACCES, f"a symbolic link of user {facts.st_uid} is in the way")
        return os.readlink("", dir_fd=link)
    finally:
        os.close(link)


def _may_follow(link: os.stat_result, around: os.stat_result, *, last: bool) -> bool:
    """Return whether a symbolic link counts.

    The rule of proc_sys_fs(5), protected_symlinks, which holds here whatever the sysctl says: in a
    sticky directory that everybody can write to, a link counts if it belongs to us or to the owner
    of the directory. The last link of a path names the very file, which will be removed: that one
    has to be ours or root's wherever it is. The owner of / is root, even if the user
    namespace has no id for root.
    """
    own = os.geteuid()
    if _is_shared(around):
        return link.st_uid in (own, around.st_uid)
    return not last or link.st_uid in (own, 0, os.stat("/").st_uid)


def _is_shared(directory: os.stat_result) -> bool:
    return directory.st_mode & (stat.S_ISVTX | stat.S_IWOTH) == stat.S_ISVTX | stat.S_IWOTH
