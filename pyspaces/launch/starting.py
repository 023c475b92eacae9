"""The start of a launch: the child is created, and brought to exec.

Runs in the parent.
"""

from __future__ import annotations

import errno
import os

from pyspaces.errors import CREATE, JOIN, PREPARE, Report, UsageFault
from pyspaces.kernel import namespaces, nsfs, procfs, spawn
from pyspaces.kernel.libc import KernelError
from pyspaces.launch import channel, inner, outer, signals
from pyspaces.launch.command import caller_environment, candidates
from pyspaces.launch.running import Running
from pyspaces.launch.services import Gear, working_directory
from pyspaces.launch.signals import Inherited
from pyspaces.plan import checked
from pyspaces.visible import visible_lines

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pyspaces.errors import SpaceError
    from pyspaces.kernel.spawn import Spawned
    from pyspaces.launch.outer import Observer
    from pyspaces.launch.signals import Reader
    from pyspaces.plan import Plan


# Before there is a child to name a stage, the call that failed does.
_STAGES = {
    **dict.fromkeys(("clone3", "clone", "fork", "unshare"), CREATE),
    **dict.fromkeys(("setns", "chroot"), JOIN),
}


def tell_people(text: str) -> None:
    """Say something on standard error; where nobody can hear it, that changes nothing."""
    try:
        os.write(2, f"pyspaces: {visible_lines(text)}\n".encode())
    except OSError:
        return


def start(  # noqa: PLR0913 - a keyword for each thing that a caller may bring
    plan: Plan,
    *,
    variables: Mapping[bytes, bytes] | None = None,
    observe: Observer = lambda text: None,
    inherited: Inherited | None = None,
    reader: Reader | None = None,
    function: Callable[[], object] | None = None,
    before: Callable[[], object] | None = None,
    hold: Callable[[Spawned], object] | None = None,
    tell: Callable[[str], object] = tell_people,
) -> Running:
    """Start the command of `plan`; return once exec has succeeded.

    variables: what the plan's changes to the environment apply to; the caller's if None.
    observe: called with each step, as it begins. inherited: the signal state that the command
    gets; this thread's if None. reader: signals that abort the launch; none if None. function:
    what to call in the new process instead of the command, whose name then is a label; the plan's
    environment is there in `os.environ`. before:
    what the process that creates the new one does first, such as joining namespaces. hold: called
    once everything is set up, with the child, which waits right before exec until it returns.
    tell: called with what people are told apart from errors; standard error if not given. The
    command dies with the thread that calls this, unless the plan says otherwise.
    Raises UsageFault for a plan that cannot be meant, Interrupted, or SpaceError where the launch
    fails; nothing is left running then.
    """
    plan = checked(plan)
    if plan.life.in_place:
        raise UsageFault(["no-fork: start() leaves a launcher behind: call replace()"])
    gear = Gear(plan, tell, observe, calls=function is not None, foreground=reader is not None)
    if function and variables is None:
        variables = dict(os.environb)
    function = _holder(plan) if plan.existing.hold else function
    try:
        try:
            child, ends = _spawn(plan, variables, inherited, observe, function, before, gear, hold)
        except KernelError as error:
            raise not_created(error, plan) from error
        gear.joined()
        _prepare(plan, child, ends, gear, observe=observe, reader=reader, hold=hold)
    except BaseException as error:
        gear.fail(error)
        raise
    return Running(child, gear.watch(child, reader))


def not_created(error: KernelError, plan: Plan) -> SpaceError:
    """Return the error of a launch that failed before there was a child to name the stage."""
    if error.errno == errno.ETIMEDOUT and error.call == "clone":
        return outer.too_late(plan, JOIN)
    # Where namespaces are joined, whatever is not the creation itself belongs to that.
    other = JOIN if plan.existing.joining else PREPARE
    return outer.failure(Report.of(_STAGES.get(error.call, other), error), plan)


def _holder(plan: Plan) -> Callable[[], object]:
    """Return what the child does where there is no command."""
    from pyspaces.launch.inner.hold import hold

    environment = procfs.visible_memory()[1:]
    return lambda: hold(plan, environment)


def _prepare(
    plan: Plan,
    child: Spawned,
    ends: channel.Channel,
    gear: Gear,
    *,
    observe: Observer,
    reader: Reader | None,
    hold: Callable[[Spawned], object] | None,
) -> None:
    hold = gear.holding(hold)
    try:
        outer.prepare_child(
            *(plan, child, ends),
            observe=observe,
            reader=reader,
            hold=hold,
            deadline=gear.start_by,
        )
    except BaseException:
        os.close(child.pidfd)
        raise
    finally:
        ends.close()


def environment_of(
    plan: Plan, gear: Gear, variables: Mapping[bytes, bytes] | None
) -> dict[bytes, bytes]:
    """Return the environment of the command: changed as the plan says."""
    base = gear.variables if variables is None or gear.variables is not None else variables
    return plan.environment.apply(caller_environment() if base is None else base)


def _spawn(
    plan: Plan,
    base: Mapping[bytes, bytes] | None,
    inherited: Inherited | None,
    observe: Observer,
    function: Callable[[], object] | None,
    before: Callable[[], object] | None,
    gear: Gear,
    hold: Callable[[Spawned], object] | None,
) -> tuple[Spawned, channel.Channel]:
    """Create the child, with every signal blocked until its set-up is done."""
    variables = environment_of(plan, gear, base)
    # The kernel takes CLONE_NEWTIME in clone3 too, but offsets can then no longer be written.
    created = [name for name in plan.namespaces if name != "time"]
    observe(f"create the namespaces: {', '.join(created) or 'none'}")
    with spawn.forks_held():
        ours, theirs = channel.pair()
        launcher = -1
        try:
            launcher = nsfs.pidfd_open(os.getpid())
            context = inner.Context(
                plan=plan,
                channel=theirs,
                launcher=launcher,
                inherited=inherited or Inherited.capture(),
                candidates=candidates(plan.command[0], variables),
                environment=variables,
                directory=working_directory(),
                function=function,
                held=gear.holding(hold) is not None,
                own_group=gear.own_group,
                attach=gear.attach,
                post=gear.post,
                building=gear.building(),
                guard=gear.guard(),
                leading=gear.leading(),
            )

            def start_inner() -> None:
                ours.close()
                gear.release_descriptors()
                inner.run_inner(context)

            with signals.Blocked():
                child = spawn.spawn(
                    start_inner,
                    flags=namespaces.flags_of(created),
                    before=gear.before(before),
                    deadline=gear.start_by,
                )
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
            if launcher >= 0:
                os.close(launcher)
    return child, ours
