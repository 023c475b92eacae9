"""What a launch takes along besides the child: a loop over the services that it asks for.

Runs in the parent. What a service is, and when each of its moments comes, is in `service`. Which
there are is said by `ROWS` alone: a new one is a file, and a row at its place.
"""

from __future__ import annotations

import os
import time

from pyspaces.errors import PREPARE, Report
from pyspaces.kernel import constants, procfs
from pyspaces.kernel.libc import KernelError
from pyspaces.launch import outer, signals
from pyspaces.launch.inner.identity import drop_groups
from pyspaces.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pyspaces.kernel.spawn import Spawned
    from pyspaces.launch.handed import Handed
    from pyspaces.launch.init import Post
    from pyspaces.launch.outer import Ended, Observer
    from pyspaces.launch.outer.clock import Clock
    from pyspaces.launch.outer.job import Job
    from pyspaces.launch.outer.link import Link
    from pyspaces.launch.outer.relay import Relay
    from pyspaces.launch.service import Service
    from pyspaces.launch.signals import Inherited, Reader
    from pyspaces.plan import Plan


class Launch:
    """One launch: what its caller brings, and what the services add to that.

    Brought, with the meaning that `start` gives it: plan, tell, observe, variables, inherited,
    handed, function, before, hold, and reader. calls: whether there is a function. begun: when it
    began, by the monotonic clock.

    Added for the child. target_variables: the environment of the process that is entered, where
    that is asked for. attach: what gives the command its terminal. post: what our process 1 needs.
    keep: what takes the changes of an overlay that vanish. not_for_others: what each new process
    calls first, once or twice, to close what only the launcher may have.

    Added for the launcher. inodes: of the namespaces that are joined, by name. start_by: when the
    launch is given up if the command does not run. clock, link, relay, job, peak_floor: as the
    watch takes them.
    """

    def __init__(self, plan: Plan, *, tell: Callable[[str], object], observe: Observer) -> None:
        self.plan, self.tell, self.observe = plan, tell, observe
        self.begun = time.monotonic()
        self.variables: Mapping[bytes, bytes] | None = None
        self.inherited: Inherited | None = None
        self.handed: Handed | None = None
        self.calls = False
        self.function: Callable[[], object] | None = None
        self.before: Callable[[], object] | None = None
        self.hold: Callable[[Spawned], object] | None = None
        self.reader: Reader | None = None

        self.target_variables: Mapping[bytes, bytes] | None = None
        self.attach: Callable[[], object] | None = None
        self.post: Post | None = None
        self.keep: Callable[[str, int], object] | None = None
        self.not_for_others: list[Callable[[], object]] = []

        self.inodes: dict[str, int] = {}
        self.start_by: float | None = None
        self.clock: Clock | None = None
        self.link: Link | None = None
        self.relay: Relay | None = None
        self.job: Job | None = None
        self.peak_floor = 0

    def leaves_group(self) -> bool:
        """Tell whether the command leaves our process group, where kill(0, SIGKILL) reaches us.

        Only where we are in the foreground, and it is in another pid namespace: elsewhere it can
        name us all the same. And not where our own group is out of our sight, and could never be
        given the terminal back.
        """
        apart = self.plan.has("pid") or "pid" in self.inodes
        if self.reader is None or not apart or self.plan.life.own_session:
            return False
        return os.getpgrp() != 0 or not signals.has_terminal()


class Row(Record):
    """A service: whether a launch asks for it, and where it is."""

    when: Callable[[Launch], object]
    load: Callable[[], type[Service]]


def _report() -> type[Service]:
    from pyspaces.launch.records.report import Report

    return Report


def _journal() -> type[Service]:
    from pyspaces.launch.records.journal import Journal

    return Journal


def _peak() -> type[Service]:
    from pyspaces.launch.records.peak import Peak

    return Peak


def _keeping() -> type[Service]:
    from pyspaces.launch.existing.keeping import Keeping

    return Keeping


def _name() -> type[Service]:
    from pyspaces.launch.existing.name import Name

    return Name


def _joined() -> type[Service]:
    from pyspaces.launch.existing.joined import Joined

    return Joined


def _terminal() -> type[Service]:
    from pyspaces.launch.outer.terminal import Terminal

    return Terminal


def _difference() -> type[Service]:
    from pyspaces.launch.records.difference import Difference

    return Difference


def _time_limit() -> type[Service]:
    from pyspaces.launch.outer.clock import TimeLimit

    return TimeLimit


def _init() -> type[Service]:
    from pyspaces.launch.outer.link import Init

    return Init


def _job_control() -> type[Service]:
    from pyspaces.launch.outer.job import JobControl

    return JobControl


def _is_recorded(launch: Launch) -> bool:
    outputs = launch.plan.outputs
    places = (outputs.status_fd, outputs.status_file, outputs.pid_file)
    return any(place is not None for place in places)


