"""What is done by mount(2), which takes paths, where the kernel has no calls for descriptors.

Runs in the child.
"""

from __future__ import annotations

import os

from pyspaces.kernel import constants, libc, procfs

# As far as remounts are concerned, MS_* and ST_* (of statvfs(3)) have the same bits.
_KEPT = constants.MS_RDONLY | constants.MS_NOSUID | constants.MS_NODEV | constants.MS_NOEXEC


def place(descriptor: int) -> str:
    """Return a path for mount(2), which takes no descriptors; the old root's /proc is there yet."""
    return f"/proc/self/fd/{descriptor}"


def remount_inner(mount: int, attributes: int) -> None:
    """Set attributes of one mount with mount(2).

    In a user namespace the flags that a mount had outside are locked, and a remount that leaves
    one out is EPERM: mount_namespaces(7). The kernel keeps those of access times by itself.
    """
    # MOUNT_ATTR_RDONLY, _NODEV and MS_RDONLY, MS_NODEV are the same bits.
    flags = constants.MS_REMOUNT | constants.MS_BIND | attributes
    libc.mount(None, place(mount), None, flags | os.fstatvfs(mount).f_flag & _KEPT)


def beneath(top: int) -> list[str]:
    """Return the paths, from `top` on, of the mounts beneath the mount that it is the root of."""
    rows = {number: (above, point) for number, above, point, _ in procfs.mount_rows()}
    first = procfs.mount_number(top)
    prefix = rows[first][1].rstrip("/")
    found = []
    for number, (above, point) in rows.items():
        up = above
        while up in rows and up != first:
            up = rows[up][0]
        if up == first and number != first:
            found.append(point.removeprefix(prefix))
    return found
