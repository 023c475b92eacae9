"""Which disks heed the weight of a cgroup: those whose scheduler is bfq, or that have a cost model.

Runs in the parent; only reads. Documentation/admin-guide/cgroup-v2.rst, block/bfq-iosched.rst.
"""

from __future__ import annotations

import os

from pyspaces.kernel import cgroupfs, procfs

_DISKS = "/sys/block"
_COSTS = "io.cost.qos"  # of the root of version 2 alone, a line for each disk: MAJ:MIN enable=1 ...


def heedless(cgroup: str) -> list[str]:
    """Return the disks whose I/O no weight divides; none if that cannot be known.

    cgroup: the directory of one of version 2, or "" for version 1, which has bfq alone.
    """
    costs: str | None = ""
    if cgroup:
        *_, root = cgroupfs.up_from(cgroup)
        costs = cgroupfs.read_or_none(root, _COSTS)
        if costs is None and cgroupfs.read_or_none(cgroup, "io.weight") is not None:
            return []  # a cost model may be there, and another root is what we see
    lines = map(str.split, (costs or "").splitlines())
    modelled = {words[0] for words in lines if "enable=1" in words}
    return [name for name in _disks() if not _is_heeding(f"{_DISKS}/{name}", modelled)]


def _disks() -> list[str]:
    """Return the names of disks that a device stands for: not of loops, or of layers above."""
    try:
        names = sorted(os.listdir(_DISKS))
    except OSError:
        return []
    return [name for name in names if os.path.exists(f"{_DISKS}/{name}/device")]


def _is_heeding(disk: str, modelled: set[str]) -> bool:
    scheduler = procfs.read_or_none(f"{disk}/queue/scheduler") or ""
    number = (procfs.read_or_none(f"{disk}/dev") or "").strip()
    return "[bfq]" in scheduler or number in modelled


def warning_of(names: list[str]) -> str:
    """Return what people are to know of disks that heed no weight."""
    return (
        f"io-weight: has no effect on {', '.join(names)}: the I/O scheduler there is not bfq, and"
        " no cost model is enabled"
    )
