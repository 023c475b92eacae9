"""A trial launch in a child process, up to the command.

Runs in the parent, except `act`, which runs in the child. Nothing is left behind: the child is
reaped, and its namespaces go with it.
"""

from __future__ import annotations

import errno
import os

from pyspaces import launch, settings
from pyspaces.errors import PREPARE, Report, SpaceError, UsageFault
from pyspaces.features.existing.values import Existing
from pyspaces.features.life import Life
from pyspaces.features.outputs import Outputs
from pyspaces.host.check.row import NO, YES, Row
from pyspaces.kernel.libc import KernelError
from pyspaces.launch.outer import prepare

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pyspaces.plan import Plan

_LONGEST_REPORT = 65536  # bytes; a pipe holds as many


def attempt(
    mapping: Mapping[str, object], act: Callable[[], object] | None = None, *, stage: str = ""
) -> SpaceError | None:
    """Set up the launch `mapping`, and call `act` in it. Return the error, or None.

    mapping: settings, as for settings.plan_from. stage: what `act` does, for the error.
    """
    try:
        plan = settings.plan_from({"command": ("true",), **mapping})
    except SpaceError as error:
        return error
    return attempt_plan(plan, act, stage=stage)


def attempt_plan(
    plan: Plan, act: Callable[[], object] | None = None, *, stage: str = ""
) -> SpaceError | None:
    """Carry out `plan` without its command, records, terminal, time limit, name and --keep.

    Returns the error with its hint, or None. Raises UsageFault.
    """
    if plan.existing.keeps:
        from pyspaces.features.existing import keeping  # noqa: PLC0415 - few launches keep anything

        try:
            keeping.check(plan.existing.keeps)
        except SpaceError as error:
            return error
    # Whatever is told to files or terminals is not: they would be created, or waited for.
    existing = Existing(joining=plan.existing.joining)
    plan = plan.replace(life=Life(), outputs=Outputs(), existing=existing)
    reading, writing = os.pipe()
    try:
        try:
            running = launch.start(plan, function=lambda: _act(act, stage, writing))
        finally:
            os.close(writing)
        with running:
            running.wait()
        if data := os.read(reading, _LONGEST_REPORT):
            return prepare.failure(Report.from_bytes(data), plan)
    except UsageFault:
        raise
    except SpaceError as error:
        return error
    except KernelError as error:
        return prepare.failure(Report.of(PREPARE, error), plan)
    finally:
        os.close(reading)
    return None


def _act(act: Callable[[], object] | None, stage: str, writing: int) -> None:
    try:
        if act:
            act()
    except OSError as error:
        report = Report.of(stage, error).replace(trace="")
        os.write(writing, report.to_bytes())


def finding(name: str, error: SpaceError | None, *, works: str) -> Row:
    """Return the row of an attempt. works: the evidence if it succeeded."""
    if error is None:
        return Row(name=name, answer=YES, evidence=works)
    evidence = "; ".join((error.message, *error.details))
    return Row(name=name, answer=NO, evidence=evidence, remedy=error.hint)


def launchable(plan: Plan, *, command: bool) -> Row:
    """Return a row that says whether `plan` could be launched here. Raises UsageFault.

    command: whether to check that its command exists and is executable.
    """
    paths = launch.candidates(plan.command[0], plan.environment.apply(launch.caller_environment()))
    name = plan.command[0]

    def look() -> None:
        found = [path for path in paths if os.path.isfile(path)]
        if not any(os.access(path, os.X_OK) for path in found):
            raise OSError(errno.EACCES if found else errno.ENOENT, "", name)

    error = attempt_plan(plan, look if command else None, stage="execute the command")
    done = "the set-up succeeded in a child process"
    return finding("launch", error, works=f"{done}; {name} was found" if command else done)
