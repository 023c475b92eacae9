"""Start the command of a plan, and wait for it.

Runs in the parent. Must not know argv. `start` is for programs: it leaves signal handlers alone
and may be called from any thread. `run` is for the foreground of a terminal: it passes signals on.
"""

from __future__ import annotations

import _thread
import os

from pyspaces import channel, environment, inner, namespaces, outer, signals, spawn
from pyspaces.errors import Report
from pyspaces.kernel import nsfs, procfs
from pyspaces.kernel.libc import KernelError
from pyspaces.signals import Inherited

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import TracebackType
    from typing import Self

    from pyspaces.outer import Ended, Observer
    from pyspaces.plan import Plan
    from pyspaces.signals import Reader
    from pyspaces.spawn import Spawned
    from pyspaces.status import Status

_DEFAULT_PATH = b"/bin:/usr/bin"
# Before there is a child to name a stage, the call that failed does.
_STAGES = {
    **dict.fromkeys(("clone3", "clone", "fork"), outer.CREATE),
    "setns": outer.JOIN,
}


class Running:
    """A command that has been started: the handle by which to wait for it or signal it.

    `pid` is its process id for the caller, `pidfd` a descriptor that stands for it. Close
    it, or use it as a context manager; closing waits for nothing and ends nothing.
    """

    def __init__(self, child: Spawned) -> None:
        self.pid = child.pid
        self.pidfd = child.pidfd
        self.child = child
        self._status: Status | None = None
        self._reaping = _thread.allocate_lock()

    def poll(self) -> Status | None:
        """Return how the command ended, or None while it runs."""
        with self._reaping:
            if self._status is None and nsfs.has_ended(self.pidfd):
                self._status = outer.reap(self.pid)
            return self._status

    def wait(self, timeout: float | None = None) -> Status:
        """Wait for the command to end and return how.

        timeout: seconds; None waits for ever. Raises TimeoutError when they are over.
        """
        if self._status is None and not nsfs.has_ended(self.pidfd, timeout=timeout):
            raise TimeoutError(f"process {self.pid} still runs after {timeout} s")
        status = self.poll()
        assert status is not None
        return status

    def send_signal(self, number: int) -> None:
        """Send signal `number` to the command; once it has ended, that does nothing."""
        if self._status is None:
            signals.send(self.pidfd, number)

    def detach(self) -> int:
        """Give the pidfd away: the caller closes it, and reaps the process."""
        descriptor, self.pidfd = self.pidfd, -1
        return descriptor

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


def start(
    plan: Plan,
    *,
    variables: Mapping[bytes, bytes] | None = None,
    observe: Observer = lambda text: None,
    inherited: Inherited | None = None,
    reader: Reader | None = None,
    function: Callable[[], object] | None = None,
    before: Callable[[], object] | None = None,
) -> Running:
    """Start the command of `plan`; return once exec has succeeded.

    variables: what the plan's changes to the environment apply to; the caller's if None.
    observe: called with each step, as it begins. inherited: the signal state that the command
    gets; this thread's if None. reader: signals that abort the launch; none if None. function:
    what to call in the new process instead of the command, whose name then is a label. before:
    what the process that creates the new one does first, such as joining namespaces. The command
    dies with the thread that calls this, unless the plan says otherwise.
    Raises UsageFault for a plan that cannot be meant, Interrupted, or SpaceError where the launch
    fails; nothing is left running then.
    """
    plan.check()
    try:
        running, ends = _spawn(plan, variables, inherited, observe, function, before)
    except KernelError as error:
        stage = _STAGES.get(error.call, outer.PREPARE)
        raise outer.failure(Report.of(stage, error), plan) from error
    try:
        outer.prepare_child(plan, running.child, ends, observe=observe, reader=reader)
    except BaseException:
        running.close()
        raise
    finally:
        ends.close()
    return running


def run(
    plan: Plan, *, observe: Observer = lambda text: None, forget_environment: bool = False
) -> Ended:
    """Run the command of `plan` in the foreground: wait for it, and pass signals on to it.

    forget_environment: where the plan clears the environment, erase that of this process too as
    /proc/PID/environ shows it; only for a process that is nothing but a launcher. observe and
    errors as for `start`. Only from the main thread.
    """
    variables = caller_environment()
    if forget_environment and plan.environment.clear:
        procfs.erase_initial_environment()
    inherited = Inherited.capture()
    try:
        with (
            signals.Reader() as reader,
            start(
                plan, variables=variables, observe=observe, inherited=inherited, reader=reader
            ) as running,
        ):
            return outer.wait_forwarding(running.child, reader, pid_1=plan.has("pid"))
    except KernelError as error:
        raise outer.failure(Report.of(outer.PREPARE, error), plan) from error


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
) -> tuple[Running, channel.Channel]:
    """Create the child, with every signal blocked until its set-up is done."""
    variables = plan.environment.apply(caller_environment() if base is None else base)
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
                directory=_directory(),
                function=function,
            )

            def start_inner() -> None:
                ours.close()
                inner.run_inner(context)

            with signals.Blocked():
                child = spawn.spawn(start_inner, flags=namespaces.flags_of(created), before=before)
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
            if launcher >= 0:
                os.close(launcher)
    return Running(child), ours


def _directory() -> str | None:
    """Return the path of the working directory; None where it has none, being removed."""
    try:
        return os.getcwd()
    except OSError:
        return None


def candidates(command: str, variables: Mapping[bytes, bytes]) -> tuple[bytes, ...]:
    """Return the paths that exec tries for `command`, by PATH of `variables`, as execvp(3) does."""
    name = os.fsencode(command)
    if b"/" in name:
        return (name,)
    path = variables.get(b"PATH", _DEFAULT_PATH)
    return tuple(os.path.join(folder, name) for folder in path.split(b":"))
