"""A cgroup of version 2 for one command: created, limited, read, and removed with what is inside.

Runs in the parent. See cgroups(7), and Documentation/admin-guide/cgroup-v2.rst.
"""

from __future__ import annotations

import errno
import os

from pyspaces.kernel import cgroupfs, nsfs, processes, procfs, spawn
from pyspaces.kernel.libc import KernelError
from pyspaces.launch import signals

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from pyspaces.features.cgroup.place import Place
    from pyspaces.features.cgroup.values import Setting
    from pyspaces.kernel.spawn import Spawned

_PREFIX = "pyspaces"
_OWN = "launcher"
# Seconds for killed processes to end; one that waits for a device may take longer.
PATIENCE = 20.0


class Box:
    """A cgroup for one command. path: its directory.

    It is created and removed while no other thread forks, and so in one thread at a time: no child
    of another thread inherits what is open meanwhile.
    """

    made = 0

    def __init__(self, where: Place) -> None:
        """Create it. Raises KernelError, with nothing left."""
        self._limits: dict[str, str | None] = {}
        self.holder: Holder | None = None
        if where.alone:
            _move_down(where.path)
        try:
            enable(where.path, where.lacking)
            self.path = os.path.join(where.path, next_name())
            cgroupfs.create(self.path)
        except BaseException:
            _move_back(where.path)
            raise

    def apply(self, settings: Iterable[Setting]) -> None:
        """Write the limits. Raises KernelError naming the file."""
        for one in settings:
            try:
                cgroupfs.write(self.path, one.file, one.text)
            except KernelError as error:
                enough = self._limits.get(one.instead) is not None
                if error.errno != errno.ENOENT or (one.option and not enough):
                    raise
            self._limits[one.file] = cgroupfs.read_or_none(self.path, one.file)

    def changed(self) -> list[str]:
        """Return the files that do not hold what was written to them."""
        rows = self._limits.items()
        return [name for name, text in rows if cgroupfs.read_or_none(self.path, name) != text]

    def opened(self) -> int:
        """Return a descriptor of it, for clone3(2)."""
        return cgroupfs.open_directory(self.path)

    def admit(self, child: Spawned) -> None:
        """Move a child here that clone(2) could not create here. Raises KernelError."""
        pid = procfs.pid_of_pidfd(child.pidfd)
        path = dict(cgroupfs.cgroups_of(pid)).get("", "")
        if os.path.basename(path) != os.path.basename(self.path):
            cgroupfs.write(self.path, "cgroup.procs", str(pid))

    def killed_for_memory(self) -> tuple[bool, bool]:
        """Return whether a process was killed for want of memory, and whether by this limit."""
        events = cgroupfs.rows_of(self.path, "memory.events")
        return events.get("oom_kill", "0") != "0", events.get("oom", "0") != "0"

    def counted(self) -> dict[str, Any]:
        """Return what it has counted: of all its processes, and None for what it has not."""
        cpu = cgroupfs.rows_of(self.path, "cpu.stat")
        peak = cgroupfs.read_or_none(self.path, "memory.peak")  # since Linux 5.19
        devices = cgroupfs.read_or_none(self.path, "io.stat")
        pairs = [word.split("=") for word in (devices or "").split() if "=" in word]
        io = {
            key: None if devices is None else sum(int(n) for name, n in pairs if name == word)
            for key, word in (("read", "rbytes"), ("written", "wbytes"))
        }
        return {
            "memory_peak": None if peak is None else int(peak),
            "oom_kills": int(cgroupfs.rows_of(self.path, "memory.events").get("oom_kill", 0)),
            "pids_refused": int(cgroupfs.rows_of(self.path, "pids.events").get("max", 0)),
            "user": int(cpu.get("user_usec", 0)) / 1e6,
            "system": int(cpu.get("system_usec", 0)) / 1e6,
            "throttled": int(cpu.get("throttled_usec", 0)) / 1e6,
            **io,
        }

    def close(self) -> None:
        """Kill what is inside, and remove it. Raises KernelError."""
        if cgroupfs.rows_of(self.path, "cgroup.events").get("populated") == "1":
            self._hurry()
            cgroupfs.kill(self.path, PATIENCE)
        with spawn.forks_held():
            try:
                cgroupfs.remove(self.path)
            finally:
                _move_back(os.path.dirname(self.path))
                if self.holder:
                    self.holder.close()

    def _hurry(self) -> None:
        """Lift the limit of CPU time: whoever is to end needs some for it."""
        try:
            cgroupfs.write(self.path, "cpu.max", "max")
        except KernelError:
            return


