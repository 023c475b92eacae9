"""Mount attributes by mount(2), which takes paths, for kernels before Linux 5.12.

Runs in the child.
"""

from __future__ import annotations

import errno
import os

from pyspaces.kernel import constants, libc, mountinfo, procfs
from pyspaces.kernel.libc import KernelError

# As far as remounts are concerned, MS_* and ST_* (of statvfs(3)) have the same bits.
_KEPT = constants.MS_RDONLY | constants.MS_NOSUID | constants.MS_NODEV | constants.MS_NOEXEC


def remount_inner(mount: int, attributes: int, *, cleared: int = 0) -> None:
    """Set `attributes` of one mount, and clear those in `cleared`, with mount(2).

    In a user namespace, the flags that a mount had outside are locked, and a remount without one of
    them fails with EPERM: mount_namespaces(7). The kernel keeps those of access times by itself.
    """
    # MOUNT_ATTR_RDONLY, _NOSUID, _NODEV and MS_* of these names are the same bits.
    flags = constants.MS_REMOUNT | constants.MS_BIND | attributes
    flags |= os.fstatvfs(mount).f_flag & _KEPT & ~cleared
    libc.mount(None, f"/proc/self/fd/{mount}", None, flags)  # /proc is still that of the old root


def remount_beneath_inner(top: int, path: str, number: int, attributes: int) -> None:
    """Set attributes of the mount `number`, which is at `path` below `top`.

    A covered mount has no path: nobody can reach it, and it is left as it is.
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
    """Return the number, and the path below `top`, of each mount beneath the one at `top`."""
    rows = {row.number: row for row in mountinfo.mounts()}
    first = procfs.mount_number(top)
    prefix = rows[first].point.rstrip("/")
    return [
        (number, row.point.removeprefix(prefix))
        for number, row in rows.items()
        if first in mountinfo.line_of(rows, number)[1:]
    ]
