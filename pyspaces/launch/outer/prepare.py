"""The launch itself: the id maps, and the messages of the child until it has become the command.

Runs in the parent.
"""

from __future__ import annotations

import errno
import os
import select
import time

from pyspaces import status
from pyspaces.errors import (
    EXECUTE,
    KEEP,
    MAP,
    PREPARE,
    REPORT_BUG,
    WAIT,
    Interrupted,
    Report,
    SpaceError,
)
from pyspaces.kernel import constants, namespaces, nsfs, procfs
from pyspaces.kernel.libc import KernelError
from pyspaces.launch import channel, signals
from pyspaces.launch.channel import Conversation

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from pyspaces.features.existing.keeping import Kept
    from pyspaces.features.ids.maps import Writer
    from pyspaces.kernel.procfs import Extent
    from pyspaces.kernel.spawn import Spawned
    from pyspaces.launch.channel import Channel
    from pyspaces.launch.services import Launch
    from pyspaces.launch.signals import Reader
    from pyspaces.plan import Plan
    from pyspaces.status import Status

    Observer = Callable[[str], object]
    Hold = Callable[[Spawned], object]

# In seconds; in milliseconds an int has to hold it.
_LONGEST_POLL = 86400.0


def prepare_child(launch: Launch, child: Spawned, ends: Channel, hold: Hold | None) -> None:
    """Bring a waiting child to exec. Raises SpaceError, with the child dead and reaped.

    hold: called once everything is set up; the child then waits until it returns.
    """
    plan = launch.plan
    talk = Conversation()
    kept = files_of(plan)
    try:
        if launch.cgroup:
            launch.cgroup.admit(child)
        map_ids = launch.map or (lambda child: write_maps(plan, child, launch.observe))
        may_set_groups = map_ids(child)
        ends.say(channel.MAPPED, channel.ALLOWED if may_set_groups else channel.DENIED)
        _listen(launch, child, ends, talk, kept, hold)
    except BaseException as error:
        died = isinstance(error, ChildDied) or _explains(child, talk, error)
        from pyspaces.launch.outer.ending import end_child

        ended = end_child(child)
        if kept:
            kept.undo_outer()
        if died:
            raise _death(talk, ended) from None
        if isinstance(error, KernelError):
            raise failure(Report.of(MAP, error), plan) from error
        if isinstance(error, SpaceError) and error.report and error.report.code == MAP.code:
            error.details = (_mapping_detail(error.report, plan),)
        raise


def do_nothing(text: str) -> None:
    """Stand in for an observer."""


def failure(report: Report, plan: Plan) -> SpaceError:
    """Turn a report into the error that users see, with its exit status and its hint."""
    details = [report.text] if report.text and report.errno else []
    if report.code == MAP.code:
        details.append(_mapping_detail(report, plan))
    exit_status = status.FAILED
    if report.code == EXECUTE.code:
        missing = report.errno in (errno.ENOENT, errno.ENOTDIR)
        exit_status = status.NOT_FOUND if missing else status.CANNOT_EXECUTE
    return SpaceError(
        report.sentence(),
        details=details,
        hint=_hint(report, plan),
        exit_status=exit_status,
        report=report,
    )


def too_late(plan: Plan, stage: str) -> SpaceError:
    """Return the error of a launch whose time is over before there was a command."""
    limit = plan.life.timeout or 0.0
    return SpaceError(
        f"cannot {stage}: the time of the command, {limit:g} s, was over before it started",
        exit_status=status.TIMED_OUT,
    )


def _hint(report: Report, plan: Plan) -> str | None:
    if report.internal:
        return REPORT_BUG
    # Loaded once something was refused; a program whose root has moved since it was started may not
    # find it any more.
    try:
        from pyspaces import hints
    except ImportError:
        return None
    joining = plan.joining()
    case = hints.Case(
        report=report,
        namespaces=plan.namespaces,
        uids=plan.maps.uid_map,
        gids=plan.maps.gid_map,
        joined=joining.names() if joining else (),
        limits_files=plan.holds("landlock") and plan.landlock.limits_files,
        from_empty=plan.holds("mounts") and plan.mounts.empty_root,
        shown=_shown(plan) if plan.holds("mounts") else (),
    )
    return hints.explain(case)


