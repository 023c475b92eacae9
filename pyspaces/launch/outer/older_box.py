"""The cgroups of version 1 for one command: one in each tree that has a controller for it.

Runs in the parent. The child is moved there before it sets itself up: clone3(2) creates none in
cgroups of version 1.
"""

from __future__ import annotations

import errno
import os
import time

from pyspaces.kernel import cgroupfs, procfs, spawn
from pyspaces.kernel.libc import KernelError
from pyspaces.launch.outer.box import PATIENCE, next_name, sweep

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any

    from pyspaces.features.cgroup.values import Setting
    from pyspaces.kernel.spawn import Spawned

_ROUND = 0.01  # seconds
_CHARGED_AT_ONCE = 64 * 4096  # bytes: MEMCG_CHARGE_BATCH of include/linux/memcontrol.h


class OlderBox:
    """Cgroups of version 1 for one command, of one name. path: one of them, for people.

    places: the cgroup of the launcher by controller, as features/cgroup/older.py finds them.
    """

    holder = None

    def __init__(self, places: Mapping[str, str]) -> None:
        """Create them. Raises KernelError, with nothing left."""
        self._limits: dict[str, str | None] = {}
        self._paths: dict[str, str] = {}
        name = next_name()
        try:
            for controller, above in places.items():
                path = os.path.join(above, name)
                # Controllers that are mounted together have one tree.
                if path not in self._paths.values():
                    sweep(above)
                    cgroupfs.create(path)
                self._paths[controller] = path
        except BaseException:
            self.close()
            raise
        self.path = next(iter(self._paths.values()))

    def apply(self, settings: Iterable[Setting]) -> None:
        """Write the limits. Raises KernelError naming the file."""
        for one in settings:
            path = self._paths[one.controller]
            try:
                cgroupfs.write(path, one.file, one.text)
            except KernelError as error:
                if one.option or error.errno != errno.ENOENT:
                    raise
            file = os.path.join(path, one.file)
            self._limits[file] = procfs.read_or_none(file)

    def changed(self) -> list[str]:
        """Return the files that do not hold what was written to them."""
        rows = self._limits.items()
        return [os.path.basename(file) for file, text in rows if procfs.read_or_none(file) != text]

    def opened(self) -> int:
        """Return -1: no child can start here."""
        return -1

    def admit(self, child: Spawned) -> None:
        """Move a child here. Raises KernelError."""
        pid = procfs.pid_of_pidfd(child.pidfd)
        for path in self._all():
            cgroupfs.write(path, "cgroup.procs", str(pid))

    def _all(self) -> list[str]:
        return list(dict.fromkeys(self._paths.values()))

    def killed_for_memory(self) -> tuple[bool, bool]:
        """Return whether a process was killed for want of memory, and whether by this limit."""
        kills = self._rows("memory", "memory.oom_control").get("oom_kill", "0")
        return kills != "0", self._reached("memory.") or self._reached("memory.memsw.")

    def _reached(self, prefix: str) -> bool:
        """Return whether a limit of memory was reached.

        By the highest number of bytes: Linux 6.18 keeps the file failcnt, and never counts there.
        """
        limit = self._number("memory", f"{prefix}limit_in_bytes")
        peak = self._number("memory", f"{prefix}max_usage_in_bytes")
        return limit is not None and peak is not None and peak + _CHARGED_AT_ONCE > limit

    def counted(self) -> dict[str, Any]:
        """Return what they have counted: of all processes, and None for what they have not."""
        kills = self._rows("memory", "memory.oom_control").get("oom_kill", 0)
        throttled = self._rows("cpu", "cpu.stat").get("throttled_time", 0)
        return {
            "memory_peak": self._number("memory", "memory.max_usage_in_bytes"),
            "oom_kills": int(kills),
            "pids_refused": int(self._rows("pids", "pids.events").get("max", 0)),
            "user": self._seconds("cpuacct.usage_user"),
            "system": self._seconds("cpuacct.usage_sys"),
            "throttled": int(throttled) / 1e9,
            **self._io(),
        }

    def _rows(self, controller: str, name: str) -> dict[str, str]:
        path = self._paths.get(controller)
        return cgroupfs.rows_of(path, name) if path else {}

    def _number(self, controller: str, name: str) -> int | None:
        path = self._paths.get(controller)
        words = cgroupfs.words_of(path, name) if path else []
        return int(words[0]) if words else None

    def _seconds(self, name: str) -> float | None:
        nanoseconds = self._number("cpuacct", name)
        return None if nanoseconds is None else nanoseconds / 1e9

    def _io(self) -> dict[str, int | None]:
        path = self._paths.get("io")
        text = cgroupfs.read_or_none(path, "blkio.throttle.io_service_bytes") if path else None
        rows = [line.split() for line in (text or "").splitlines()]
        return {
            key: None if text is None else sum(int(row[2]) for row in rows if row[1:2] == [word])
            for key, word in (("read", "Read"), ("written", "Write"))
        }

    def close(self) -> None:
        """Kill what is inside, and remove them. Raises KernelError."""
        deadline = time.monotonic() + PATIENCE
        if self._is_populated():
            self._hurry()
            while self._is_populated() and time.monotonic() < deadline:
                for path in self._all():
                    cgroupfs.kill_each(path)
                time.sleep(_ROUND)
        for path in self._all():
            _remove(path, deadline)

    def _is_populated(self) -> bool:
        return any(cgroupfs.is_populated(path) for path in self._all())

    def _hurry(self) -> None:
        """Give those who are to end CPU time, and let none of them start others."""
        lifted = (("cpu", "cpu.cfs_quota_us", "-1"), ("pids", "pids.max", "0"))
        for controller, file, text in lifted:
            if path := self._paths.get(controller):
                try:
                    cgroupfs.write(path, file, text)
                except KernelError:
                    continue


def _remove(path: str, deadline: float) -> None:
    while True:
        try:
            with spawn.forks_held():
                return cgroupfs.remove(path)
        except KernelError as error:
            # The last process has left it in a moment: cgroup_exit() in kernel/cgroup/cgroup.c.
            if error.errno != errno.EBUSY or time.monotonic() > deadline:
                raise
        time.sleep(_ROUND)
