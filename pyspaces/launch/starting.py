"""The start of a launch: the child is created, and brought to exec.

Runs in the parent.
"""

from __future__ import annotations

import errno
import os

from pyspaces.errors import CREATE, JOIN, PREPARE, Report, UsageFault
from pyspaces.kernel import namespaces, nsfs, spawn
from pyspaces.kernel.libc import KernelError
from pyspaces.launch import channel, inner, signals
from pyspaces.launch.command import context_of
from pyspaces.launch.outer import prepare
from pyspaces.launch.services import Launch, Services, tell_people
from pyspaces.plan.plan import checked

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pyspaces.errors import SpaceError
    from pyspaces.kernel.spawn import Spawned
    from pyspaces.launch.handed import Handed
    from pyspaces.launch.outer.prepare import Observer
    from pyspaces.launch.running import Running
    from pyspaces.launch.signals import Inherited, Reader
    from pyspaces.plan import Plan


# Before there is a child to name a stage, the call that failed does.
_STAGES = {
    **dict.fromkeys(("clone3", "clone", "fork", "unshare"), CREATE),
    **dict.fromkeys(("setns", "chroot"), JOIN),
}


def start(  # noqa: PLR0913 - a keyword for each thing that a caller may bring
    plan: Plan,
    *,
    variables: Mapping[bytes, bytes] | None = None,
    observe: Observer | None = None,
    inherited: Inherited | None = None,
    handed: Handed | None = None,
    reader: Reader | None = None,
    function: Callable[[], object] | None = None,
    before: Callable[[], object] | None = None,
    hold: Callable[[Spawned], object] | None = None,
    tell: Callable[[str], object] = tell_people,
) -> Running:
    """Start the command of `plan`; return once exec has succeeded.

    variables: what the plan's changes to the environment apply to; the caller's if None.
    observe: called with each step, as it begins. inherited: the signal state that the command
    gets; this thread's if None. handed: the streams and descriptors of the command, and the like;
    it has those of this process if None. reader: signals that abort the launch; none if None.
    function: what to call in the new process instead of the command, whose name then is a label;
    the plan's environment is there in `os.environ`. before: what the process that creates the new
    one does first, such as joining namespaces. hold: called once everything is set up, with the
    child, which waits right before exec until it returns. tell: called with messages that
    are not errors; standard error if not given. The command dies with the thread that calls
    this, unless the plan says otherwise; with this process, if the launch server creates it, as it
    does for a process that is large (`launch.use_server`).
    Raises UsageFault for an invalid plan, Interrupted, or SpaceError if the launch fails; nothing
    is left running then.
    """
    _load_for_threads()
    launch = Launch(checked(plan), tell=tell, observe=observe)
    launch.variables, launch.inherited, launch.reader = variables, inherited, reader
    launch.handed = handed
    launch.function, launch.before, launch.hold = function, before, hold
    return start_launch(launch)


def _load_for_threads() -> None:
    """Load what a launch beside threads needs: before the next one, the root may move."""
    try:
        import pyspaces.kernel.through_fork  # noqa: F401
    except ImportError:  # it has moved already; without threads, this launch needs none of it
        return


def start_launch(launch: Launch) -> Running:
    """Start the command of a launch; returns and raises as `start` does."""
    plan = launch.plan
    if plan.holds("life") and plan.life.in_place:
        raise UsageFault(["no-fork: start() leaves a launcher behind: call replace()"])
    launch.calls = launch.function is not None
    services = Services(launch)
    if launch.calls and launch.variables is None:
        launch.variables = dict(os.environb)
    child: Spawned | None = None
    try:
        child = _started(launch, services)
        return _handle_of(launch, services, child)
    except BaseException as error:
        if child:  # a handler of a signal has raised: nobody will know of the command
            _discard(child)
        services.failed(error)
        raise


def _handle_of(launch: Launch, services: Services, child: Spawned) -> Running:
    """Return the handle of a command that runs."""
    # These may refer to the owner of the handle: a circle would keep its descriptor open.
    launch.function = launch.before = launch.hold = None
    # Loaded while the command begins. As long as the child has not executed it, the kernel copies
    # each page that this process writes to, which makes loading take twice as long.
    from pyspaces.launch.outer.watch import Watch
    from pyspaces.launch.running import Running

    return Running(child, Watch(launch, child, services.ended), launch.ports)


