"""The cgroup of a command: created before it, and removed after it with whatever is left inside.

Runs in the parent. The child starts in it: its set-up counts too. If only systemd may create one,
it is asked to move the child there, which waits meanwhile. A launcher that is killed leaves an
empty cgroup behind, which the next launch that comes by removes.
"""

from __future__ import annotations

import errno
import os

from pyspaces.errors import CGROUP, Report, SpaceError
from pyspaces.features.cgroup import place, systemd
from pyspaces.features.cgroup.values import size_text
from pyspaces.kernel import cgroupfs, nsfs, procfs, spawn
from pyspaces.kernel.libc import KernelError
from pyspaces.launch import signals
from pyspaces.launch.service import Service

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from pyspaces.features.cgroup.place import Place
    from pyspaces.features.cgroup.values import Setting
    from pyspaces.kernel.spawn import Spawned
    from pyspaces.launch.outer.watch import Ended
    from pyspaces.launch.services import Launch

_PREFIX = "pyspaces"
_OWN = "launcher"
# Seconds for killed processes to end; one that waits for a device may take longer.
_PATIENCE = 20.0
# Of use for the summary and the record, if the cgroup can have them.
_TELLING = ("io", "memory")


class Box:
    """A cgroup for one command. path: its directory.

    It is created and removed while no other thread forks, and so in one thread at a time: no child
    of another thread inherits what is open meanwhile.
    """

    _count = 0

    def __init__(self, where: Place) -> None:
        """Create it. Raises KernelError, with nothing left."""
        self._limits: dict[str, str | None] = {}
        self.holder: Holder | None = None
        if where.alone:
            _move_down(where.path)
        try:
            _enable(where.path, where.lacking)
            self.path = os.path.join(where.path, _name_of(str(Box.number())))
            cgroupfs.create(self.path)
        except BaseException:
            _move_back(where.path)
            raise

    @classmethod
    def number(cls) -> int:
        """Return a number that no other cgroup of this process has."""
        cls._count += 1
        return cls._count

    def apply(self, settings: Iterable[Setting]) -> None:
        """Write the limits. Raises KernelError naming the file."""
        for one in settings:
            try:
                cgroupfs.write(self.path, one.file, one.text)
            except KernelError as error:
                if one.option or error.errno != errno.ENOENT:
                    raise
            self._limits[one.file] = cgroupfs.read_or_none(self.path, one.file)

    def changed(self) -> list[str]:
        """Return the files that do not hold what was written to them."""
        rows = self._limits.items()
        return [name for name, text in rows if cgroupfs.read_or_none(self.path, name) != text]

    def admit(self, child: Spawned) -> None:
        """Move a child here that clone(2) could not create here. Raises KernelError."""
        pid = procfs.pid_of_pidfd(child.pidfd)
        path = dict(cgroupfs.cgroups_of(pid)).get("", "")
        if os.path.basename(path) != os.path.basename(self.path):
            cgroupfs.write(self.path, "cgroup.procs", str(pid))

    def close(self) -> None:
        """Kill what is inside, and remove it. Raises KernelError."""
        if cgroupfs.rows_of(self.path, "cgroup.events").get("populated") == "1":
            self._hurry()
            cgroupfs.kill(self.path, _PATIENCE)
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
        spawn.reap(self._child.pid)
        os.close(self._child.pidfd)


# The cgroups that this process has left, by what it is in now; with the process, as forks copy it.
_left: dict[tuple[int, str], str] = {}


def _move_down(above: str) -> None:
    """Move this process one level down, so that a cgroup can give controllers to others.

    Raises KernelError, with nothing changed.
    """
    own = os.path.join(above, _name_of(_OWN))
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


def _enable(path: str, controllers: Iterable[str]) -> None:
    """Give the cgroups beneath one further controllers. Raises KernelError."""
    if words := " ".join(f"+{name}" for name in controllers):
        cgroupfs.write(path, "cgroup.subtree_control", words)


