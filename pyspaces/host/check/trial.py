"""The rows of a check, and a trial launch in a child process, up to the command.

Runs in the parent, except `act`, which runs in the child. Nothing is left behind: the child is
reaped, and its namespaces disappear with it.
"""

from __future__ import annotations

import errno
import os

from pyspaces import launch, settings
from pyspaces.errors import PREPARE, Report, SpaceError, UsageFault
from pyspaces.features.existing.values import Existing
from pyspaces.features.life import Life
from pyspaces.features.outputs import Outputs
from pyspaces.kernel.libc import KernelError
from pyspaces.launch.outer import prepare
from pyspaces.launch.services import tell_people
from pyspaces.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pyspaces.plan import Plan

YES, NO, DEGRADED = "yes", "no", "degraded"
_LONGEST_REPORT = 65536  # bytes; a pipe holds as many


class Row(Record):
    """A finding about one feature.

    name: the feature; names are stable. answer: YES, NO, or DEGRADED if it works only in part or
    by a fallback. evidence: what shows this. remedy: the command or file that would fix it; None
    if nothing is wrong, or no remedy is known.
    """

    name: str
    answer: str
    evidence: str
    remedy: str | None = None


def finding(answer: str, evidence: str, remedy: str | None = None) -> Row:
    """Return a row without its name, which `examine` adds."""
    return Row(name="", answer=answer, evidence=evidence, remedy=remedy)


def of_trial(error: SpaceError | None, works: str = "") -> Row:
    """Return the row of a trial launch, without its name. works: the evidence if it succeeded."""
    if error is None:
        return finding(YES, works)
    return finding(NO, "; ".join((error.message, *error.details)), error.hint)


def attempt(
    mapping: Mapping[str, object], act: Callable[[], object] | None = None
) -> SpaceError | None:
    """Set up the launch `mapping`, and call `act` in it. Return the error, or None.

    mapping: settings, as for settings.plan_from.
    """
    try:
        plan = settings.plan_from({"command": ("true",), **mapping})
        # What the kernel lets pass and heeds in part is in the evidence of the feature's row.
        return attempt_plan(plan, act, stage="try it", tell=lambda _: None)
    except SpaceError as error:
        return error


def attempt_plan(
    plan: Plan,
    act: Callable[[], object] | None,
    *,
    stage: str,
    tell: Callable[[str], object] = tell_people,
) -> SpaceError | None:
    """Carry out `plan` without its command, records, terminal, time limit, name and --keep.

    stage: what `act` does, for the error. tell: as for `launch.start`. Returns the error with its
    hint, or None. Raises UsageFault.
    """
    reading, writing = os.pipe()
    try:
        try:
            if plan.existing.keeps:
                from pyspaces.features.existing import keeping  # noqa: PLC0415 - seldom needed

                keeping.check(plan.existing.keeps)
            # Without outputs to files or terminals, which would be created or waited for.
            existing = Existing(joining=plan.existing.joining)
            plan = plan.replace(life=Life(), outputs=Outputs(), existing=existing)
            running = launch.start(plan, tell=tell, function=lambda: _act(act, stage, writing))
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
        os.write(writing, Report.of(stage, error).replace(trace="").to_bytes())


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
    works = "the set-up succeeded in a child process" + (f"; {name} was found" if command else "")
    return of_trial(error, works).replace(name="launch")
