"""What only some launches need, loaded once the plan is known and before the fork.

Runs in the parent: the child loads nothing. This module itself is loaded only if the plan says
anything about the life of the command, the file system, or what exists besides.
"""

from __future__ import annotations

from pyspaces.plan.plan import loaded
from pyspaces.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    from pyspaces.features.outputs import Outputs
    from pyspaces.launch.service import Service
    from pyspaces.launch.services import Launch
    from pyspaces.plan import Plan


class Row(Record):
    """A service: whether a launch asks for it, and what loads it."""

    when: Callable[[Launch], object]
    load: Callable[[], type[Service]]


def _for(part: str, when: Callable[[Any], object], module: str, name: str) -> Row:
    """Return the row of a service that a part of a plan asks for. part: one that `is_served`."""

    def asks(launch: Launch) -> object:
        return launch.plan.holds(part) and when(getattr(launch.plan, part))

    return Row(when=asks, load=lambda: loaded(f"pyspaces.launch.{module}", name))


def _is_recorded(outputs: Outputs) -> bool:
    return (outputs.status_fd, outputs.status_file, outputs.pid_file) != (None, None, None)


# In the order in which they are opened. `before` comes in this order, too; every later moment in
# the opposite one, with those last that tell of the launch (`Service.tells`).
ROWS: tuple[Row, ...] = (
    # The first that does anything: whatever follows ends with the launcher.
    _for("life", lambda part: part.die_with_parent, "outer.caller", "Caller"),
    # First, so that it comes last: people see what else went wrong above it. It opens nothing.
    _for("outputs", lambda part: part.report, "records.report", "Report"),
    # Before anything that the host may refuse: that is recorded as well. Told of the failure, or
    # how the command ended, when all else is released: who reads it finds the name free.
    _for("outputs", _is_recorded, "records.journal", "Journal"),
    _for("outputs", bool, "records.peak", "Peak"),
    # Before anything is there for others to see: an invalid profile is a usage error.
    Row(
        when=lambda launch: launch.plan.holds("seccomp", "landlock"),
        load=lambda: loaded("pyspaces.launch.confining", "Confining"),
    ),
    # Before any process is started, and released after all: if this process has to move one level
    # down, it has to be alone. Before the name: a host without cgroups is no reason to take it.
    _for("resources", lambda part: True, "outer.cgroup", "Cgroup"),
    # Before the name, as all that checks what the caller has given.
    Row(
        when=lambda launch: launch.plan.holds("descriptors") and not launch.plan.descriptors.locks,
        load=lambda: loaded("pyspaces.launch.arranging", "Arranging"),
    ),
    Row(
        when=lambda launch: launch.plan.holds("descriptors") and launch.plan.descriptors.locks,
        load=lambda: loaded("pyspaces.launch.arranging", "ArrangingLocks"),
    ),
    # Before the name: files that cannot be used are no reason to take it from others for a moment.
    _for("existing", lambda part: part.keeps, "existing.keeping", "Keeping"),
    # Before the name, for the same reason: a program that is not installed. Before the ports: their
    # numbers are known when it is started.
    _for("uplink", lambda part: part.mode, "network.uplink", "Leading"),
    # Before the name, for the same reason: a port that is taken.
    _for("network", lambda part: part.crosses, "network.crossing", "Crossing"),
    # Before whatever the child needs gets a descriptor of the numbers that its sockets will have.
    _for("network", lambda part: part.listen, "network.activation", "Activation"),
    # Before all that follows: of two launches with one name, only one gets that far.
    _for("existing", lambda part: part.name is not None, "existing.name", "Name"),
    # After the name, since a network has files with its name. While the child is held, before the
    # name is passed on: who finds that finds the network as well.
    _for("between", lambda part: part.subnets, "network.joining", "Bridge"),
    _for("between", lambda part: part.network is not None, "network.joining", "Membership"),
    _for("between", lambda part: part.bridge is not None, "network.wired", "Wired"),
    # The last one that does something in the process that creates the child: what needs the rights
    # and paths of the caller there has to stand above it. Says whether the command is in another
    # pid namespace, which job control asks.
    _for("existing", lambda part: part.joining, "existing.joined", "Joined"),
    _for("life", lambda part: part.pty, "outer.terminal", "Terminal"),
    # After the name, since it removes the file of an earlier command. Told before the journal:
    # a program that waits for the record of the end finds the file.
    _for("outputs", lambda part: part.overlay_diff is not None, "records.difference", "Difference"),
    # After the name, since it removes the file of an earlier command. Starts a process while the
    # child is held, before anything that may fail then.
    Row(
        when=lambda launch: launch.plan.holds("seccomp") and launch.plan.seccomp.learn is not None,
        load=lambda: loaded("pyspaces.launch.learning", "Learning"),
    ),
    # After the name and the terminal: at the end it says why, before what they may have to say.
    _for("life", lambda part: part.timeout is not None, "outer.clock", "TimeLimit"),
    # As the time limit: it says why.
    Row(
        when=lambda launch: (
            launch.plan.holds("seccomp")
            or (launch.plan.holds("limits") and launch.plan.limits.rlimits)
        ),
        load=lambda: loaded("pyspaces.launch.records.verdict", "Verdict"),
    ),
    _for("life", lambda part: part.init, "outer.link", "Init"),
    # After what decides on the process group. The terminal goes to the command's group before
    # anything else is done for a child that waits, and comes back before anything is told.
    Row(
        when=lambda launch: launch.controls_jobs(),
        load=lambda: loaded("pyspaces.launch.outer.job", "JobControl"),
    ),
    # But only once the caller has said so: until then, Ctrl-C is for the launcher.
    Row(
        when=lambda launch: (
            launch.plan.holds("descriptors") and launch.plan.descriptors.block is not None
        ),
        load=lambda: loaded("pyspaces.launch.arranging", "Waiting"),
    ),
)


