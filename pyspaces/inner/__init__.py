"""The CHILD side of a launch: STEPS, in their order, and then the command.

Runs in the new process only, between the clone and exec. Everything it needs is imported
before the fork: once the root may have moved, an import would run a file of the new root as
the launcher, so the first act here is to seal imports. No logging, no printing; what went wrong
goes home as a Report. Ends in exec or os._exit, never by returning.
"""

from __future__ import annotations

import os

from pyspaces import channel
from pyspaces.errors import Report
from pyspaces.inner.execute import execute, path_of, text_of
from pyspaces.inner.identity import become_mapped
from pyspaces.inner.seal import seal_imports, unseal_imports
from pyspaces.inner.steps import STEPS, Context, Step
from pyspaces.kernel import nsfs
from pyspaces.kernel.libc import KernelError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

__all__ = ["STEPS", "Context", "Step", "become_mapped", "run_inner"]


def run_inner(context: Context) -> NoReturn:
    """Carry out the plan in this process, and become the command or call the function."""
    seal_imports()
    stage = channel.WAIT
    try:
        _wait_for_maps(context)
        for step in STEPS:
            if step.applies(context.plan):
                stage = step.title
                context.channel.say(channel.STAGE, os.fsencode(step.text(context.plan)))
                step.act(context)
        stage = channel.EXECUTE
        context.channel.say(channel.EXECUTING)
        if context.function is None:
            execute(context)
    except BaseException as error:  # noqa: BLE001 - whatever it is, the parent must learn of it
        path = path_of(error, context)
        _send_report(context, Report.of(stage, error, path=path, text=text_of(error)))
        os._exit(1)
    unseal_imports()
    context.channel.close()
    os.close(context.launcher)
    if context.function is not None:
        context.function()
    os._exit(0)


def _wait_for_maps(context: Context) -> None:
    """Wait for the word that the maps are written, then become the mapped user.

    A launcher that has died has not given it: the command must not run unmapped. End-of-file does
    not tell, since a process forked meanwhile by another thread may hold the launcher's end.
    """
    nsfs.wait_for_either(context.channel.fileno(), context.launcher)
    if nsfs.has_ended(context.launcher):
        os._exit(0)
    message = context.channel.hear()
    if message is None or message.kind != channel.MAPPED:
        os._exit(0)
    plan = context.plan
    if plan.has("user"):
        allowed = message.body == channel.ALLOWED and not plan.keep_groups
        become_mapped(plan.uid_map, plan.gid_map, may_set_groups=allowed)


def _send_report(context: Context, report: Report) -> None:
    """Send the report; a parent that has gone cannot be told."""
    try:
        context.channel.say(channel.FAILED, report.to_bytes())
    except KernelError:
        os._exit(1)
