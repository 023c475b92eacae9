"""Cgroups of version 1: where a launch may create them, and what is written to them.

Runs in the parent. Each controller, or several together, has a tree of its own. A process may be in
any cgroup, not only in the lowest ones, so that our own cgroup of each tree serves if it is
writable: for root, as a rule. A controller is in use by one version at a time.

See cgroups(7), and Documentation/admin-guide/cgroup-v1/ in the kernel's sources.
"""

from __future__ import annotations

import os

from pyspaces.errors import Refusal
from pyspaces.features.cgroup.values import PERIOD, UNLIMITED, Setting
from pyspaces.kernel import cgroupfs
from pyspaces.kernel.libc import KernelError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator

    from pyspaces.features.cgroup.values import Resources

_NAMES = {"io": "blkio"}  # the other controllers have the same name in both versions
_LAST_WEIGHT = 1000


def find(controllers: Iterable[str]) -> dict[str, str]:
    """Return, by controller, the cgroup of this process in which others can be created.

    controllers: by their names in version 2, as are those returned. Those that cannot serve are
    left out. Raises KernelError.
    """
    found = {}
    for name in controllers:
        directory = _own(name)
        if directory and not _fault(directory):
            found[name] = directory
    return found


def faults(controllers: Iterable[str]) -> Iterator[str]:
    """Yield why the trees of version 1 that have the controllers cannot serve."""
    for name in controllers:
        directory = _own(name)
        if directory and (fault := _fault(directory)):
            yield f"{directory} (version 1): {fault}"


def _own(controller: str) -> str | None:
    """Return the directory of this process's cgroup that has a controller; None if none has."""
    wanted = _NAMES.get(controller, controller)
    for names, path in cgroupfs.cgroups_of("self"):
        if wanted not in names.split(","):
            continue
        try:
            file = cgroupfs.procs_file(names, path)
        except KernelError:  # its tree is not mounted here
            continue
        if os.path.exists(file):  # nothing else is mounted above it
            return os.path.dirname(file)
    return None


def _fault(directory: str) -> str | None:
    if os.statvfs(directory).f_flag & os.ST_RDONLY:
        return "is mounted read-only"
    if not os.access(directory, os.W_OK, effective_ids=True):
        return "the directory is not writable for this user"
    return None


def settings(resources: Resources) -> Iterator[Setting]:
    """Yield what is written, in this order. Raises Refusal for what version 1 cannot do."""
    yield from _of_memory(resources.memory, resources.swap)
    if resources.pids is not None:
        yield Setting(controller="pids", file="pids.max", text=str(resources.pids), option="pids")
    if resources.cpus is not None:
        rows = (("period", PERIOD), ("quota", round(resources.cpus * PERIOD)))
        for name, number in rows:
            file = f"cpu.cfs_{name}_us"
            yield Setting(controller="cpu", file=file, text=str(number), option="cpus")
    if (weight := resources.io_weight) is not None:
        if weight > _LAST_WEIGHT:
            raise Refusal(f"cgroups of version 1 take no --io-weight above {_LAST_WEIGHT}")
        yield Setting(
            controller="io", file="blkio.bfq.weight", text=str(weight), option="io-weight"
        )


def _of_memory(memory: int | None, swap: int | None) -> Iterator[Setting]:
    if memory is None:
        if swap is not None:
            raise Refusal("cgroups of version 1 limit --swap only together with --memory")
        return
    yield Setting(
        controller="memory", file="memory.limit_in_bytes", text=str(memory), option="memory"
    )
    # This one counts both. A kernel that does not account for swap has no such file.
    if swap != UNLIMITED:
        both, option = memory + (swap or 0), "" if swap is None else "swap"
        yield Setting(
            controller="memory", file="memory.memsw.limit_in_bytes", text=str(both), option=option
        )


def serves(controllers: Collection[str]) -> dict[str, str] | None:
    """Return the cgroup for each of the controllers, if version 1 has all of them for us."""
    found = find(controllers) if controllers else {}
    return found if found and len(found) == len(set(controllers)) else None
