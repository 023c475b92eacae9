"""Cgroups of processes, and the files for joining them: cgroups(7).

Runs in any process. Must not know limits or policy.
"""

from __future__ import annotations

import errno
import os

from pyspaces.kernel import mountinfo, procfs
from pyspaces.kernel.libc import KernelError


def cgroups_of(process: int | str) -> list[tuple[str, str]]:
    """Return (controllers, path) of a process's cgroup in each hierarchy; "" for version 2.

    Raises KernelError.
    """
    lines = procfs.read(f"/proc/{process}/cgroup").removesuffix("\n").split("\n")
    rows = [line.split(":", 2) for line in lines]
    return [(row[1], row[2]) for row in rows if len(row) == 3]


def procs_file(controllers: str, path: str) -> str:
    """Return the cgroup.procs file of a cgroup, below the mount point of its hierarchy.

    Raises KernelError (ENOENT) if the hierarchy, or this part of it, is not mounted here.
    """
    kind = "cgroup" if controllers else "cgroup2"
    wanted = frozenset(filter(None, controllers.split(",")))
    for mount in mountinfo.mounts():
        if mount.kind == kind and wanted <= mount.options:
            below = "" if mount.root == "/" else mount.root
            if path == below or path.startswith(below + "/"):
                return os.path.join(mount.point, path[len(below) :].lstrip("/"), "cgroup.procs")
    raise KernelError(errno.ENOENT, "find", [], f"cgroup {controllers}:{path}")
