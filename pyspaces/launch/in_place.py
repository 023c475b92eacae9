"""The launch without a fork: the launcher becomes the command.

Runs in the launcher, which is the command's process afterwards.
"""

from __future__ import annotations

import errno
import os

from pyspaces.errors import WAIT, Report, SpaceError
from pyspaces.kernel import libc, namespaces, procfs
from pyspaces.kernel.libc import KernelError
from pyspaces.launch import channel, inner, signals
from pyspaces.launch.command import context_of
from pyspaces.launch.inner.steps import seal_imports
from pyspaces.launch.services import Launch, Services, tell_people
from pyspaces.launch.signals import Inherited
from pyspaces.launch.starting import created_at_once, not_created
from pyspaces.plan.plan import checked

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import NoReturn

    from pyspaces.launch.inner.steps import Context
    from pyspaces.launch.outer.prepare import Observer
    from pyspaces.plan import Plan


def replace(
    plan: Plan,
    *,
    variables: Mapping[bytes, bytes] | None = None,
    observe: Observer | None = None,
    inherited: Inherited | None = None,
    tell: Callable[[str], object] = tell_people,
) -> NoReturn:
    """Become the command of `plan` in this process, with the same pid; no launcher stays.

    Arguments as for `start`. Raises SpaceError if the launch fails; this process may be in the new
    namespaces by then, and should end.
    """
    launch = Launch(checked(plan), tell=tell, observe=observe)
    launch.variables, launch.inherited = variables, inherited
    replace_launcher(launch)


def replace_launcher(launch: Launch) -> NoReturn:
    """Become the command of a launch; raises as `replace` does."""
    life = launch.plan.life.replace(in_place=True, kill_child=None)
    plan = launch.plan = checked(launch.plan.replace(life=life))
    if procfs.thread_count() != 1:
        raise SpaceError("no-fork: a process with threads cannot move into new namespaces")
    from pyspaces.launch.outer.helper import start_helper

    before = Services(launch).before()
    launch.inherited = launch.inherited or Inherited.capture()
    created = created_at_once(launch)
    try:
        with signals.Blocked():
            # All of it before the first namespace is joined, which seals imports.
            context = context_of(launch, start_helper(plan, launch.observe))
            if before:
                before()
            if created:
                libc.unshare(namespaces.flags_of(created))
            _replace_self(context)
    except KernelError as error:
        raise not_created(error, plan) from error


def _replace_self(context: Context) -> NoReturn:
    """Become the command in the process of the launcher. Raises SpaceError if that fails.

    All that an error needs is loaded; nothing else may be, since the root may be another.
    """
    seal_imports()
    telling = inner.Telling(context)
    try:
        context.channel.say(channel.STAGE, os.fsencode(WAIT))
        inner.become_mapped(context, _hear_helper(context).body)
        inner.take(telling, context.steps)
        inner.become(telling)
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