def _shown(plan: Plan) -> tuple[str, ...]:
    """Return where the command sees files of the host, if its root began empty."""
    return tuple(
        operation.target
        for operation in plan.mounts.operations
        if any(hasattr(operation, name) for name in ("source", "lower"))
    )


def write_maps(plan: Plan, child: Spawned, observe: Observer) -> bool:
    """Write the id maps of a new user namespace; return whether setgroups(2) is allowed inside."""
    if not plan.has("user"):
        return False
    from pyspaces.features.ids.maps import write_outer  # the plan has loaded it

    uids, gids = plan.maps.uid_map, plan.maps.gid_map
    if observe is not do_nothing:
        observe(f"map user ids: {_arrows(uids) or 'none'}")
        observe(f"map group ids: {_arrows(gids) or 'none'}")
    return write_outer(
        procfs.pid_of_pidfd(child.pidfd),
        uids=uids,
        gids=gids,
        setgroups=plan.maps.setgroups,
        write_uids=_helper(uids, os.geteuid(), constants.CAP_SETUID),
        write_gids=_helper(gids, os.getegid(), constants.CAP_SETGID),
    )


def _arrows(extents: tuple[Extent, ...]) -> str:
    from pyspaces.features.ids.idmap import arrows

    return arrows(extents)


def _helper(extents: tuple[Extent, ...], own: int, capability: int) -> Writer | None:
    """Return what writes a map that the kernel would not take from this process."""
    if not extents or procfs.is_own(extents, own) or procfs.has_capability(capability):
        return None
    from pyspaces.features.ids import newidmap

    return lambda path, rows: newidmap.write_outer(path, rows, stage=MAP)


def _listen(
    launch: Launch,
    child: Spawned,
    ends: Channel,
    talk: Conversation,
    kept: Kept | None,
    hold: Hold | None,
) -> None:
    """Hear the child out until it has become the command; raise if it does not."""
    plan, reader = launch.plan, launch.reader
    poller = select.poll()
    for descriptor in (ends.fileno(), child.pidfd, *([reader.fileno()] if reader else [])):
        poller.register(descriptor, select.POLLIN)
    while True:
        ready = _wait(poller, launch, ends, talk)
        # Messages first. A signal is early only if the child has sent nothing new: seen before
        # its messages, one for a command that runs already would be taken for one to the set-up.
        if ends.fileno() not in ready and child.pidfd not in ready:
            receive_early(child, reader, executing=talk.executing)
            continue
        # A child that has ended has said all that it will say: the channel holds a message or
        # end-of-file, and this cannot block.
        message = ends.hear()
        if message is None:
            break
        talk.accept(message)
        answer(plan, child, ends, message, kept, launch.observe)
        if message.kind == channel.EXECUTING and hold:
            told = namespaces.told(os.fsdecode(message.body))
            _hold(plan, child.replace(told=told), ends, hold)
    if not talk.executing:
        raise ChildDied


def answer(
    plan: Plan,
    child: Spawned,
    ends: Channel,
    message: channel.Message,
    kept: Kept | None,
    observe: Observer,
) -> None:
    """Do what a message of the child asks for. Raises SpaceError if it says that it failed."""
    if message.kind == channel.STAGE:
        if observe is not do_nothing:
            observe(os.fsdecode(message.body))
    elif message.kind == channel.KEEP:
        ends.say(_keep(plan, child, kept))
    elif message.kind == channel.EXECUTING:
        observe(f"{EXECUTE}: {' '.join(plan.command)}")
    else:
        raise failure(Report.from_bytes(message.body), plan)


