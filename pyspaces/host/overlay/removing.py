"""Remove what an overlay has deleted: a file, or a directory with all that is in it.

Runs in the caller. Follows no link, stays on the file system, and handles any depth.
"""

from __future__ import annotations

import os
import stat

from pyspaces.mounts.changes import Place, Way, opened


def remove(directory: int, name: str) -> None:
    """Remove `name` from a directory. Raises OSError; a missing one is none."""
    try:
        status = os.stat(name, dir_fd=directory, follow_symlinks=False)
        if not stat.S_ISDIR(status.st_mode):
            os.unlink(name, dir_fd=directory)
            return
    except FileNotFoundError:
        return
    top = opened(directory, name, contained=True)
    if top is None:
        raise NotADirectoryError("was replaced meanwhile")
    try:
        _clear(top)
    finally:
        os.close(top)
    os.rmdir(name, dir_fd=directory)


def _clear(top: int) -> None:
    """Remove all that is in a directory, the deepest first."""
    with Way(top, (), contained=True) as way:
        pending = [(Place(above=None, name=""), False)]
        while pending:
            place, is_empty = pending.pop()
            if is_empty:
                if place.above is not None and (above := way.go(place.above.names())):
                    os.rmdir(place.name, dir_fd=above[0])
                continue
            here = way.go(place.names())
            if here is None:
                continue
            pending.append((place, True))
            pending += [(Place(above=place, name=name), False) for name in _unlinked(here[0])]


def _unlinked(directory: int) -> list[str]:
    """Unlink all but the directories, and return the names of these."""
    left = []
    for name in os.listdir(directory):
        if stat.S_ISDIR(os.stat(name, dir_fd=directory, follow_symlinks=False).st_mode):
            left.append(name)
        else:
            os.unlink(name, dir_fd=directory)
    return left