def _name_of(what: str) -> str:
    """Return the name of a cgroup, by which others see whether its launcher lives."""
    pid, inode = os.getpid(), nsfs.inode_or_none("/proc/self/ns/pid")
    return f"{_PREFIX}-{inode}-{pid}-{procfs.start_time('self')}-{what}"


def sweep(path: str) -> None:
    """Remove empty cgroups of launchers that are dead.

    Those of another pid namespace stay: whether their launchers live cannot be seen.
    """
    inode = str(nsfs.inode_or_none("/proc/self/ns/pid"))
    for name in procfs.names_in(path):
        words = name.split("-")
        if words[:2] != [_PREFIX, inode] or not all(map(str.isdecimal, words[2:4])):
            continue
        if len(words) < 5 or str(procfs.start_time(int(words[2]))) == words[3]:
            continue
        try:
            cgroupfs.remove(os.path.join(path, name))
        except KernelError:  # not empty, or of another user
            continue


class Cgroup(Service):
    """The cgroup of a launch."""

    task = "remove the cgroup of the command"

    def __init__(self, launch: Launch) -> None:
        super().__init__(launch)
        self._resources = launch.plan.resources
        self._settings = list(self._resources.settings())
        self._needed = {one.controller for one in self._settings}
        self._box: Box | None = None
        self._refused: place.NoPlace | None = None

    def open(self) -> None:
        """Create the cgroup, and set its limits. Raises SpaceError with all that was tried.

        If only systemd can create one, that comes once there is a child for it: in `admit`.
        """
        try:
            with spawn.forks_held():
                self._box = self._created()
        except place.NoPlace as error:
            if not systemd.may_be_asked():
                raise _failure(error) from None
            self._refused = error
        except KernelError as error:
            raise _failure(error) from error
        self.launch.cgroup = self
        if self._box:
            self.launch.observe(f"create the cgroup {self._box.path}: {self._resources}")

    def _created(self) -> Box:
        where = place.find(self._needed)
        sweep(where.path)
        box = Box(where)
        try:
            self._set(box)
        except BaseException:
            box.close()
            raise
        return box

    def _set(self, box: Box) -> None:
        for name in _TELLING if self.launch.plan.holds("outputs") else ():
            try:
                _enable(os.path.dirname(box.path), [name])
            except KernelError:  # not there: it is not told
                continue
        box.apply(self._settings)

    def opened(self) -> int:
        """Return a descriptor of the cgroup, for clone3(2); -1 if it comes after the child."""
        return cgroupfs.open_directory(self._box.path) if self._box else -1

    def admit(self, child: Spawned) -> None:
        """See to it that a new child is in the cgroup. Raises SpaceError."""
        try:
            if self._box:
                self._box.admit(child)
            else:
                with spawn.forks_held():
                    self._box = self._in_scope(child)
                self.launch.observe(f"create the cgroup {self._box.path}: {self._resources}")
        except KernelError as error:
            raise _failure(error) from error

    def _in_scope(self, child: Spawned) -> Box:
        """Create the cgroup in a scope of systemd. Raises KernelError."""
        assert self._refused
        holder = Holder()
        try:
            pids = (procfs.pid_of_pidfd(child.pidfd), holder.pid)
            try:
                scope = systemd.delegated_scope(f"{_name_of(str(Box.number()))}.scope", pids)
            except OSError as error:
                raise self._refused.also(f"systemd: {error.strerror or error}") from None
            has = cgroupfs.words_of(scope, "cgroup.controllers")
            if self._needed.difference(has):
                names = " ".join(sorted(self._needed.union(has)))
                raise self._refused.also(
                    f"systemd delegates only {' '.join(has)}",
                    f"as root: systemctl edit user@.service, with [Service] and Delegate={names}",
                )
            box = Box(place.Place(path=scope))
            box.holder = holder
        except BaseException:
            holder.close()
            raise
        try:
            keep = os.path.join(scope, "holder")
            cgroupfs.create(keep)
            cgroupfs.write(keep, "cgroup.procs", str(holder.pid))
            box.admit(child)
            _enable(scope, sorted(self._needed))
            self._set(box)
        except BaseException:
            box.close()
            raise
        return box

    def failed(self, error: BaseException) -> None:
        """Remove it; tell if the launch failed for want of memory."""
        if self._box:
            self._tell_of_memory(self._box, "the new process was killed")
        self.release()

    def ended(self, ended: Ended) -> None:
        """Remove it, with what the command has left behind; add what it counted to the records."""
        try:
            if self._box:
                self._tell(self._box, ended)
        finally:
            self.release()

    def _tell(self, box: Box, ended: Ended) -> None:
        is_whole = ended.status.signal is not None
        self._tell_of_memory(box, "killed" if is_whole else "a process of the command was killed")
        if changed := box.changed():
            what = ", ".join(changed)
            self.launch.tell(f"limits of the command were changed while it ran: {what}")
        facts = counted(box.path)
        self.launch.last_facts["cgroup"] = facts
        self.launch.told_to_people += _for_people(facts)

    def _tell_of_memory(self, box: Box, who: str) -> None:
        """Tell if a process was killed for want of memory, and whether our limit was reached."""
        events = cgroupfs.rows_of(box.path, "memory.events")
        memory, swap = self._resources.memory, self._resources.swap
        if events.get("oom_kill", "0") == "0":
            return
        if memory is None or events.get("oom", "0") == "0":
            self.launch.tell(f"{who}: out of memory, on the host or in a cgroup above")
            return
        self.launch.limit = "memory"
        more = f" and {size_text(swap)} of swap" if swap else ""
        self.launch.tell(f"{who}: out of memory (limit {size_text(memory)}{more})")

    def release(self) -> None:
        """Remove the cgroup."""
        box, self._box = self._box, None
        self.launch.cgroup = None
        if box:
            box.close()


