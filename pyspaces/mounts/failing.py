"""What failed while a tree was built, and of which operation.

Runs in the child.
"""

from __future__ import annotations

import errno
import os
import stat

from pyspaces.errors import Refusal
from pyspaces.kernel.libc import KernelError


class Doing:
    """Context in which whatever fails is told as a failure of one operation."""

    def __init__(self, stage: str) -> None:
        self._stage = stage

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, Refusal):
            error.stage = self._stage
        elif isinstance(error, OSError):
            call = error.call if isinstance(error, KernelError) else ""
            path = None if error.filename is None else os.fsdecode(error.filename)
            told = Refusal(number=error.errno or 0, what=call, path=path)
            told.stage = self._stage
            raise told from error


def refused_making(error: OSError, path: str, parent: int) -> Refusal:
    """Return the error for something that could not be made at `path`, in the folder `parent`."""
    number = error.errno or 0
    if number != errno.EEXIST:
        return Refusal(number=number, path=path)
    name = path.rstrip("/").rpartition("/")[2]
    if stat.S_ISLNK(os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode):
        return Refusal("is a symbolic link that leads nowhere inside", path=path)
    return Refusal(number=errno.ENOTDIR, path=path)
