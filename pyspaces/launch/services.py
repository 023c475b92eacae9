"""One launch, and the loop over the services that its plan asks for.

Runs in the parent. What a service is, and when each of its moments comes, is in `service`; which
there are is in `loading.ROWS` alone.
"""

from __future__ import annotations

import os
import sys
import time

from pyspaces.errors import PREPARE, Report, visible_lines
from pyspaces.kernel import constants, procfs
from pyspaces.kernel.libc import KernelError
from pyspaces.launch import signals
from pyspaces.launch.inner import identity
from pyspaces.launch.outer import prepare

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pyspaces.features.confinement.ruleset import Ruleset
    from pyspaces.features.confinement.seccomp import Filter
    from pyspaces.features.network.values import Port
    from pyspaces.kernel.spawn import Spawned
    from pyspaces.launch.arranging import Locking
    from pyspaces.launch.handed import Handed
    from pyspaces.launch.init import Post
    from pyspaces.launch.learning import Handover
    from pyspaces.launch.network.inside import Attachment, Inside
    from pyspaces.launch.network.wire import Wire
    from pyspaces.launch.outer.cgroup import Cgroup
    from pyspaces.launch.outer.clock import Clock
    from pyspaces.launch.outer.job import Job
    from pyspaces.launch.outer.link import Link
    from pyspaces.launch.outer.prepare import Observer
    from pyspaces.launch.outer.relay import Relay
    from pyspaces.launch.service import Service
    from pyspaces.launch.signals import Inherited, Reader
    from pyspaces.plan import Plan
    from pyspaces.status import Ended


class Launch:
    """One launch: what its caller brings, and what the services add to that.

    Brought, with the meaning that `start` gives it: plan, tell, observe, variables, inherited,
    handed, function, before, hold, and reader.
    calls: whether there is a function. begun: when it began, by the monotonic clock.

    Added for the child. target_variables: the environment of the process that is entered, where
    that is asked for. attach: what gives the command its terminal. post: what our process 1 needs.
    keep: what takes the changes of an overlay that vanish. network, uplink: what gives the launcher
    a socket of the command's network. between: what connects that with a network of several
    commands. listening: the sockets that the command is given. ruleset: what the command can reach.
    filters: what it may call. handover: what lets its calls be watched. cgroup: its own, if it has
    one. locking: what locks files inside. not_for_others: what each new process calls first, once
    or twice, to close what only the launcher may have.

    Added for the launcher. caller: the process with which it dies, or 0. map: what writes the id
    maps, if that is not the launch itself. inodes: of the namespaces that are joined, by name.
    start_by: when the launch is given up if the command does not run. clock, link, relay, job,
    peak_floor: as the watch takes them. ports: those that are published, with the numbers that they
    have. companions: what the helper processes of the launch are, by their pidfds. facts,
    last_facts: further members of the record of its start and its end. told_to_people: further
    lines of the summary, as names and values. limit: the name of the limit that has ended the
    command, if one did.
    """

    variables: Mapping[bytes, bytes] | None = None
    inherited: Inherited | None = None
    handed: Handed | None = None
    calls: bool = False
    function: Callable[[], object] | None = None
    before: Callable[[], object] | None = None
    hold: Callable[[Spawned], object] | None = None
    reader: Reader | None = None

    target_variables: Mapping[bytes, bytes] | None = None
    ruleset: Ruleset | None = None
    filters: tuple[Filter, ...] = ()
    handover: Handover | None = None
    cgroup: Cgroup | None = None
    locking: Locking | None = None
    attach: Callable[[], object] | None = None
    post: Post | None = None
    keep: Callable[[str, int], object] | None = None
    network: Inside | None = None
    uplink: Attachment | None = None
    between: Wire | None = None
    listening: tuple[int, ...] = ()

    caller: int = 0
    map: Callable[[Spawned], bool] | None = None
    start_by: float | None = None
    clock: Clock | None = None
    link: Link | None = None
    relay: Relay | None = None
    job: Job | None = None
    peak_floor: int = 0
    ports: tuple[Port, ...] = ()
    limit: str | None = None

    def __init__(
        self, plan: Plan, *, tell: Callable[[str], object], observe: Observer | None
    ) -> None:
        self.plan: Plan = plan
        self.tell = tell
        self.observe = observe or prepare.do_nothing
        self.begun = time.monotonic()
        self.not_for_others: list[Callable[[], object]] = []
        self.inodes: dict[str, int] = {}
        self.companions: dict[int, str] = {}
        self.facts: dict[str, object] = {}
        self.last_facts: dict[str, object] = {}
        self.told_to_people: list[tuple[str, str]] = []

    def leaves_group(self) -> bool:
        """Return whether the command leaves our process group, where kill(0, SIGKILL) reaches us.

        Only if we are in the foreground and it is in another pid namespace: otherwise it can name
        us all the same. And not if our own group is not visible here, and could never be given the
        terminal back.
        """
        apart = self.plan.has("pid") or "pid" in self.inodes
        if self.reader is None or not apart:
            return False
        if self.plan.holds("life") and self.plan.life.own_session:
            return False
        return os.getpgrp() != 0 or not signals.has_terminal()

    def controls_jobs(self) -> bool:
        """Return whether the terminal has to be passed between the command and the caller."""
        return self.leaves_group() and signals.has_terminal()


