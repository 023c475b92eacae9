"""Start the command of a plan, and wait for it.

Runs in the parent. Must not know argv. `start` is for programs: it leaves signal handlers alone
and may be called from any thread. For a large program it has a small one create the command:
`use_server`. `run` is for the foreground of a terminal: it passes signals on.
"""

from __future__ import annotations

from pyspaces.errors import PREPARE, Report
from pyspaces.kernel.libc import KernelError
from pyspaces.launch import signals
from pyspaces.launch.command import caller_environment, candidates
from pyspaces.launch.outer import prepare
from pyspaces.launch.services import Launch, tell_people
from pyspaces.launch.signals import Inherited
from pyspaces.launch.starting import start, start_launch
from pyspaces.plan.plan import checked

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from pyspaces.launch.in_place import replace
    from pyspaces.launch.outer.prepare import Observer
    from pyspaces.launch.running import Running
    from pyspaces.launch.server.choice import use_server
    from pyspaces.plan import Plan
    from pyspaces.status import Ended

__all__ = ["Running", "caller_environment", "candidates", "replace", "run", "start", "use_server"]


def __getattr__(name: str) -> object:
    """Import a name on first use: most launches need none of these."""
    if name == "replace":
        from pyspaces.launch import in_place

        return in_place.replace
    if name == "Running":
        from pyspaces.launch import running

        return running.Running
    if name == "use_server":
        from pyspaces.launch.server import choice

        return choice.use_server
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def run(
    plan: Plan,
    *,
    observe: Observer | None = None,
    forget_environment: bool = False,
    tell: Callable[[str], object] = tell_people,
) -> Ended:
    """Run the command of `plan` in the foreground: wait for it, and pass signals on to it.

    If the plan says so, become the command instead, as `replace` does, and never return.
    forget_environment: this process is nothing but a launcher. If the plan clears the environment,
    erase that of this process too, as /proc/PID/environ shows it. The rest, and
    errors, as for `start`. Only from the main thread.
    """
    launch = Launch(checked(plan), tell=tell, observe=observe)
    life = plan.life if plan.holds("life") else None
    if life and life.pty:
        from pyspaces.features.terminal import fill_streams

        fill_streams()
    launch.variables = caller_environment()
    if forget_environment and plan.holds("environment") and plan.environment.clear:
        from pyspaces.kernel import erasing

        erasing.erase_initial_environment()
    launch.inherited = Inherited.capture(alone=forget_environment)
    if life and life.in_place:
        from pyspaces.launch.in_place import replace_launcher

        replace_launcher(launch)
    try:
        with (
            signals.Reader(wake_after=life.timeout if life else None) as launch.reader,
            start_launch(launch) as running,
        ):
            running.wait()
            assert running.watch.ended is not None
            return running.watch.ended
    except KernelError as error:
        raise prepare.failure(Report.of(PREPARE, error), plan) from error
