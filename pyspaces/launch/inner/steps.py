"""STEPS: what the child does between the clone and the command, in its order.

Runs in the new process only.
"""

from __future__ import annotations

import os

from pyspaces.errors import SpaceError
from pyspaces.feature import Step
from pyspaces.features import clocks, hostname, life, loopback
from pyspaces.features.ids import capabilities, identity
from pyspaces.kernel import constants, libc, nsfs
from pyspaces.launch import channel
from pyspaces.launch.inner import directory
from pyspaces.launch.inner.identity import take_ids
from pyspaces.mounts import feature as mounts
from pyspaces.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from pyspaces.launch.channel import Channel, Message
    from pyspaces.launch.handed import Handed
    from pyspaces.launch.init import Post
    from pyspaces.launch.inner.leading import Leading
    from pyspaces.launch.signals import Inherited
    from pyspaces.mounts.building import Building
    from pyspaces.plan import Plan


class Context(Record):
    """What the parent hands to the child through the fork.

    channel: this side's end. launcher: a pidfd of the parent. inherited: the signal state for the
    command. candidates: the paths at which the command may be, in their order. environment: the
    command's. directory: the caller's working directory; None where it has no path. function: what
    to call instead of executing the command. handed: its streams, descriptors and the like, if they
    are not those of the caller. held: whether it waits for a word right before that.
    own_group: whether the command leads a process group of its own, out of the launcher's.
    attach: what gives the command its terminal, if any. post: what our own process 1 needs, if
    there is to be one. building: what carries out the plan's mounts, if it has any. guard: what
    closes /proc, if it is to be. leading: what tells where exec would lead, in a root that is not
    the caller's.
    """

    plan: Plan
    channel: Channel
    launcher: int
    inherited: Inherited
    candidates: tuple[bytes, ...]
    environment: dict[bytes, bytes]
    directory: str | None = None
    function: Callable[[], object] | None = None
    handed: Handed | None = None
    held: bool = False
    own_group: bool = False
    attach: Callable[[], object] | None = None
    post: Post | None = None
    building: Building | None = None
    guard: Callable[[], object] | None = None
    leading: Leading | None = None

    def tell(self, text: str) -> None:
        """Tell the parent what is about to be done, for the text of a failure."""
        self.channel.say(channel.STAGE, os.fsencode(text))


def _have_namespaces_kept(context: Context) -> None:
    """Wait until the parent has bound our namespaces to files.

    Linux 6.18 refuses at random to bind a mount namespace where the binder is not in the first of
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
        raise SpaceError("cannot keep the namespaces: who binds them has died")
    return message


def _restore_signals(context: Context) -> None:
    if context.function is None:
        context.inherited.restore_inner()
    else:
        context.inherited.restore_mask_inner()


def limit_of_process_1(context: Context) -> Callable[[], object] | None:
    """Return what leaves process 1 of ours no capability that its command, tracing it, could use.

    But for CAP_KILL, where the command is another user, to whom signals are passed on. None where
    the command's capabilities are not limited.
    """
    privileges, uid = context.plan.privileges, context.plan.identity.uid
    if not privileges.changes:
        return None
    return lambda: capabilities.keep_for_signals_inner(
        privileges.cap_drop, privileges.cap_add, always=uid is not None
    )


def _take_ids(context: Context) -> None:
    me, privileges = context.plan.identity, context.plan.privileges
    if not (privileges.keep_caps or privileges.cap_add):
        take_ids(me.uid, me.gid, me.groups)
        return
    libc.keep_capabilities(keep=True)
    take_ids(me.uid, me.gid, me.groups)
    # A function that is called instead of a command would otherwise keep its own by surprise.
    libc.keep_capabilities(keep=False)


_KEEP = Step(
    title="have the namespaces kept",
    applies=lambda plan: plan.existing.keeps,
    act=_have_namespaces_kept,
    detail=lambda plan: ", ".join(map(str, plan.existing.keeps)),
)
_CHANGE_DIRECTORY = Step(
    title="change to the working directory",
    applies=lambda plan: plan.workdir is not None or plan.mounts.builds_tree,
    act=directory.change,
    detail=lambda plan: plan.workdir,
)
_NAME_DIRECTORY = Step(
    title="let PWD name the working directory",
    applies=directory.is_named,
    act=directory.name,
)
_TAKE_IDS = Step(
    title="take the ids of the command",
    applies=lambda plan: plan.identity.changes,
    act=_take_ids,
    detail=identity.text_of,
    for_command=True,
)
_RESTORE_SIGNALS = Step(
    title="restore the signals",
    applies=lambda plan: True,
    act=_restore_signals,
    for_command=True,
)

# The mapped ids are taken before this table begins: every step needs the rights of that user.
STEPS = (
    life.TIE,
    # Before the mounts: the offsets are written through /proc, which a later root may lack.
    clocks.ENTER,
    # Through the caller's /proc, before any of what is mounted could take its place; and before
    # there is more than this one process to give the capability up.
    capabilities.FORBID_USER_NAMESPACES,
    # All are there now, and nothing has been mounted in one of them.
    _KEEP,
    # Before any mount is made, or the mount would be seen outside.
    mounts.SET_PROPAGATION,
    # Before the root moves: a path of outside may begin at the working directory.
    mounts.FIND,
    mounts.ATTACH_ROOT,
    mounts.BUILD_TREE,
    # While the old root is there: without an older procfs the kernel allows no new one.
    mounts.MOUNT_PROC,
    # After every mount of a /proc. By paths of the old one, as all that mounts.
    mounts.GUARD_PROC,
    mounts.CHANGE_ROOT,
    hostname.SET_HOSTNAME,
    hostname.SET_DOMAINNAME,
    loopback.RAISE,
    # After the mounts, which decide where the path leads.
    _CHANGE_DIRECTORY,
    _NAME_DIRECTORY,
    # While the rights for it are there: needs CAP_SETPCAP, which a change of ids may take. Of a
    # process 1 of ours too: a command that traces it could have it execute something as root.
    capabilities.DROP_BOUNDING,
    capabilities.FORBID_NEW_PRIVILEGES,
    # After all that needs the rights of the mapped user.
    _TAKE_IDS,
    # After the ids, whose change empties the effective and the ambient set. It clears the signal of
    # the launcher's death no more: the sets only shrink (commit_creds() in kernel/cred.c).
    capabilities.SET_CAPABILITIES,
    # A change of credentials clears the signal that the first step asked for: prctl(2).
    life.TIE_AGAIN,
    # After everything that could fail: from here on the terminal's messages are the command's.
    life.BEGIN_SESSION,
    life.ATTACH_TERMINAL,
    # Last: from here on a signal does to this process what it would do to the command.
    _RESTORE_SIGNALS,
)
