"""What /proc and /sys let user 0 of the host do to all of it, taken out of the command's reach.

Runs in the child, in its mount namespace, before the root changes. Loaded where a plan asks for it.
"""

from __future__ import annotations

import os
import stat

from pyspaces.errors import Refusal
from pyspaces.kernel import constants, libc, mountinfo, procfs
from pyspaces.kernel.libc import KernelError
from pyspaces.mounts.tree import NO_SUID, READ_ONLY, Tree
from pyspaces.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from pyspaces.kernel.mountinfo import Mount

# The lists of the OCI runtimes: config.md of the runtime-spec, oci/defaults.go of moby.
KEPT_AS_IT_IS = ("bus", "fs", "irq", "sys", "sysrq-trigger")
HIDDEN = (
    *("acpi", "asound", "kcore", "keys", "latency_stats"),
    *("sched_debug", "scsi", "timer_list", "timer_stats"),
)
_EMPTY = constants.MS_NOSUID | constants.MS_NODEV | constants.MS_RDONLY
_INSIDE = constants.RESOLVE_BENEATH | constants.RESOLVE_NO_SYMLINKS
_PROC_ROOT_INO = 1  # linux/proc_fs.h
_MOST_TRIES = 100


class Guard(Record):
    """What to close. builds_tree: whether the root to be is the working directory.

    sysfs: whether all of /sys is closed, too.
    """

    builds_tree: bool
    sysfs: bool

    def guard_inner(self) -> None:
        """Make what is the host's in every whole /proc read-only, or hide it. Raises KernelError.

        Files in /proc/sys belong to user 0 of the host, who needs no capability to write to them
        (test_perm() of fs/proc/proc_sysctl.c); everybody else cannot, whatever the capabilities in
        a user namespace. So where that user is not inside, there is nothing to do, and with nothing
        mounted over it /proc stays one by which the kernel allows launches inside a fresh one.
        """
        if not _is_host_root_inside():
            return
        place = "." if self.builds_tree else "/"
        root = os.open(place, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        null = os.open("/dev/null", os.O_PATH | os.O_CLOEXEC)
        tree = Tree()
        tree.begin_inner(root)
        try:
            for top in _whole_ones_inner(root):
                _guard_one_inner(tree, top, null)
                os.close(top)
            _guard_sysfs_inner(tree, null, whole=self.sysfs)
        finally:
            tree.end_inner()
            os.close(null)


def _is_host_root_inside() -> bool:
    """Tell whether user 0 of the host is anybody in this user namespace."""
    try:
        owner = os.stat("/proc/sys/kernel/ostype").st_uid
    except OSError:
        return True
    return str(owner) != procfs.sysctl("kernel.overflowuid")


def _whole_ones_inner(root: int) -> list[int]:
    """Open each procfs beneath the root that can be reached, and shows all of itself."""
    found = []
    for _ in range(_MOST_TRIES):
        rows = {row.number: row for row in mountinfo.mounts()}
        first = procfs.mount_number(root)
        # Somebody may be renaming what leads there: once more, for all of them.
        missed = False
        for number, row in rows.items():
            if row.kind != "proc" or first not in mountinfo.line_of(rows, number):
                continue
            top = _open_inner(root, row.point, number)
            if top is not None:
                found.append(top)
            elif not _is_covered(rows, number):
                missed = True
        if not missed:
            return [top for top in found if _is_whole(top)]
        for top in found:
            os.close(top)
        found = []
    raise Refusal("a /proc is renamed all the time")


def _is_whole(top: int) -> bool:
    if os.fstat(top).st_ino == _PROC_ROOT_INO:
        return True
    os.close(top)
    return False


def _open_inner(root: int, path: str, number: int) -> int | None:
    for way, resolve in ((path, constants.RESOLVE_IN_ROOT), (".", 0)):
        try:
            top = libc.openat2(root, way, os.O_PATH, resolve)
        except KernelError:
            continue
        if procfs.mount_number(top) == number:
            return top
        os.close(top)
    return None


def _is_covered(rows: Mapping[int, Mount], number: int) -> bool:
    """Tell whether another mount lies over this one, or over what leads to it."""
    path, line = rows[number].point, mountinfo.line_of(rows, number)
    return any(
        f"{path}/".startswith(f"{row.point.rstrip('/')}/") and other not in line
        for other, row in rows.items()
    )


def _guard_one_inner(tree: Tree, top: int, null: int) -> None:
    for name in KEPT_AS_IT_IS:
        if (point := _look_inner(top, name)) is not None:
            source = tree.copy_inner(os.dup(point))
            tree.attach_inner(source, point, READ_ONLY)
            os.close(source)
    for name in HIDDEN:
        if (point := _look_inner(top, name)) is not None:
            _hide_inner(tree, point, f"/proc/{name}", null)


def _guard_sysfs_inner(tree: Tree, null: int, *, whole: bool) -> None:
    """Hide the firmware, whose tables tell of the machine; and make all of /sys read-only."""
    top = tree.look_inner("/sys")
    if top is None:
        return
    if mountinfo.kind_of(top) == "sysfs":
        if (point := _look_inner(top, "firmware")) is not None:
            _hide_inner(tree, point, "/sys/firmware", null)
        if whole:
            tree.restrict_inner(top, READ_ONLY, recursive=True)
    os.close(top)


def _hide_inner(tree: Tree, point: int, path: str, null: int) -> None:
    if stat.S_ISDIR(os.fstat(point).st_mode):
        data = "mode=0555,nr_inodes=1"
        os.close(tree.fresh_on_inner(point, path, "tmpfs", _EMPTY, data))
        return
    source = tree.copy_inner(os.dup(null))
    tree.attach_inner(source, point, READ_ONLY | NO_SUID)
    os.close(source)


def _look_inner(top: int, name: str) -> int | None:
    """Open what a file system of the kernel has of that name; None where it has nothing."""
    try:
        return libc.openat2(top, name, os.O_PATH, _INSIDE)
    except KernelError:
        return None
