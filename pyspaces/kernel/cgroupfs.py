"""Where cgroups are mounted, and the files by which a process joins one: cgroups(7).

Runs in any process. Must not know limits or policy.
"""

from __future__ import annotations

import errno
import os

from pyspaces.kernel import mountinfo, procfs
from pyspaces.kernel.libc import KernelError


def cgroups_of(process: int | str) -> list[tuple[str, str]]:
    """Return (controllers, path) of a process's cgroup in each hierarchy; "" is that of version 2.

    Raises KernelError.
    """
    rows = []
    for line in procfs.read(f"/proc/{process}/cgroup").removesuffix("\n").split("\n"):
        fields = line.split(":", 2)
        if len(fields) == 3:
            rows.append((fields[1], fields[2]))
    return rows


def procs_file(controllers: str, path: str) -> str:
    """Return the cgroup.procs file of a cgroup, below where its hierarchy is mounted.

    Raises KernelError (ENOENT) where that hierarchy, or this part of it, is mounted nowhere here.
    """
    wanted = frozenset(controllers.split(",")) if controllers else None
    for mount in mountinfo.mounts():
        if wanted is None:
            fits = mount.kind == "cgroup2"
        else:
            fits = mount.kind == "cgroup" and wanted <= mount.options
        if fits:
            below = "" if mount.root == "/" else mount.root
            if path == below or path.startswith(below + "/"):
                return os.path.join(mount.point, path[len(below) :].lstrip("/"), "cgroup.procs")
    raise KernelError(errno.ENOENT, "find", [], f"cgroup {controllers}:{path}")
