"""What is done by mount(2), which takes paths, where the kernel has no calls for descriptors.

Runs in the child.
"""

from __future__ import annotations

import errno
import os

from pyspaces.errors import Refusal
from pyspaces.kernel import constants, libc, procfs
from pyspaces.kernel.libc import KernelError

# As far as remounts are concerned, MS_* and ST_* (of statvfs(3)) have the same bits.
_KEPT = constants.MS_RDONLY | constants.MS_NOSUID | constants.MS_NODEV | constants.MS_NOEXEC


_MOST_TRIES = 100


def place(descriptor: int) -> str:
    """Return a path for mount(2), which takes no descriptors; the old root's /proc is there yet."""
    return f"/proc/self/fd/{descriptor}"


def bind_inner(source: int, point: int, root: int, scratch: int) -> int:
    """Do what open_tree(2) and move_mount(2) do; return the root of the copy.

    root: the root to be, which `point` is beneath. scratch: the folder of ours that nobody sees,
    which is unbindable; -1 for none.
    """
    own = scratch >= 0 and os.fstat(source).st_dev == os.fstat(scratch).st_dev
    if own:
        libc.mount(None, place(scratch), None, constants.MS_PRIVATE)
    try:
        with _Topmost(point, root) as topmost:
            libc.mount(place(source), place(point), None, constants.MS_BIND | constants.MS_REC)
            return topmost.open_inner()
    finally:
        if own:
            libc.mount(None, place(scratch), None, constants.MS_UNBINDABLE)


def fresh_inner(point: int, root: int, kind: str, flags: int, data: str) -> int:
    """Mount a new file system over what `point` is open on; return its root."""
    with _Topmost(point, root) as topmost:
        # Not by fchdir(2), which may be refused: what is masked need not let us in.
        libc.mount(kind, place(point), kind, flags, data)
        return topmost.open_inner()


class _Topmost:
    """Context in which something is mounted over `point`, and what that is can then be opened.

    A descriptor of a mount point leads beneath what is mounted there, and its path may lead
    elsewhere by now. So what is found by the path has to be the one mount that was not there.
    """

    def __init__(self, point: int, root: int) -> None:
        self._point = point
        self._root = root
        self._before: set[int] = set()

    def __enter__(self) -> _Topmost:
        self._before = {number for number, _, _, _ in procfs.mount_rows()}
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def open_inner(self) -> int:
        """Open the root of what was mounted. Raises Refusal where it is not found."""
        above = procfs.mount_number(self._point)
        for _ in range(_MOST_TRIES):
            for number, up, path, _ in procfs.mount_rows():
                if number not in self._before and up == above:
                    # What covers the root itself is where its ".." leads.
                    for way, resolve in ((path, constants.RESOLVE_IN_ROOT), ("..", 0)):
                        if (top := self._open_inner(way, resolve, number)) is not None:
                            return top
        path = os.readlink(place(self._point))
        raise Refusal("it was renamed while something was mounted on it", path=path)

    def _open_inner(self, path: str, resolve: int, number: int) -> int | None:
        try:
            top = libc.openat2(self._root, path, os.O_PATH, resolve)
        except KernelError:
            return None
        if procfs.mount_number(top) == number:
            return top
        os.close(top)
        return None


def remount_inner(mount: int, attributes: int, *, cleared: int = 0) -> None:
    """Set, and clear, attributes of one mount with mount(2).

    In a user namespace the flags that a mount had outside are locked, and a remount that leaves
    one out is EPERM: mount_namespaces(7). The kernel keeps those of access times by itself.
    """
    # MOUNT_ATTR_RDONLY, _NOSUID, _NODEV and MS_* of these names are the same bits.
    flags = constants.MS_REMOUNT | constants.MS_BIND | attributes
    libc.mount(None, place(mount), None, flags | os.fstatvfs(mount).f_flag & _KEPT & ~cleared)


def remount_beneath_inner(top: int, path: str, number: int, attributes: int) -> None:
    """Set attributes of the mount `number`, which is at `path` from `top` on.

    One that another covers has no path: nobody can reach it either, and it is left as it is.
    """
    try:
        below = libc.openat2(top, path, os.O_PATH, constants.RESOLVE_IN_ROOT)
    except KernelError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR):
            return
        raise
    if procfs.mount_number(below) == number:
        remount_inner(below, attributes)
    os.close(below)


def beneath(top: int) -> list[tuple[int, str]]:
    """Return number and path, from `top` on, of the mounts beneath that which it is the root of."""
    rows = {number: (above, point) for number, above, point, _ in procfs.mount_rows()}
    first = procfs.mount_number(top)
    prefix = rows[first][1].rstrip("/")
    found = []
    for number, (above, point) in rows.items():
        up = above
        while up in rows and up != first:
            up = rows[up][0]
        if up == first and number != first:
            found.append((number, point.removeprefix(prefix)))
    return found
