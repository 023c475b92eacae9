"""Remove a directory in which a command may have put anything.

Runs in the worker. Follows no symbolic link. Neither descriptors nor the stack grow with the depth,
as those of shutil.rmtree do: a few lines make a thousand directories in each other.
"""

from __future__ import annotations

import os
import stat
from contextlib import suppress

_OPEN = os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def remove(path: str) -> None:
    """Remove a directory; what cannot be removed stays. A missing one is none."""
    with suppress(OSError):
        top = _opened(path)
        try:
            _clear(top)
        finally:
            os.close(top)
        os.rmdir(path)


def _clear(top: int) -> None:
    """Remove what is in a directory. What is in those in it is moved up here first."""
    moved = f"pyspaces-{os.urandom(8).hex()}-"
    count = 0
    pending = _unlinked(top)
    while pending:
        name = pending.pop()
        with suppress(OSError):
            one = _opened(name, top)
            try:
                for other in _unlinked(one):
                    count += 1
                    os.rename(other, f"{moved}{count}", src_dir_fd=one, dst_dir_fd=top)
                    pending.append(f"{moved}{count}")
            finally:
                os.close(one)
            os.rmdir(name, dir_fd=top)


def _opened(name: str, above: int | None = None) -> int:
    """Return a descriptor of a directory, whose owner may do all with it from then on."""
    there = os.open(name, os.O_PATH | _OPEN, dir_fd=above)
    try:
        with suppress(OSError):  # that of another user
            # By the descriptor: chmod(2) of a name would follow a link that has taken its place.
            os.chmod(f"/proc/self/fd/{there}", 0o700)
        return os.open(".", os.O_RDONLY | _OPEN, dir_fd=there)
    finally:
        os.close(there)


def _unlinked(directory: int) -> list[str]:
    """Unlink all but the directories, and return the names of these, which can be moved then."""
    left = []
    for name in os.listdir(directory):
        with suppress(OSError):
            if stat.S_ISDIR(os.stat(name, dir_fd=directory, follow_symlinks=False).st_mode):
                os.close(_opened(name, directory))  # to move it, it has to be writable itself
                left.append(name)
            else:
                os.unlink(name, dir_fd=directory)
    return left
