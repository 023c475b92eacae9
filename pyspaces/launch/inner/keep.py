"""The step in which the parent binds new namespaces to files.

Runs in the new process only.
"""

from __future__ import annotations

import os

from pyspaces.errors import SpaceError
from pyspaces.feature import Step
from pyspaces.kernel import constants, libc, nsfs
from pyspaces.launch import channel

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyspaces.launch.channel import Message
    from pyspaces.launch.inner.steps import Context


def _have_namespaces_kept(context: Context) -> None:
    """Wait until the parent has bound our namespaces to files.

    Linux 6.18 refuses at random to bind a mount namespace if the binder is not in the first of
    all: mnt_ns_loop() of fs/namespace.c wants its number to be higher than that of the binder's
    own, and each CPU gives numbers from a range of its own. A namespace made later on the CPU on
    which the binder's was made has a higher one, so each CPU is tried; nothing is mounted yet.
    """
    allowed = os.sched_getaffinity(0)
    turns = 0
    while (answer := _ask_to_keep(context)).kind == channel.AGAIN:
        os.sched_setaffinity(0, {sorted(allowed)[turns % len(allowed)]})
        libc.unshare(constants.CLONE_NEWNS)
        turns += 1
    if turns:
        os.sched_setaffinity(0, allowed)
    if answer.kind == channel.REFUSED:
        raise SpaceError.from_bytes(answer.body)


def _ask_to_keep(context: Context) -> Message:
    context.channel.say(channel.KEEP)
    if context.launcher >= 0:
        nsfs.wait_for_either(context.channel.fileno(), context.launcher)
        if nsfs.has_ended(context.launcher):
            os._exit(0)
    message = context.channel.hear()
    if message is None:
        raise SpaceError("cannot keep the namespaces: the process that binds them has died")
    return message


KEEP = Step(
    title="have the namespaces kept",
    applies=lambda plan: plan.existing.keeps,
    act=_have_namespaces_kept,
    detail=lambda plan: ", ".join(map(str, plan.existing.keeps)),
)
