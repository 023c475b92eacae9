"""The CHILD side of a launch: STEPS, in their order, and then the command.

Runs in the new process only, between the clone and exec. Everything it needs is imported
before the fork: once the root may have moved, an import would run a file of the new root as
the launcher, so the first act here is to seal imports. No logging, no printing; what went wrong
goes home as a Report. Ends in exec or os._exit, never by returning.
"""

from __future__ import annotations

import errno
import os

from pyspaces.errors import EXECUTE, WAIT, Report, SpaceError
from pyspaces.feature import Step
from pyspaces.kernel import libc, nsfs
from pyspaces.kernel.libc import KernelError
from pyspaces.kernel.namespaces import NAMESPACES
from pyspaces.launch import channel
from pyspaces.launch.inner.execute import execute, path_of, text_of
from pyspaces.launch.inner.identity import become_mapped
from pyspaces.launch.inner.seal import seal_imports, unseal_imports
from pyspaces.launch.inner.steps import STEPS, Context, limit_of_process_1

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from typing import NoReturn

    from pyspaces.plan import Plan

_CRASHED = 70  # sysexits.h EX_SOFTWARE; as `spawn` has it

__all__ = ["STEPS", "Context", "become_mapped", "replace_self", "run_inner"]


def run_inner(context: Context) -> NoReturn:
    """Carry out the plan in this process, and become the command or call the function."""
    seal_imports()
    with _Telling(context) as telling:
        _leave_group(context)
        # By this descriptor it finds its own namespaces, whatever root it will have.
        own = _own_namespaces(context)
        _wait_for_maps(context)
        _take(telling, [step for step in STEPS if not (context.post and step.for_command)])
        told = _told_namespaces(own)
        if context.post:
            context.post.serve_inner(
                lambda: _run_beneath(context, told), limit_of_process_1(context)
            )
        _become(telling, told)


def _run_beneath(context: Context, told: bytes) -> NoReturn:
    """Carry out the rest in the command's own process, beneath our process 1."""
    with _Telling(context) as telling:
        _take(telling, [step for step in STEPS if step.for_command])
        _become(telling, told)


