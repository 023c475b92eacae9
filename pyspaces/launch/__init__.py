"""Start the command of a plan, and wait for it.

Runs in the parent. Must not know argv. `start` is for programs: it leaves signal handlers alone
and may be called from any thread. `run` is for the foreground of a terminal: it passes signals on.
"""

from __future__ import annotations

import errno
import os

from pyspaces.errors import CREATE, JOIN, PREPARE, Report, SpaceError, UsageFault
from pyspaces.features import environment
from pyspaces.features.life import limit_of, signal_of
from pyspaces.kernel import libc, namespaces, nsfs, procfs, spawn
from pyspaces.kernel.libc import KernelError
from pyspaces.kernel.spawn import Spawned
from pyspaces.launch import channel, inner, outer, signals
from pyspaces.launch.services import Gear, working_directory
from pyspaces.launch.signals import Inherited
from pyspaces.plan import Plan, checked
from pyspaces.visible import visible_lines

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import TracebackType
    from typing import NoReturn, Self

    from pyspaces.launch.outer import Ended, Observer
    from pyspaces.launch.signals import Reader
    from pyspaces.status import Status, Usage

_DEFAULT_PATH = b"/bin:/usr/bin"
# Before there is a child to name a stage, the call that failed does.
_STAGES = {
    **dict.fromkeys(("clone3", "clone", "fork", "unshare"), CREATE),
    **dict.fromkeys(("setns", "chroot"), JOIN),
}


def _tell(text: str) -> None:
    """Say something on standard error; where nobody can hear it, that changes nothing."""
    try:
        os.write(2, f"pyspaces: {visible_lines(text)}\n".encode())
    except OSError:
        return


class Running:
    """A command that has been started: the handle by which to wait for it or signal it.

    `pid` is its process id for the caller, `pidfd` a descriptor that stands for it. Close
    it, or use it as a context manager; closing waits for nothing and ends nothing.
    """

    def __init__(self, child: Spawned, watch: outer.Watch) -> None:
        self.pid = child.pid
        self.pidfd = child.pidfd
        self.child = child
        self.watch = watch

    @property
    def status(self) -> Status | None:
        """How the command ended, or None while it runs."""
        return self.poll()

    @property
    def usage(self) -> Usage | None:
        """What the command used in all, or None while it runs."""
        self.poll()
        return self.watch.ended.usage if self.watch.ended else None

    def poll(self) -> Status | None:
        """Return how the command ended, or None while it runs."""
        ended = self.watch.run(0)
        return ended.status if ended else None

    def wait(self, timeout: float | None = None) -> Status:
        """Wait for the command to end and return how.

        A time limit of the plan is kept meanwhile, and whenever one polls.
        timeout: seconds; None waits for ever. Raises TimeoutError when they are over.
        """
        ended = self.watch.run(limit_of(timeout))
        if ended is None:
            raise TimeoutError(f"process {self.pid} still runs after {timeout} s")
        return ended.status

    def send_signal(self, number: int) -> None:
        """Send signal `number` to the command; once it has ended, that does nothing.

        Process 1 of a pid namespace never notices one that it has no handler for. INT, TERM, HUP
        and QUIT end it all the same, and are reported as what ended it.
        """
        self.watch.ask(signal_of(number))

    def detach(self) -> int:
        """Give the pidfd away: the caller closes it, reaps the process, and calls `settle`."""
        descriptor, self.pidfd = self.pidfd, -1
        return descriptor

    def settle(self, status: Status) -> Status:
        """Take the end of a process that the caller has reaped; return how the command ended."""
        return self.watch.settle(status)

    def close(self) -> None:
        """Release the pidfd; more than once is fine."""
        if self.pidfd >= 0:
            descriptor, self.pidfd = self.pidfd, -1
            os.close(descriptor)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


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
    tell: Callable[[str], object] = _tell,
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
    function = _holder(plan) if plan.hold else function
    try:
        try:
            child, ends = _spawn(plan, variables, inherited, observe, function, before, gear, hold)
        except KernelError as error:
            raise _not_created(error, plan) from error
        gear.joined()
        _prepare(plan, child, ends, gear, observe=observe, reader=reader, hold=hold)
    except BaseException as error:
        gear.fail(error)
        raise
    return Running(child, gear.watch(child, reader))


def _not_created(error: KernelError, plan: Plan) -> SpaceError:
    """Return the error of a launch that failed before there was a child to name the stage."""
    if error.errno == errno.ETIMEDOUT and error.call == "clone":
        return outer.too_late(plan, JOIN)
    # Where namespaces are joined, whatever is not the creation itself belongs to that.
    other = JOIN if plan.joining else PREPARE
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
            deadline=gear.deadline,
        )
    except BaseException:
        os.close(child.pidfd)
        raise
    finally:
        ends.close()


