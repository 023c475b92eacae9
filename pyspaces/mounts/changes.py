"""What was changed in an overlay: its upper folder, compared with the folders that it lies over.

Runs in a process that may read both: in that of the launcher's own, joined to the user namespace
of the command. The marks are those of Documentation/filesystems/overlayfs.rst of the kernel.
"""

from __future__ import annotations

import os
import stat

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

ADDED, CHANGED, DELETED = "added", "changed", "deleted"
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
_PIECE = 1 << 20
# In a user namespace the second; the kernel writes "y" for a folder that hides all beneath it.
_OPAQUE = ("trusted.overlay.opaque", "user.overlay.opaque")


def changes(upper: int, lower: Sequence[int], path: str) -> Iterator[tuple[str, str]]:
    """Yield what was changed, ADDED, CHANGED or DELETED and its path, in the order of the paths.

    upper: a descriptor of the folder with the changes. lower: those of the folders beneath it,
    the topmost first; fewer where some have no such folder. path: of the folder, as it reads
    inside. A file that was opened for writing and is as it was has not changed, whatever its time.
    What cannot be read beneath could not be changed by the command either, but replaced.
    """
    for name in sorted({*os.listdir(upper), *_hidden(upper, lower)}):
        place = f"{path.rstrip('/')}/{name}"
        new, old = _status(upper, name), _topmost(lower, name)
        if new is None or _is_whiteout(new):
            if old is not None:
                yield DELETED, place
            continue
        if old is None:
            yield ADDED, place
        elif _differ(upper, name, new, *old):
            yield CHANGED, place
        if stat.S_ISDIR(new.st_mode):
            yield from _beneath(upper, lower, name, place)


def _beneath(upper: int, lower: Sequence[int], name: str, place: str) -> Iterator[tuple[str, str]]:
    """Yield the changes in the folder `name`, which is in `upper`."""
    opened = [os.open(name, _FOLDER, dir_fd=upper)]
    try:
        for folder in lower:
            status = _status(folder, name)
            if status is None:
                continue
            # Anything but a folder hides those of the same name beneath it.
            if not stat.S_ISDIR(status.st_mode):
                break
            try:
                opened.append(os.open(name, _FOLDER, dir_fd=folder))
            except PermissionError:
                continue
        yield from changes(opened[0], opened[1:], place)
    finally:
        for descriptor in opened:
            os.close(descriptor)


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
        return os.readlink(name, dir_fd=upper) != os.readlink(name, dir_fd=folder)
    return new.st_rdev != old.st_rdev


def _same_content(upper: int, folder: int, name: str) -> bool:
    new = os.open(name, _FILE, dir_fd=upper)
    try:
        try:
            old = os.open(name, _FILE, dir_fd=folder)
        except PermissionError:
            return False
        try:
            while (piece := os.read(new, _PIECE)) == os.read(old, _PIECE):
                if not piece:
                    return True
            return False
        finally:
            os.close(old)
    finally:
        os.close(new)