def _own_namespaces(context: Context) -> int:
    """Open /proc/self/ns, where the launcher wants to know and may not look; else return -1."""
    if not context.held or (libc.is_dumpable() and not context.post):
        return -1
    try:
        # To look for names in it is allowed to everybody, to list it to its owner: who is root now.
        return os.open("/proc/self/ns", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:  # this /proc may be that of a namespace in which we are not
        return -1


def _told_namespaces(own: int) -> bytes:
    """Return what EXECUTING carries: the namespaces of this process, as their links read."""
    if own < 0:
        return b""
    links = []
    for row in NAMESPACES:
        try:
            links.append(os.readlink(row.link, dir_fd=own))
        except OSError:  # this kernel has no such namespace, or this /proc is none
            continue
    os.close(own)
    return os.fsencode(" ".join(links))


def _leave_group(context: Context) -> None:
    """Begin a process group that the command, which can always signal its own, has to itself.

    Groups have members in several pid namespaces: kill(0, SIGKILL) from inside would reach all of
    the caller's group, and a number of it is not even needed for that. A process 1 of ours leads
    it and is not hurt by it. It has to lead: the kernel ends a namespace only when no number of it
    is in use, and one that names a group with members elsewhere would be (zap_pid_ns_processes).
    """
    if context.own_group:
        os.setpgid(0, 0)


def replace_self(context: Context) -> NoReturn:
    """Become the command in the process of the launcher. Raises SpaceError where that fails.

    Everything to tell the error with is loaded; nothing else may be, from whatever root is there.
    """
    seal_imports()
    telling = _Telling(context)
    try:
        context.channel.say(channel.STAGE, os.fsencode(WAIT))
        message = _hear_helper(context)
        if context.plan.has("user"):
            _become_mapped(context.plan, message)
        _take(telling, STEPS)
        _become(telling)
    except SpaceError:
        raise
    except BaseException as error:
        raise _explained(context, telling.stage, telling.report(error)) from error


def _explained(context: Context, stage: str, report: Report) -> SpaceError:
    """Return the error for a report, with what the helper knows of the host."""
    try:
        context.channel.say(channel.FAILED, report.to_bytes())
        _hear_helper(context, stage)
    except SpaceError as told:
        told.report = report
        return told
    except KernelError as refused:
        if refused.errno == errno.EPIPE:
            return _without_helper(stage)
    return SpaceError(report.sentence(), report=report)


def _hear_helper(context: Context, stage: str = WAIT) -> channel.Message:
    message = context.channel.hear()
    if message is None:
        raise _without_helper(stage)
    if message.kind == channel.REFUSED:
        raise SpaceError.from_bytes(message.body)
    return message


def _without_helper(stage: str) -> SpaceError:
    return SpaceError(f"cannot {stage}: the helper process, which writes the id maps, was killed")


class _Telling:
    """Context in which the launcher learns of whatever is raised, and of the stage it was at."""

    def __init__(self, context: Context) -> None:
        self.context = context
        self.stage: str = WAIT

    def __enter__(self) -> _Telling:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> NoReturn:
        if error is not None:
            _send_report(self.context, self.report(error))
        os._exit(1)

    def report(self, error: BaseException) -> Report:
        """Say where it happened."""
        path = path_of(error, self.context)
        return Report.of(self.stage, error, path=path, text=text_of(error))


def _take(telling: _Telling, steps: Iterable[Step]) -> None:
    context = telling.context
    for step in steps:
        if step.applies(context.plan) and not step.at_exec:
            telling.stage = step.title
            context.channel.say(channel.STAGE, os.fsencode(step.text(context.plan)))
            step.act(context)


def _become(telling: _Telling, told: bytes = b"") -> NoReturn:
    context = telling.context
    late = [step for step in STEPS if step.at_exec and step.applies(context.plan)]
    for step in late:
        context.channel.say(channel.STAGE, os.fsencode(step.text(context.plan)))
    telling.stage = EXECUTE
    context.channel.say(channel.EXECUTING, told)
    if context.held:
        _wait_for_word(context, channel.GO)
    if context.function is None:
        execute(context, (lambda: _confine(telling, late)) if late else None)
    _take_environment(context.environment, clear=context.plan.environment.clear)
    unseal_imports()
    if context.post and not context.plan.existing.joining:
        # A child of our process 1, which nobody may look into; this one is the caller's function.
        libc.set_dumpable(dumpable=True)
    _confine(telling, late)
    context.channel.close()
    os.close(context.launcher)
    _call(context.function)


def _confine(telling: _Telling, steps: Sequence[Step]) -> None:
    """Take the last steps. From the first on, this process may lack any call, descriptor, memory.

    Nothing stands between the last one and exec but what the caller writes there.
    """
    context = telling.context
    if not steps:
        return
    context.channel.go_mute()
    for step in steps:
        telling.stage = step.title
        context.channel.say(channel.STAGE, os.fsencode(step.title))
        step.act(context)
    telling.stage = EXECUTE
    context.channel.say(channel.EXECUTING)


def _take_environment(wanted: Mapping[bytes, bytes], *, clear: bool) -> None:
    """Make the environment of this process the wanted one, as os.environ and getenv(3) have it."""
    if clear:
        # First: os.environ knows nothing of what a library has set, as readline does LINES.
        os.environb.clear()
        libc.clear_environment()
    for name in [name for name in os.environb if name not in wanted]:
        del os.environb[name]
    for name, value in wanted.items():
        if os.environb.get(name) != value:
            os.environb[name] = value


def _call(function: Callable[[], object]) -> NoReturn:
    """Run a Python function as the whole rest of this process; what it raises ends that."""
    try:
        function()
        os._exit(0)
    finally:
        os._exit(_CRASHED)


def _wait_for_maps(context: Context) -> None:
    """Wait for the word that the maps are written, then become the mapped user.

    A launcher that has died has not given it: the command must not run unmapped. End-of-file does
    not tell, since a process forked meanwhile by another thread may hold the launcher's end.
    """
    message = _wait_for_word(context, channel.MAPPED)
    if context.plan.has("user"):
        _become_mapped(context.plan, message)


def _become_mapped(plan: Plan, message: channel.Message) -> None:
    allowed = message.body == channel.ALLOWED and not plan.identity.keep_groups
    become_mapped(plan.maps.uid_map, plan.maps.gid_map, may_set_groups=allowed)


def _wait_for_word(context: Context, kind: bytes) -> channel.Message:
    nsfs.wait_for_either(context.channel.fileno(), context.launcher)
    if nsfs.has_ended(context.launcher):
        os._exit(0)
    message = context.channel.hear()
    if message is None or message.kind != kind:
        os._exit(0)
    return message


def _send_report(context: Context, report: Report) -> None:
    """Send the report; a parent that has gone cannot be told."""
    try:
        context.channel.say(channel.FAILED, report.to_bytes())
    except KernelError:
        os._exit(1)