def run(
    plan: Plan,
    *,
    observe: Observer = lambda text: None,
    forget_environment: bool = False,
    before: Callable[[], object] | None = None,
    hold: Callable[[Spawned], object] | None = None,
    tell: Callable[[str], object] = _tell,
) -> Ended:
    """Run the command of `plan` in the foreground: wait for it, and pass signals on to it.

    Where the plan says so, become the command instead, as `replace` does, and never return.
    forget_environment: where the plan clears the environment, erase that of this process too as
    /proc/PID/environ shows it; only for a process that is nothing but a launcher. The rest, and
    errors, as for `start`. Only from the main thread.
    """
    plan = checked(plan)
    if plan.life.pty:
        from pyspaces.features.terminal import fill_streams

        fill_streams()
    variables = caller_environment()
    if forget_environment and plan.environment.clear:
        procfs.erase_initial_environment()
    inherited = Inherited.capture()
    if plan.life.in_place:
        replace(
            plan,
            variables=variables,
            observe=observe,
            inherited=inherited,
            before=before,
            tell=tell,
        )
    try:
        with (
            signals.Reader(wake_after=plan.life.timeout) as reader,
            start(
                plan,
                variables=variables,
                observe=observe,
                inherited=inherited,
                reader=reader,
                before=before,
                hold=hold,
                tell=tell,
            ) as running,
        ):
            running.wait()
            assert running.watch.ended is not None
            return running.watch.ended
    except KernelError as error:
        raise outer.failure(Report.of(PREPARE, error), plan) from error


def replace(
    plan: Plan,
    *,
    variables: Mapping[bytes, bytes] | None = None,
    observe: Observer = lambda text: None,
    inherited: Inherited | None = None,
    before: Callable[[], object] | None = None,
    tell: Callable[[str], object] = _tell,
) -> NoReturn:
    """Become the command of `plan` in this process, with the same pid; nothing of ours stays.

    Arguments as for `start`; `before` is called in this process. Raises SpaceError where the launch
    fails; this process may be in the new namespaces by then, and should end.
    """
    plan = checked(plan)
    plan = checked(plan.replace(life=plan.life.replace(in_place=True, kill_child=None)))
    if procfs.thread_count() != 1:
        raise SpaceError("no-fork: a process with threads cannot move into new namespaces")
    from pyspaces.launch.outer.helper import start_helper

    gear = Gear(plan, tell, observe)
    before = gear.before(before)
    environ = _environment(plan, gear, variables)
    created = [name for name in plan.namespaces if name != "time"]
    observe(f"create the namespaces: {', '.join(created) or 'none'}")
    inherited = inherited or Inherited.capture()
    try:
        with signals.Blocked():
            # All of it before the first namespace is joined, which seals imports.
            context = inner.Context(
                plan=plan,
                channel=start_helper(plan, observe),
                launcher=-1,
                inherited=inherited,
                candidates=candidates(plan.command[0], environ),
                environment=environ,
                directory=working_directory(),
                tree=gear.tree(),
                guard=gear.guard(),
                leading=gear.leading(),
            )
            if before:
                before()
            if created:
                libc.unshare(namespaces.flags_of(created))
            inner.replace_self(context)
    except KernelError as error:
        raise _not_created(error, plan) from error


def _environment(
    plan: Plan, gear: Gear, variables: Mapping[bytes, bytes] | None
) -> dict[bytes, bytes]:
    base = gear.variables if variables is None or gear.variables is not None else variables
    return plan.environment.apply(caller_environment() if base is None else base)


def caller_environment() -> dict[bytes, bytes]:
    """Return the environment that the caller of this process gave, without what Python added."""
    current = dict(os.environb)
    if environment.is_coerced(current):
        return environment.without_coercion(current, procfs.initial_environment())
    return current


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
    variables = _environment(plan, gear, base)
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
                tree=gear.tree(),
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
                    deadline=gear.deadline,
                )
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
            if launcher >= 0:
                os.close(launcher)
    return child, ours


def candidates(command: str, variables: Mapping[bytes, bytes]) -> tuple[bytes, ...]:
    """Return the paths that exec tries for `command`, by PATH of `variables`, as execvp(3) does."""
    name = os.fsencode(command)
    if b"/" in name:
        return (name,)
    path = variables.get(b"PATH", _DEFAULT_PATH)
    return tuple(os.path.join(folder, name) for folder in path.split(b":"))