# In the order in which they are opened. `before` comes in this order, too; every later moment in
# the opposite one, with those last that tell of the launch (`Service.tells`).
ROWS = (
    # First, to be told last: people see what else went wrong above it. It opens nothing.
    Row(when=lambda launch: launch.plan.outputs.report, load=_report),
    # Before anything that the host may refuse: that is recorded, too. Told that the launch failed,
    # or how the command ended, when all else is released: who reads it finds the name free.
    Row(when=_is_recorded, load=_journal),
    Row(when=lambda launch: launch.plan.outputs, load=_peak),
    # Before the name: files that cannot be used are no reason to take it from others for a moment.
    Row(when=lambda launch: launch.plan.existing.keeps, load=_keeping),
    # Before all that follows: of two launches with one name, only one gets that far.
    Row(when=lambda launch: launch.plan.existing.name is not None, load=_name),
    # The last one that does something in the process that creates the child: what needs the rights
    # and paths of the caller there has to stand above it. Says whether the command is in another
    # pid namespace, which job control asks.
    Row(when=lambda launch: launch.plan.existing.joining, load=_joined),
    Row(when=lambda launch: launch.plan.life.pty, load=_terminal),
    # After the name, since it removes the file of an earlier command. Told before the journal:
    # whoever waits for the record of the end finds the file.
    Row(when=lambda launch: launch.plan.outputs.overlay_diff is not None, load=_difference),
    # After the name and the terminal: at the end it says why, before what they may have to say.
    Row(when=lambda launch: launch.plan.life.timeout is not None, load=_time_limit),
    Row(when=lambda launch: launch.plan.life.init, load=_init),
    # After what decides on the process group. The terminal goes to the command's group before
    # anything else is done for a child that waits, and comes back before anything is told.
    Row(when=lambda launch: launch.leaves_group() and signals.has_terminal(), load=_job_control),
)


class Services:
    """The services of one launch; makes and opens them.

    Raises SpaceError and UsageFault where one cannot be opened; those before it are released then.
    """

    def __init__(self, launch: Launch) -> None:
        self._launch = launch
        self._opened: list[Service] = []
        try:
            self._open()
        except KernelError as error:
            failure = outer.failure(Report.of(PREPARE, error), launch.plan)
            self.failed(failure)
            raise failure from error
        except BaseException as error:
            self.failed(error)
            raise

    def _open(self) -> None:
        for row in ROWS:
            if row.when(self._launch):
                service = row.load()(self._launch)
                service.open()
                self._opened.append(service)

    def before(self) -> Callable[[], object] | None:
        """Return what the process that creates the child does first; None where that is nothing."""
        given = self._launch.before
        services = [service for service in self._opened if service.prepares]
        groups = _has_groups_to_drop(self._launch.plan)
        if given is None and not groups and not services:
            return None

        def prepare() -> None:
            if given:
                given()
            if groups:
                drop_groups()
            self.leave_to_launcher()
            for service in services:
                service.before()

        return prepare

    def leave_to_launcher(self) -> None:
        """Close, in a new process, what only the launcher may have: it is open on the host."""
        for close in self._launch.not_for_others:
            close()

    def holding(self) -> Callable[[Spawned], object] | None:
        """Return what happens while the child is held; None where nothing has to."""
        given = self._launch.hold
        services = [service for service in self._in_turn() if service.holds]
        if not services:
            return given

        def hold(child: Spawned) -> None:
            if given:
                given(child)
            for service in services:
                service.held(child)

        return hold

    def started(self, child: Spawned) -> None:
        """Say that the command runs. Raises what a service raises: the launch has then failed."""
        for service in self._in_turn():
            service.started(child)

    def failed(self, error: BaseException) -> None:
        """Say that the launch has failed, and release everything."""
        self._close(lambda service: service.failed(error))

    def ended(self, ended: Ended) -> None:
        """Say how the command has ended, and release everything."""
        self._close(lambda service: service.ended(ended))

    def _in_turn(self) -> list[Service]:
        latest_first = self._opened[::-1]
        return sorted(latest_first, key=lambda service: service.tells)

    def _close(self, act: Callable[[Service], object]) -> None:
        """Give each its last moment, whatever becomes of the others'.

        What goes wrong is told and changes nothing else: how the command ended is worth more. Only
        what ends a program, such as KeyboardInterrupt, is raised, after the last.
        """
        services, self._opened = self._in_turn(), []
        interruption: BaseException | None = None
        for service in services:
            try:
                self._attempt(service, act)
            except BaseException as error:  # noqa: BLE001 - raised below
                interruption = interruption or error
        if interruption:
            raise interruption

    def _attempt(self, service: Service, act: Callable[[Service], object]) -> None:
        try:
            act(service)
        except Exception as error:  # noqa: BLE001 - whatever it is, the status comes first
            self._launch.tell(f"cannot {service.task}: {error}")


def _has_groups_to_drop(plan: Plan) -> bool:
    """Tell whether the caller's groups have to go before the child is created.

    Root of the host may drop them, as long as it is outside; anybody else may not, inside or out.
    """
    stranded = plan.strands_groups() and procfs.has_capability(constants.CAP_SETGID)
    return bool(stranded and os.getgroups())