def _started(launch: Launch, services: Services) -> Spawned:
    """Create the child and bring it to exec. Raises with no child left."""
    if launch.plan.holds("existing") and launch.plan.existing.hold:
        from pyspaces.launch import loading

        launch.function = loading.holder_of(launch.plan)
    try:
        child, ends = _create(launch, services)
    except KernelError as error:
        raise not_created(error, launch.plan) from error
    try:
        try:
            prepare.prepare_child(launch, child, ends, services.holding())
        finally:
            ends.close()
        _tell_of_start(launch, services, child)
    except BaseException:
        _discard(child)  # it has ended, but if a signal has interrupted this at an odd moment
        raise
    return child


def _discard(child: Spawned) -> None:
    from pyspaces.launch.outer.ending import discard  # few launches fail

    discard(child)


def not_created(error: KernelError, plan: Plan) -> SpaceError:
    """Return the error of a launch that failed before there was a child to name the stage."""
    if error.errno == errno.ETIMEDOUT and error.call == "clone":
        return prepare.too_late(plan, JOIN)
    # If namespaces are joined, all errors but those of the creation belong to that stage.
    other = JOIN if plan.joining() else PREPARE
    return prepare.failure(Report.of(_STAGES.get(error.call, other), error), plan)


def created_at_once(launch: Launch) -> list[str]:
    """Report which namespaces are created at once, and return their names."""
    # The kernel takes CLONE_NEWTIME in clone3 too, but offsets can then no longer be written.
    # A cgroup of its own is to be the root of its cgroup namespace, so the child creates that.
    late = ("time", "cgroup") if launch.plan.holds("resources") else ("time",)
    created = [name for name in launch.plan.namespaces if name not in late]
    launch.observe(f"create the namespaces: {', '.join(created) or 'none'}")
    return created


def _create(launch: Launch, services: Services) -> tuple[Spawned, channel.Channel]:
    """Create the child; return it, and the end of the channel by which it is spoken to."""
    flags = namespaces.flags_of(created_at_once(launch))
    with spawn.forks_held():
        if made := _create_by_server(launch, services, flags):
            return made
        # A child that is about to be confined writes its last messages to a board.
        confines = launch.plan.holds("landlock", "limits", "seccomp")
        watched = launch.observe is not prepare.do_nothing
        ours, theirs = channel.pair(channel.new_board() if confines else None, watched=watched)
        launcher = -1
        child: Spawned | None = None
        try:
            try:
                launcher = nsfs.pidfd_open(os.getpid())
                held = services.holding() is not None
                context = context_of(launch, theirs, launcher, held=held)
                child = _spawn(launch, services, context, ours, flags)
            finally:
                theirs.close()
                if launcher >= 0:
                    os.close(launcher)
        except BaseException:
            if child:  # a handler of a signal has raised
                _discard(child)
            ours.close()
            raise
    return child, ours


def _create_by_server(
    launch: Launch, services: Services, flags: int
) -> tuple[Spawned, channel.Channel] | None:
    """Let the launch server create the child; return None if this process has to fork."""
    if launch.reader or launch.function:
        return None
    try:
        from pyspaces.launch.server.choice import create
    except ImportError:  # the root has moved since this process began
        return None
    return create(launch, services, flags)


def _spawn(
    launch: Launch, services: Services, context: inner.Context, ours: channel.Channel, flags: int
) -> Spawned:
    """Create the child, with every signal blocked until its set-up is done."""
    telling = inner.Telling(context)
    cgroup = launch.cgroup.opened() if launch.cgroup else -1

    def start_inner() -> None:
        if cgroup >= 0:
            os.close(cgroup)
        ours.close()
        services.leave_to_launcher()
        inner.run_inner(telling)

    before, until = services.before(), launch.start_by
    child: Spawned | None = None
    try:
        with signals.Blocked():
            child = spawn.spawn(
                start_inner, flags=flags, before=before, deadline=until, cgroup=cgroup
            )
    except BaseException:
        if child:  # a signal that had to wait has a handler that raises, as Ctrl-C has
            _discard(child)
        raise
    finally:
        if cgroup >= 0:
            os.close(cgroup)
    return child


def _tell_of_start(launch: Launch, services: Services, child: Spawned) -> None:
    try:
        services.started(child)
    except BaseException as error:
        from pyspaces.launch.outer.ending import end_child

        end_child(child)
        if isinstance(error, KernelError):
            raise prepare.failure(Report.of(PREPARE, error), launch.plan) from error
        raise