def tell_people(text: str) -> None:
    """Print a message on standard error; ignore it if that fails."""
    if sys.stderr is None:  # closed when we were started: 2 is the number of another file by now
        return
    try:
        os.write(2, f"pyspaces: {visible_lines(text)}\n".encode())
    except OSError:
        return


class Services:
    """The services of one launch; makes and opens them.

    Raises SpaceError and UsageFault if one cannot be opened; those before it are released then.
    """

    def __init__(self, launch: Launch) -> None:
        self._launch = launch
        self._opened: list[Service] = []
        try:
            self._open()
        except KernelError as error:
            failure = prepare.failure(Report.of(PREPARE, error), launch.plan)
            self.failed(failure)
            raise failure from error
        except BaseException as error:
            self.failed(error)
            raise

    def _open(self) -> None:
        if not may_have_services(self._launch):
            return
        from pyspaces.launch import loading

        for make in loading.services_of(self._launch):
            service = make(self._launch)
            service.open()
            self._opened.append(service)

    def before(self) -> Callable[[], object] | None:
        """Return what the process that creates the child does first; None if nothing."""
        given = self._launch.before
        services = [service for service in self._opened if service.prepares]
        groups = _has_groups_to_drop(self._launch.plan)
        if given is None and not groups and not services:
            return None

        def prepare() -> None:
            if given:
                given()
            if groups:
                identity.drop_groups()
            self.leave_to_launcher()
            for service in services:
                service.before()

        return prepare

    def leave_to_launcher(self) -> None:
        """Close, in a new process, what only the launcher may have: it is open on the host."""
        for close in self._launch.not_for_others:
            close()

    def holding(self) -> Callable[[Spawned], object] | None:
        """Return what to do while the child is held; None if nothing."""
        given = self._launch.hold
        if not self._opened:
            return given
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
        """Tell the services that the command runs; if one raises, the launch has failed."""
        for service in self._in_turn():
            service.started(child)

    def failed(self, error: BaseException) -> None:
        """Tell the services that the launch has failed, which releases everything."""
        self._close(lambda service: service.failed(error))

    def ended(self, ended: Ended) -> None:
        """Tell the services how the command has ended, which releases everything."""
        self._close(lambda service: service.ended(ended))

    def _in_turn(self) -> list[Service]:
        latest_first = self._opened[::-1]
        return sorted(latest_first, key=lambda service: service.tells)

    def _close(self, act: Callable[[Service], object]) -> None:
        """Give each service its last moment, even if another fails.

        What goes wrong is printed and changes nothing else: how the command ended is worth more.
        Only what ends a program, such as KeyboardInterrupt, is raised, after the last.
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


def may_have_services(launch: Launch) -> bool:
    """Return whether any service can be meant: most launches have none, and load none."""
    return launch.plan.asks("is_served") or launch.controls_jobs()


def _has_groups_to_drop(plan: Plan) -> bool:
    """Return whether the caller's groups have to be dropped before the child is created.

    Root of the host may drop them, as long as it is outside; anybody else may not, inside or out.
    """
    stranded = plan.strands_groups() and procfs.has_capability(constants.CAP_SETGID)
    return bool(stranded and os.getgroups())