def services_of(launch: Launch) -> Iterator[type[Service]]:
    """Yield the services that a launch asks for; each is open before the next is looked at."""
    for row in ROWS:
        if row.when(launch):
            yield row.load()


def equipment_of(launch: Launch) -> dict[str, Any]:
    """Return fields of a Context: for the file system, the network, and a process 1 of ours."""
    plan = launch.plan
    found: dict[str, Any] = {}
    if plan.holds("mounts") and plan.mounts.operations:
        from pyspaces.mounts.building import Building
        from pyspaces.mounts.tree import Tree

        creates = plan.mounts.create_targets
        tree = Tree(empty=plan.mounts.empty_root, creates=creates, keep=launch.keep)
        found["building"] = Building(plan.mounts.operations, tree)
    if plan.holds("mounts") and plan.mounts.guard_proc:
        from pyspaces.mounts.guard import Guard

        sysfs = plan.holds("privileges") and "ALL" in plan.privileges.cap_drop
        found["guard"] = Guard(builds_tree=plan.mounts.builds_tree, sysfs=sysfs).guard_inner
    joining = plan.joining()
    if plan.builds_tree() or (joining and (joining.root or "mount" in joining.names())):
        # The root is not the caller's own.
        from pyspaces.launch.inner.leading import Leading

        found["leading"] = Leading()
    if plan.holds("network"):
        found |= {"network": launch.network, "listening": launch.listening}
    if plan.holds("uplink"):
        found["uplink"] = launch.uplink
    if plan.holds("between"):
        found["between"] = launch.between
    if plan.holds("descriptors"):
        found["locking"] = launch.locking
    if plan.holds("landlock", "seccomp"):
        found |= {"ruleset": launch.ruleset, "filters": launch.filters}
        found["handover"] = launch.handover
    if launch.post and plan.holds("privileges") and plan.privileges.changes:
        found["limit"] = _limit_of_process_1(plan)
    return found


def _limit_of_process_1(plan: Plan) -> Callable[[], object]:
    """Return what leaves process 1 of ours no capability that its command, tracing it, could use.

    Except CAP_KILL if the command is another user: signals are passed on to it.
    """
    from pyspaces.features.ids.capabilities import keep_for_signals_inner

    privileges = plan.privileges
    always = plan.holds("identity") and plan.identity.uid is not None

    def limit_inner() -> None:
        keep_for_signals_inner(privileges.cap_drop, privileges.cap_add, always=always)

    return limit_inner


def holder_of(plan: Plan) -> Callable[[], object]:
    """Return what the child does if there is no command."""
    from pyspaces.kernel import erasing
    from pyspaces.launch.inner.hold import hold

    visible = erasing.visible_memory()
    return lambda: hold(plan, visible)