def _wait(poller: select.poll, launch: Launch, ends: Channel, talk: Conversation) -> dict[int, int]:
    """Wait until there is something to hear; return what poll(2) names. Raises if it is late."""
    deadline = launch.start_by
    while True:
        left = _LONGEST_POLL if deadline is None else deadline - time.monotonic()
        if left <= 0:
            raise too_late(launch.plan, ends.stage() or talk.stage or WAIT)
        if ready := poller.poll(min(left, _LONGEST_POLL) * 1000 + 1):
            return dict(ready)


def _hold(plan: Plan, child: Spawned, ends: Channel, hold: Hold) -> None:
    try:
        hold(child)
    except KernelError as error:
        raise failure(Report.of(PREPARE, error), plan) from error
    # Killed meanwhile, it is a command that was killed right before exec: its status says so.
    try:
        ends.say(channel.GO)
    except KernelError:
        return


def files_of(plan: Plan) -> Kept | None:
    """Return what will bind the namespaces to files; None if the plan keeps none."""
    if not (plan.holds("existing") and plan.existing.keeps):
        return None
    from pyspaces.features.existing.keeping import Kept

    return Kept(plan.existing.keeps)


def _keep(plan: Plan, child: Spawned, kept: Kept | None) -> bytes:
    """Bind the child's namespaces to files; return the answer to it. Raises SpaceError."""
    assert kept is not None
    try:
        kept.bind_outer(procfs.pid_of_pidfd(child.pidfd))
    except KernelError as error:
        if error.errno == errno.EINVAL and kept.may_try_again():
            return channel.AGAIN
        raise failure(Report.of(KEEP, error), plan) from error
    return channel.KEPT


def _explains(child: Spawned, talk: Conversation, error: BaseException) -> bool:
    """Return whether the end of the child explains what failed here: a write to it, for example.

    Not if the child has reported why it ends, and not if we were asked to end.
    """
    if talk.failed or isinstance(error, Interrupted):
        return False
    return isinstance(error, KernelError | SpaceError) and _is_ending(child)


def _is_ending(child: Spawned) -> bool:
    """Return whether the child ends or has ended: its memory goes before a pidfd shows that."""
    try:
        fields = procfs.stat_fields(procfs.pid_of_pidfd(child.pidfd))
    except KernelError:
        fields = None
    if fields is None:
        return nsfs.has_ended(child.pidfd)
    return bool(int(fields[6]) & constants.PF_EXITING)


class ChildDied(Exception):
    """The child ended without a report."""


def receive_early(child: Spawned, reader: Reader | None, *, executing: bool) -> None:
    """Take a signal from before the command has started: end, or keep it for the command."""
    signal = reader.read_new() if reader else None
    if signal is None or reader is None:
        return
    if not executing and (signal.number in signals.ENDING or signal.number in reader.fatal):
        raise Interrupted(signal.number)
    if signal.number != signals.CHLD:
        reader.keep(signal)
    elif (number := signals.stopped_by(child.pid)) and not signals.is_of_command_alone(number):
        # Ctrl-Z during the set-up, which blocks it, stops the child right before exec.
        signals.stop_self()


def _death(talk: Conversation, ended: Status | None) -> SpaceError:
    stage, how = talk.stage or WAIT, str(ended)
    if ended is None:
        how = "has ended, and something else in this process has reaped it"
    elif ended.signal:
        how = f"was killed by {status.signal_name(ended.signal)}"
    return SpaceError(
        f"cannot {stage}: the new process {how}",
        report=Report(stage=stage, text=str(ended or how)),
    )


def _mapping_detail(report: Report, plan: Plan) -> str:
    groups = report.call == "newgidmap" or report.path.endswith("gid_map")
    extents = plan.maps.gid_map if groups else plan.maps.uid_map
    kind = "group" if groups or report.path.endswith("setgroups") else "user"
    return f"while mapping {kind} ids for the new user namespace ({_arrows(extents)})"
