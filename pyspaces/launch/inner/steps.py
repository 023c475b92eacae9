"""STEPS: what the child does between the clone and the command, in its order.

Runs in the new process only.
"""

from __future__ import annotations

import os

from pyspaces.errors import BOUNDING, CAPABILITIES, PROC, SpaceError
from pyspaces.features import clocks, hostname, loopback
from pyspaces.features.ids import capabilities
from pyspaces.kernel import constants, libc, nsfs
from pyspaces.kernel.libc import KernelError
from pyspaces.launch import channel
from pyspaces.launch.inner import directory
from pyspaces.launch.inner.identity import take_ids
from pyspaces.mounts import proc, propagation, root
from pyspaces.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from pyspaces.launch.channel import Channel, Message
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
    to call instead of executing the command. held: whether it waits for a word right before that.
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
    held: bool = False
    own_group: bool = False
    attach: Callable[[], object] | None = None
    post: Post | None = None
    building: Building | None = None
    guard: Callable[[], object] | None = None
    leading: Leading | None = None


class Step(Record):
    """One piece of set-up: when it applies, what it does, and how it is told to people.

    for_command: whether it is for the command alone, and not for a process 1 of ours above it.
    parts: what it consists of, a line each.
    """

    title: str
    applies: Callable[[Plan], object]
    act: Callable[[Context], None]
    detail: Callable[[Plan], object] = lambda plan: ""
    for_command: bool = False
    parts: Callable[[Plan], Iterable[str]] = lambda plan: ()

    def text(self, plan: Plan) -> str:
        """Return the step in one line, with its value where it has one."""
        detail = self.detail(plan)
        return f"{self.title}: {detail}" if detail else self.title


def _tie_to_launcher(context: Context) -> None:
    """Die when the launcher dies, and do it at once where it is dead already.

    After the ids have changed, since that clears the signal again (commit_creds() in
    kernel/cred.c). getppid(2) cannot tell: across a pid namespace it is always 0.
    """
    libc.set_parent_death_signal(context.plan.life.kill_child or 0)
    if nsfs.has_ended(context.launcher):
        os._exit(0)


def _mount_proc(context: Context) -> None:
    proc.mount_inner(context.plan.root)


def _find_mounts(context: Context) -> None:
    assert context.building
    context.building.find_inner()


def _attach_root(context: Context) -> None:
    if context.plan.empty_root:
        root.attach_empty_inner()
    else:
        # Operations on the caller's own tree are applied to a copy of it: what they take from
        # outside is then never what an earlier one has put there.
        root.attach_inner(context.plan.root or "/")


def _make_mounts(context: Context) -> None:
    assert context.building
    context.building.mount_inner(
        lambda text: context.channel.say(channel.STAGE, os.fsencode(text)),
    )


def _guard_proc(context: Context) -> None:
    assert context.guard
    context.guard()


def _enter_clocks(context: Context) -> None:
    if context.plan.makes_clocks_by_joining():
        return  # by whoever has joined: see Visit.new_clocks
    clocks.enter_inner(boottime=context.plan.boottime, monotonic=context.plan.monotonic)


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


def _begin_session(context: Context) -> None:
    try:
        os.setsid()
    except OSError as error:
        raise KernelError(error.errno or 0, "setsid") from None


def _attach_terminal(context: Context) -> None:
    assert context.attach
    context.attach()


def _restore_signals(context: Context) -> None:
    if context.function is None:
        context.inherited.restore_inner()
    else:
        context.inherited.restore_mask_inner()


def _changes_ids(plan: Plan) -> bool:
    return plan.uid is not None or plan.gid is not None or plan.groups is not None


def _changes_capabilities(plan: Plan) -> bool:
    return bool(plan.keep_caps or plan.cap_drop or plan.cap_add)


def _drop_bounding(context: Context) -> None:
    capabilities.drop_bounding_inner(context.plan.cap_drop, context.plan.cap_add)


def _set_capabilities(context: Context) -> None:
    plan = context.plan
    capabilities.set_inner(plan.cap_drop, plan.cap_add, keep=plan.keep_caps)


def limit_of_process_1(context: Context) -> Callable[[], object] | None:
    """Return what leaves process 1 of ours no capability that its command, tracing it, could use.

    But for CAP_KILL, where the command is another user, to whom signals are passed on. None where
    the command's capabilities are not limited.
    """
    plan = context.plan
    if not _changes_capabilities(plan):
        return None
    return lambda: capabilities.keep_for_signals_inner(
        plan.cap_drop, plan.cap_add, always=plan.uid is not None
    )


def _capability_text(plan: Plan) -> str:
    rows = [f"without {','.join(plan.cap_drop)}"] if plan.cap_drop else []
    rows += [f"with {','.join(plan.cap_add)}"] if plan.cap_add else []
    return ", ".join([*rows, *(["kept over exec"] if plan.keep_caps else [])])


def _take_ids(context: Context) -> None:
    plan = context.plan
    if not (plan.keep_caps or plan.cap_add):
        take_ids(plan.uid, plan.gid, plan.groups)
        return
    libc.keep_capabilities(keep=True)
    take_ids(plan.uid, plan.gid, plan.groups)
    # A function that is called instead of a command would otherwise keep its own by surprise.
    libc.keep_capabilities(keep=False)


def _ids(plan: Plan) -> str:
    groups = None if plan.groups is None else ",".join(map(str, plan.groups)) or "none"
    rows = (("user", plan.uid), ("group", plan.gid), ("groups", groups))
    return ", ".join(f"{name} {value}" for name, value in rows if value is not None)


