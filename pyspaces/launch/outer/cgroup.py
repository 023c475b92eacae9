"""The cgroup of a command: created before it, and removed after it with whatever is left inside.

Runs in the parent. The child starts in it: its set-up counts too. If only systemd may create one,
it is asked to move the child there, which waits meanwhile. A launcher that is killed leaves an
empty cgroup behind, which the next launch that comes by removes.
"""

from __future__ import annotations

import os

from pyspaces.errors import CGROUP, Report, SpaceError
from pyspaces.features.cgroup import older, place, systemd, weight
from pyspaces.features.cgroup.values import UNLIMITED
from pyspaces.kernel import cgroupfs, procfs, spawn
from pyspaces.kernel.libc import KernelError
from pyspaces.launch.outer.box import Box, Holder, enable, next_name, sweep
from pyspaces.launch.outer.older_box import OlderBox
from pyspaces.launch.service import Service
from pyspaces.sizes import size_text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from pyspaces.kernel.spawn import Spawned
    from pyspaces.launch.services import Launch
    from pyspaces.status import Ended

# Of use for the summary and the record, if the cgroup can have them.
_TELLING = ("io", "memory")
_TIMES = "cpuacct"  # of version 1; version 2 always counts CPU time


class Cgroup(Service):
    """The cgroup of a launch."""

    task = "remove the cgroup of the command"

    def __init__(self, launch: Launch) -> None:
        super().__init__(launch)
        self._resources = launch.plan.resources
        self._settings = list(self._resources.settings())
        self._needed = {one.controller for one in self._settings}
        self._box: Box | OlderBox | None = None
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
            self._tell_of_box(self._box)

    def _tell_of_box(self, box: Box | OlderBox) -> None:
        self.launch.observe(f"create the cgroup {box.path}: {self._resources}")
        if self._resources.io_weight is None:
            return
        if names := weight.heedless(box.path if isinstance(box, Box) else ""):
            self.launch.tell(weight.warning_of(names))

    def _created(self) -> Box | OlderBox:
        if places := older.serves(self._needed):
            return self._older_one(places)
        where = place.find(self._needed)
        sweep(where.path)
        box = Box(where)
        try:
            self._set(box)
        except BaseException:
            box.close()
            raise
        return box

    def _older_one(self, places: dict[str, str]) -> OlderBox:
        settings = list(older.settings(self._resources))
        if self.launch.plan.holds("outputs"):
            places |= older.find({*_TELLING, _TIMES})
        # With it, the end of a command that goes on to fork is sure.
        box = OlderBox(places | older.find({"pids"}))
        try:
            box.apply(settings)
        except BaseException:
            box.close()
            raise
        return box

    def _set(self, box: Box) -> None:
        for name in _TELLING if self.launch.plan.holds("outputs") else ():
            try:
                enable(os.path.dirname(box.path), [name])
            except KernelError:  # not there: it is not told
                continue
        box.apply(self._settings)

    def opened(self) -> int:
        """Return a descriptor of the cgroup, for clone3(2); -1 if it comes after the child."""
        return self._box.opened() if self._box else -1

    def admit(self, child: Spawned) -> None:
        """See to it that a new child is in the cgroup. Raises SpaceError."""
        try:
            if self._box:
                self._box.admit(child)
            else:
                with spawn.forks_held():
                    self._box = self._in_scope(child)
                self._tell_of_box(self._box)
        except KernelError as error:
            raise _failure(error) from error

    def _in_scope(self, child: Spawned) -> Box:
        """Create the cgroup in a scope of systemd. Raises KernelError."""
        assert self._refused
        holder = Holder()
        try:
            pids = (procfs.pid_of_pidfd(child.pidfd), holder.pid)
            try:
                scope = systemd.delegated_scope(f"{next_name()}.scope", pids)
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
            enable(scope, sorted(self._needed))
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

    def _tell(self, box: Box | OlderBox, ended: Ended) -> None:
        is_whole = ended.status.signal is not None
        self._tell_of_memory(box, "killed" if is_whole else "a process of the command was killed")
        if changed := box.changed():
            what = ", ".join(changed)
            self.launch.tell(f"limits of the command were changed while it ran: {what}")
        facts = box.counted()
        self.launch.last_facts["cgroup"] = facts
        self.launch.told_to_people += _for_people(facts)

    def _tell_of_memory(self, box: Box | OlderBox, who: str) -> None:
        """Tell if a process was killed for want of memory, and whether our limit was reached."""
        killed, is_own_limit = box.killed_for_memory()
        memory, swap = self._resources.memory, self._resources.swap
        if not killed:
            return
        if memory is None or not is_own_limit:
            self.launch.tell(f"{who}: out of memory, on the host or in a cgroup above")
            return
        self.launch.limit = "memory"
        more = (
            f" and {'unlimited ' if swap == UNLIMITED else size_text(swap) + ' of '}swap"
            if swap
            else ""
        )
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


def _for_people(facts: dict[str, Any]) -> Iterable[tuple[str, str]]:
    if facts["user"] is not None and facts["system"] is not None:
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