class Holder:
    """A process that keeps a scope until its counters are read: systemd removes an empty one.

    It ends with this process, too.
    """

    def __init__(self) -> None:
        reading, self._writing = os.pipe()

        def hold() -> None:
            spawn.close_others(reading)
            os.read(reading, 1)

        try:
            with signals.Blocked():  # Ctrl-C is not for it
                self._child = spawn.spawn(hold)
        except BaseException:
            os.close(self._writing)
            raise
        finally:
            os.close(reading)
        self.pid = procfs.pid_of_pidfd(self._child.pidfd)

    def close(self) -> None:
        """End it."""
        os.close(self._writing)
        nsfs.reap(self._child.pid)
        os.close(self._child.pidfd)


# The cgroups that this process has left, by what it is in now; with the process, as forks copy it.
_left: dict[tuple[int, str], str] = {}


def _move_down(above: str) -> None:
    """Move this process one level down, so that a cgroup can give controllers to others.

    Raises KernelError, with nothing changed.
    """
    own = os.path.join(above, name_of(_OWN))
    cgroupfs.create(own)
    try:
        cgroupfs.write(own, "cgroup.procs", "0")
    except KernelError:
        cgroupfs.remove(own)
        raise
    _left[os.getpid(), above] = own


def _move_back(above: str) -> None:
    """Move this process back, if it has left `above` and nobody else needs controllers of it."""
    own = _left.get((os.getpid(), above))
    if own is None:
        return
    try:
        with os.scandir(above) as entries:
            beneath = [one.path for one in entries if one.is_dir(follow_symlinks=False)]
        alone = cgroupfs.words_of(own, "cgroup.procs") == [str(os.getpid())]
        if beneath == [own] and alone:
            for name in cgroupfs.words_of(above, "cgroup.subtree_control"):
                cgroupfs.write(above, "cgroup.subtree_control", f"-{name}")
            cgroupfs.write(above, "cgroup.procs", "0")
            del _left[os.getpid(), above]
            cgroupfs.remove(own)
    except OSError:  # it stays where it is, which is no harm
        return


def enable(path: str, controllers: Iterable[str]) -> None:
    """Give the cgroups beneath one further controllers. Raises KernelError."""
    if words := " ".join(f"+{name}" for name in controllers):
        cgroupfs.write(path, "cgroup.subtree_control", words)


def next_name() -> str:
    """Return a name for a cgroup that no other of this process has."""
    Box.made += 1
    return name_of(str(Box.made))


def name_of(what: str) -> str:
    """Return the name of a cgroup, by which others see whether its launcher lives."""
    pid, inode = os.getpid(), nsfs.inode_or_none("/proc/self/ns/pid")
    return f"{_PREFIX}-{inode}-{pid}-{processes.start_time('self')}-{what}"


def sweep(path: str) -> None:
    """Remove empty cgroups of launchers that are dead.

    Those of another pid namespace stay: whether their launchers live cannot be seen.
    """
    inode = str(nsfs.inode_or_none("/proc/self/ns/pid"))
    for name in procfs.names_in(path):
        words = name.split("-")
        if words[:2] != [_PREFIX, inode] or not all(map(str.isdecimal, words[2:4])):
            continue
        if len(words) < 5 or str(processes.start_time(int(words[2]))) == words[3]:
            continue
        try:
            cgroupfs.remove(os.path.join(path, name))
        except KernelError:  # not empty, or of another user
            continue