def _offsets(plan: Plan) -> str:
    rows = (("boottime", plan.boottime), ("monotonic", plan.monotonic))
    return ", ".join(f"{name} {offset}" for name, offset in rows if offset)


# The mapped ids are taken before this table begins: every step needs the rights of that user.
STEPS = (
    Step(
        title="tie the command to the life of the launcher",
        applies=lambda plan: plan.life.kill_child is not None,
        act=_tie_to_launcher,
    ),
    # Before the mounts: the offsets are written through /proc, which a later root may lack.
    Step(
        title="enter a new time namespace",
        applies=lambda plan: plan.has("time"),
        act=_enter_clocks,
        detail=_offsets,
    ),
    # Through the caller's /proc, before any of what is mounted could take its place; and before
    # there is more than this one process to give the capability up.
    Step(
        title="forbid user namespaces inside",
        applies=lambda plan: plan.no_nested_users,
        act=lambda context: capabilities.forbid_user_namespaces_inner(),
    ),
    # All are there now, and nothing has been mounted in one of them.
    Step(
        title="have the namespaces kept",
        applies=lambda plan: plan.keeps,
        act=_have_namespaces_kept,
        detail=lambda plan: ", ".join(map(str, plan.keeps)),
    ),
    # Before any mount is made, or the mount would be seen outside.
    Step(
        title="set the propagation of mounts",
        applies=lambda plan: plan.has("mount"),
        act=lambda context: propagation.set_inner(context.plan.propagation),
        detail=lambda plan: plan.propagation,
    ),
    # Before the root moves: a path of outside may begin at the working directory.
    Step(
        title="find what is to be mounted",
        applies=lambda plan: plan.mounts,
        act=_find_mounts,
    ),
    Step(
        title="attach the new root",
        applies=lambda plan: plan.builds_tree(),
        act=_attach_root,
        detail=lambda plan: "an empty tmpfs" if plan.empty_root else plan.root or "/",
    ),
    Step(
        title="build the tree",
        applies=lambda plan: plan.mounts,
        act=_make_mounts,
        detail=lambda plan: f"{len(plan.mounts)} operations",
        parts=lambda plan: (operation.describe() for operation in plan.mounts),
    ),
    # While the old root is there: without an older procfs the kernel allows no new one.
    Step(
        title=PROC,
        applies=lambda plan: plan.mount_proc,
        act=_mount_proc,
    ),
    # After every mount of a /proc. By paths of the old one, as all that mounts.
    Step(
        title="close what is the host's in /proc",
        applies=lambda plan: plan.guard_proc,
        act=_guard_proc,
        detail=lambda plan: "where its root is inside",
    ),
    Step(
        title="change to the new root",
        applies=lambda plan: plan.builds_tree(),
        act=lambda context: root.change_inner(),
    ),
    Step(
        title="set the host name",
        applies=lambda plan: plan.hostname is not None,
        act=lambda context: hostname.set_hostname_inner(context.plan.hostname or ""),
        detail=lambda plan: plan.hostname,
    ),
    Step(
        title="set the domain name",
        applies=lambda plan: plan.domainname is not None,
        act=lambda context: hostname.set_domainname_inner(context.plan.domainname or ""),
        detail=lambda plan: plan.domainname,
    ),
    Step(
        title="bring up the loopback interface",
        applies=lambda plan: plan.has("net") and plan.loopback,
        act=lambda context: loopback.raise_loopback_inner(),
    ),
    # After the mounts, which decide where the path leads.
    Step(
        title="change to the working directory",
        applies=lambda plan: plan.workdir is not None or plan.builds_tree(),
        act=directory.change,
        detail=lambda plan: plan.workdir,
    ),
    Step(
        title="let PWD name the working directory",
        applies=directory.is_named,
        act=directory.name,
    ),
    # While the rights for it are there: needs CAP_SETPCAP, which a change of ids may take. Of a
    # process 1 of ours too: a command that traces it could have it execute something as root.
    Step(
        title=BOUNDING,
        applies=lambda plan: plan.cap_drop,
        act=_drop_bounding,
        detail=lambda plan: f"without {','.join(plan.cap_drop)}",
    ),
    Step(
        title="forbid new privileges",
        applies=lambda plan: plan.no_new_privs,
        act=lambda context: libc.set_no_new_privs(),
    ),
    # After all that needs the rights of the mapped user.
    Step(
        title="take the ids of the command",
        applies=_changes_ids,
        act=_take_ids,
        detail=_ids,
        for_command=True,
    ),
    # After the ids, whose change empties the effective and the ambient set. It clears the signal of
    # the launcher's death no more: the sets only shrink (commit_creds() in kernel/cred.c).
    Step(
        title=CAPABILITIES,
        applies=_changes_capabilities,
        act=_set_capabilities,
        detail=_capability_text,
        for_command=True,
    ),
    # A change of credentials clears the signal that the first step asked for: prctl(2).
    Step(
        title="tie the command to the life of the launcher again",
        applies=lambda plan: plan.life.kill_child is not None and _changes_ids(plan),
        act=_tie_to_launcher,
        for_command=True,
    ),
    # After everything that could fail: from here on the terminal's messages are the command's.
    Step(
        title="begin a new session",
        applies=lambda plan: plan.life.new_session,
        act=_begin_session,
        for_command=True,
    ),
    Step(
        title="give the command a terminal",
        applies=lambda plan: plan.life.pty,
        act=_attach_terminal,
        for_command=True,
    ),
    # Last: from here on a signal does to this process what it would do to the command.
    Step(
        title="restore the signals",
        applies=lambda plan: True,
        act=_restore_signals,
        for_command=True,
    ),
)