def _failure(error: KernelError) -> SpaceError:
    """Return the error of a launch that cannot have its cgroup."""
    if isinstance(error, place.NoPlace):
        return SpaceError(
            f"cannot {CGROUP}: {error.text}",
            details=error.reasons,
            hint=error.hint,
            report=Report(stage=CGROUP, code=CGROUP.code, text=error.text),
        )
    report = Report.of(CGROUP, error)
    return SpaceError(report.sentence(), report=report)


def counted(cgroup: str) -> dict[str, Any]:
    """Return what a cgroup has counted: of all its processes, and None for what it has not."""
    cpu = cgroupfs.rows_of(cgroup, "cpu.stat")
    peak = cgroupfs.read_or_none(cgroup, "memory.peak")  # since Linux 5.19
    devices = cgroupfs.read_or_none(cgroup, "io.stat")
    pairs = [word.split("=") for word in (devices or "").split() if "=" in word]
    io = {
        key: None if devices is None else sum(int(n) for name, n in pairs if name == word)
        for key, word in (("read", "rbytes"), ("written", "wbytes"))
    }
    return {
        "memory_peak": None if peak is None else int(peak),
        "oom_kills": int(cgroupfs.rows_of(cgroup, "memory.events").get("oom_kill", 0)),
        "pids_refused": int(cgroupfs.rows_of(cgroup, "pids.events").get("max", 0)),
        "user": int(cpu.get("user_usec", 0)) / 1e6,
        "system": int(cpu.get("system_usec", 0)) / 1e6,
        "throttled": int(cpu.get("throttled_usec", 0)) / 1e6,
        **io,
    }


def _for_people(facts: dict[str, Any]) -> Iterable[tuple[str, str]]:
    text = f"{facts['user']:.3f} s user, {facts['system']:.3f} s system"
    if facts["throttled"]:
        text += f", {facts['throttled']:.3f} s throttled"
    yield "all CPU time", text
    if facts["memory_peak"] is not None:
        yield "all memory", f"at most {facts['memory_peak'] / (1 << 20):.1f} MiB"
    if facts["read"] is not None:
        read, written = (facts[name] / (1 << 20) for name in ("read", "written"))
        yield "all I/O", f"{read:.1f} MiB read, {written:.1f} MiB written"
    if facts["pids_refused"]:
        yield "pids", f"{facts['pids_refused']} processes or threads were refused"
