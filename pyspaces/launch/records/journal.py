"""The status record and the pid file: what becomes of a command, for programs.

Runs in the parent. Loaded only with one of them. Whatever goes wrong once the
command runs is printed and changes nothing else.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import time

from pyspaces.errors import Interrupted, SpaceError, UsageFault
from pyspaces.kernel import namespaces, processes, procfs
from pyspaces.kernel.libc import KernelError
from pyspaces.launch import patience
from pyspaces.launch.records import files
from pyspaces.launch.service import Service, members_of
from pyspaces.status import signal_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pyspaces.kernel.spawn import Spawned
    from pyspaces.launch.records.files import Place
    from pyspaces.launch.services import Launch
    from pyspaces.status import Ended


class Journal(Service):
    """The records of one launch, from before it starts to the end of the command."""

    tells = True
    task = "write the records"

    def __init__(self, launch: Launch) -> None:
        super().__init__(launch)
        self._outputs = launch.plan.outputs
        self._say = launch.tell
        self._lines: list[str] = []
        self._facts: dict[str, Any] = {}
        self._status: Place | None = None
        self._pid: Place | None = None

    def open(self) -> None:
        """Try all places, and clear them. Raises UsageFault if one cannot be written."""
        try:
            self._check()
        except BaseException:
            self.close()
            raise
        self.launch.not_for_others.append(self.release)

    def held(self, child: Spawned) -> None:
        """Note what the command will be, while it waits right before exec; write the pid file.

        Raises SpaceError if the pid file cannot be written: the command then does not run.
        """
        process = procfs.pid_of_pidfd(child.pidfd)
        members = members_of(self.launch, child)
        self._facts = {
            "command": list(self.launch.plan.command),
            "start_ticks": processes.start_time(process),
            "namespaces": {name: members.get(name) for name in namespaces.supported()},
            "uid_map": _rows(process, "uid_map"),
            "gid_map": _rows(process, "gid_map"),
            **self.launch.facts,
            "landlock": _landlock(self.launch),
        }
        if self._pid:
            try:
                self._pid.write(f"{child.pid}\n")
            except OSError as error:
                raise SpaceError(f"cannot write the pid file: {files.told(error)}") from error

    def started(self, child: Spawned) -> None:
        """Record that the command runs."""
        self._record("started", pid=child.pid, **self._facts)

    def ended(self, ended: Ended) -> None:
        """Record how the command ended."""
        usage = ended.usage
        status = ended.status
        self._record(
            "exited",
            pid=ended.pid,
            code=status.code,
            signal=None if status.signal is None else signal_name(status.signal),
            timed_out=ended.timed_out,
            killed=ended.killed,
            limit=self.launch.limit,
            wall=round(usage.wall, 6) if usage else None,
            user=round(usage.user, 6) if usage else None,
            system=round(usage.system, 6) if usage else None,
            peak_memory=usage.peak_memory if usage else None,
            peak_floor=usage.peak_floor if usage else None,
            **self.launch.last_facts,
        )
        self._close()

    def failed(self, error: BaseException) -> None:
        """Record that the command has not run, and why, if that is an error of the launch."""
        try:
            if isinstance(error, SpaceError):
                self._record_failure(error)
        finally:
            self.close()

    def _record_failure(self, error: SpaceError) -> None:
        report = error.report
        number = report.errno if report else 0
        self._record(
            "failed",
            stage=report.stage if report else None,
            call=(report.call or None) if report else None,
            errno=errno.errorcode.get(number, number) if number else None,
            path=(report.path or None) if report else None,
            message=error.message,
            hint=error.hint,
            signal=signal_name(error.signal) if isinstance(error, Interrupted) else None,
            exit_status=error.exit_status,
        )
        self._close()

    def _record(self, event: str, **fields: Any) -> None:
        line = json.dumps({"event": event, "time": round(time.time(), 6), **fields}) + "\n"
        self._lines.append(line)
        if self._outputs.status_fd is not None:
            try:
                patience.write(self._outputs.status_fd, line.encode())
            except OSError as error:
                self._say(f"cannot write the status record: {files.told(error)}")

    def _close(self) -> None:
        """Put the status file in its place, whole, and take the pid file away."""
        if self._status:
            try:
                self._status.write("".join(self._lines))
            except OSError as error:
                self._say(f"cannot write the status file: {files.told(error)}")
        self.close()

    def close(self) -> None:
        """Take the pid file away, and release everything; more than once is fine."""
        if self._pid:
            try:
                self._pid.withdraw()
            except OSError as error:
                self._say(f"cannot remove the pid file: {files.told(error)}")
        self.release()

    def release(self) -> None:
        """Close the descriptors: all that a child has to do with this."""
        for place in (self._status, self._pid):
            if place:
                place.close()
        self._status = self._pid = None

    # --- before anything starts ---------------------------------------------------------------

    def _check(self) -> None:
        faults = []
        if fault := _descriptor_fault(self._outputs.status_fd):
            faults.append(f"status-fd: {self._outputs.status_fd}: {fault}")
        self._status = _place("status-file", self._outputs.status_file, faults)
        self._pid = _place("pid-file", self._outputs.pid_file, faults)
        if self._status and self._pid and self._status.is_same(self._pid):
            faults.append(f"pid-file: {self._outputs.pid_file}: is the file of --status-file")
        if faults:
            raise UsageFault(faults)
        descriptor = self._outputs.status_fd
        if descriptor is not None and descriptor > 2:
            # Else the command could write records of its own, and keep a pipe open.
            os.set_inheritable(descriptor, False)
        # What an earlier launch left there must not be taken for the record of this one.
        for place in (self._status, self._pid):
            if place:
                place.clear()


def _place(name: str, path: str | None, faults: list[str]) -> Place | None:
    """Open the place of a file, and try it; add what is wrong to `faults`."""
    if path is None:
        return None
    try:
        return files.usable(name, path)
    except UsageFault as fault:
        faults += fault.faults
        return None


def _descriptor_fault(descriptor: int | None) -> str | None:
    if descriptor is None:
        return None
    try:
        mode = fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_ACCMODE
    except (OSError, OverflowError):
        return "is not open"
    return "is not open for writing" if mode == os.O_RDONLY else None


def _landlock(launch: Launch) -> dict[str, Any] | None:
    """Return the version of Landlock that limits the command, and what it could not limit."""
    rules = launch.ruleset
    return {"abi": rules.abi, "left_out": list(rules.left_out)} if rules else None


def _rows(process: int, kind: str) -> list[list[int]] | None:
    try:
        return [list(row) for row in procfs.id_map(kind, process)]
    except KernelError:
        return None
