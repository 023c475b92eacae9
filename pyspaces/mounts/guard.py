"""Protect what /proc and /sys would let user 0 of the host change, or read, from the command.

Runs in the child, in its mount namespace, before the root changes. Loaded only if needed.
"""

from __future__ import annotations

import os

from pyspaces.errors import Refusal
from pyspaces.kernel import constants, mountapi, mountinfo, procfs
from pyspaces.kernel.libc import KernelError
from pyspaces.mounts.tree import READ_ONLY, Tree
from pyspaces.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from pyspaces.kernel.mountinfo import Mount

# The lists of the OCI runtimes: config.md of the runtime-spec, oci/defaults.go of moby.
READ_ONLY_NAMES = ("bus", "fs", "irq", "sys", "sysrq-trigger")
HIDDEN_NAMES = (
    *("acpi", "asound", "kcore", "keys", "latency_stats"),
    *("sched_debug", "scsi", "timer_list", "timer_stats"),
)
_INSIDE = constants.RESOLVE_BENEATH | constants.RESOLVE_NO_SYMLINKS
_MOST_TRIES = 100


class Guard(Record):
    """What to protect.

    builds_tree: whether the new root is the working directory. sysfs: whether to make all of /sys
    read-only, too.
    """

    builds_tree: bool
    sysfs: bool

    def guard_inner(self) -> None:
        """Make the host's files in every whole /proc read-only, or hide them. Raises KernelError.

        Files in /proc/sys belong to user 0 of the host, who needs no capability to write to them
        (test_perm() of fs/proc/proc_sysctl.c); nobody else can, whatever the capabilities in a user
        namespace. So if that user is not mapped inside, nothing is done, and with nothing mounted
        over it, /proc still allows the kernel to mount another one in nested launches.
        """
        if not _is_host_root_inside():
            return
        place = "." if self.builds_tree else "/"
        root = os.open(place, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        null = os.open("/dev/null", os.O_PATH | os.O_CLOEXEC)
        tree = Tree(root=root)
        try:
            for top in _open_procs_inner(root):
                _guard_proc_inner(tree, top, null)
                os.close(top)
            _guard_sysfs_inner(tree, null, whole=self.sysfs)
        finally:
            os.close(tree.root)
            os.close(null)


def _is_host_root_inside() -> bool:
    """Return whether user 0 of the host is mapped in this user namespace."""
    try:
        owner = os.stat("/proc/sys/kernel/ostype").st_uid
    except OSError:
        return True
    return str(owner) != procfs.sysctl("kernel.overflowuid")


def _open_procs_inner(root: int) -> list[int]:
    """Open each procfs beneath the root that can be reached and is mounted as a whole."""
    for _ in range(_MOST_TRIES):
        found = []
        rows = {row.number: row for row in mountinfo.mounts()}
        first = mountapi.mount_number(root)
        # Somebody may be renaming what leads to one: then all are looked up again.
        missed = False
        for number, row in rows.items():
            if row.kind != "proc" or first not in mountinfo.line_of(rows, number):
                continue
            top = _open_inner(root, row.point, number)
            if top is not None:
                found.append(top)
            elif not _is_covered(rows, number):
                missed = True
        whole = [
            top for top in found if not missed and os.fstat(top).st_ino == constants.PROC_ROOT_INO
        ]
        for top in {*found}.difference(whole):
            os.close(top)
        if not missed:
            return whole
    raise Refusal("a /proc is renamed all the time")


def _open_inner(root: int, path: str, number: int) -> int | None:
    for way, resolve in ((path, constants.RESOLVE_IN_ROOT), (".", 0)):
        try:
            top = mountapi.openat2(root, way, os.O_PATH, resolve)
        except KernelError:
            continue
        if mountapi.mount_number(top) == number:
            return top
        os.close(top)
    return None


def _is_covered(rows: Mapping[int, Mount], number: int) -> bool:
    """Return whether another mount covers this one, or what leads to it."""
    path, line = rows[number].point, mountinfo.line_of(rows, number)
    return any(
        f"{path}/".startswith(f"{row.point.rstrip('/')}/") and other not in line
        for other, row in rows.items()
    )


def _guard_proc_inner(tree: Tree, top: int, null: int) -> None:
    for name in READ_ONLY_NAMES:
        if (point := _look_inner(top, name)) is not None:
            tree.cover_inner(point, point, READ_ONLY)
    for name in HIDDEN_NAMES:
        if (point := _look_inner(top, name)) is not None:
            tree.hide_inner(point, f"/proc/{name}", null)


def _guard_sysfs_inner(tree: Tree, null: int, *, whole: bool) -> None:
    """Hide the tables of the firmware, which describe the machine. whole: as in Guard.sysfs."""
    top = tree.look_inner("/sys")
    if top is None:
        return
    if mountinfo.kind_of(top) == "sysfs":
        if (point := _look_inner(top, "firmware")) is not None:
            tree.hide_inner(point, "/sys/firmware", null)
        if whole:
            tree.restrict_inner(top, READ_ONLY, recursive=True)
    os.close(top)


def _look_inner(top: int, name: str) -> int | None:
    """Open `name` in a file system of the kernel; None if there is no such file."""
    try:
        return mountapi.openat2(top, name, os.O_PATH, _INSIDE)
    except KernelError:
        return None
