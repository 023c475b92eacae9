"""The PARENT side of a launch: writes the id maps, gives the word, listens and waits.

Runs in the launcher only. Must not know click. What it waits for (messages of the child, the end
of the child, signals to the launcher) it waits for at once, so that nothing can make it hang.
"""

from __future__ import annotations

import errno
import os
import select

from pyspaces import channel, diagnosis, idmap, signals, status
from pyspaces.channel import EXECUTE, WAIT, Conversation
from pyspaces.errors import Interrupted, Report, SpaceError
from pyspaces.kernel import constants, nsfs, procfs
from pyspaces.kernel.libc import KernelError
from pyspaces.record import Record
from pyspaces.status import Status

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from pyspaces.channel import Channel
    from pyspaces.idmap import Extent, Writer
    from pyspaces.plan import Plan
    from pyspaces.signals import Reader
    from pyspaces.spawn import Spawned

    Observer = Callable[[str], None]

CREATE = "create the namespaces"
JOIN = "join the namespaces"
MAP = "write the id maps"
PREPARE = "prepare the launch"


class Ended(Record):
    """How process `pid`, the command, ended, and by which signal to the launcher, if by one."""

    pid: int
    status: Status
    signal: int | None = None


def prepare_child(
    plan: Plan, child: Spawned, ends: Channel, *, observe: Observer, reader: Reader | None
) -> None:
    """Bring a waiting child to exec. Raises SpaceError, with the child dead and reaped."""
    talk = Conversation()
    try:
        may_set_groups = _write_maps(plan, child, observe)
        ends.say(channel.MAPPED, channel.ALLOWED if may_set_groups else channel.DENIED)
        _listen(plan, child, ends, talk, observe=observe, reader=reader)
    except BaseException as error:
        ended = end_child(child)
        if isinstance(error, _ChildDied):
            raise _death(talk, ended) from None
        if isinstance(error, KernelError):
            raise failure(Report.of(MAP, error), plan) from error
        if isinstance(error, SpaceError) and error.report and error.report.stage == MAP:
            error.details = (_mapping_detail(error.report, plan),)
        raise


def failure(report: Report, plan: Plan) -> SpaceError:
    """Turn a report into the error that users see, with its exit status and its hint."""
    details = [report.text] if report.text and report.errno else []
    if report.stage == MAP:
        details.append(_mapping_detail(report, plan))
    exit_status = status.FAILED
    if report.stage == EXECUTE:
        missing = report.errno in (errno.ENOENT, errno.ENOTDIR)
        exit_status = status.NOT_FOUND if missing else status.CANNOT_EXECUTE
    return SpaceError(
        report.sentence(),
        details=details,
        hint=diagnosis.explain(
            report, namespaces=plan.namespaces, uids=plan.uid_map, gids=plan.gid_map
        ),
        exit_status=exit_status,
        report=report,
    )


def end_child(child: Spawned) -> Status:
    """Kill the child, wait until it has ended, and reap it."""
    signals.send(child.pidfd, constants.SIGKILL)
    nsfs.has_ended(child.pidfd, timeout=None)
    return reap(child.pid)


def reap(pid: int) -> Status:
    """Take the status of a child that has ended. Raises SpaceError where the kernel lost it."""
    try:
        # Not wait4: its answer makes Python import the module `resource`.
        _, word = os.waitpid(pid, 0)
    except ChildProcessError:
        raise SpaceError(
            f"cannot learn how process {pid} ended: waitpid: {os.strerror(errno.ECHILD)}",
            details=["SIGCHLD is ignored in this process, or something else waited for the child"],
        ) from None
    return Status.from_wait(word)


def wait_forwarding(child: Spawned, reader: Reader, *, pid_1: bool) -> Ended:
    """Wait for the command, and pass on the signals that are sent to the launcher meanwhile.

    pid_1: whether the command is the first of a pid namespace, where the kernel drops what it has
    no handler for.
    """
    received: set[int] = set()
    killed_for: int | None = None
    poller = _poller(child.pidfd, reader.fileno())
    running = True
    while running:
        running = child.pidfd not in dict(poller.poll())
        # Read even when the command has ended: at Ctrl-C the terminal's signal has ended it, and
        # the same signal is waiting here.
        while signal := reader.read():
            received.add(signal.number)
            if signal.from_process:
                signals.send(child.pidfd, signal.number)
            if pid_1 and signal.number in signals.ENDING and _is_lost(child, signal.number):
                killed_for = signal.number
                signals.send(child.pidfd, constants.SIGKILL)
    ended = reap(child.pid)
    if killed_for is not None and ended.signal == constants.SIGKILL:
        ended = Status(signal=killed_for)
    cause = ended.signal if ended.signal in received.intersection(signals.ENDING) else None
    return Ended(pid=child.pid, status=ended, signal=cause)


def _write_maps(plan: Plan, child: Spawned, observe: Observer) -> bool:
    if not plan.has("user"):
        return False
    observe(f"map user ids: {idmap.arrows(plan.uid_map) or 'none'}")
    observe(f"map group ids: {idmap.arrows(plan.gid_map) or 'none'}")
    return idmap.write_outer(
        procfs.pid_of_pidfd(child.pidfd),
        uids=plan.uid_map,
        gids=plan.gid_map,
        setgroups=plan.setgroups,
        write_uids=_helper(plan.uid_map, os.geteuid(), constants.CAP_SETUID),
        write_gids=_helper(plan.gid_map, os.getegid(), constants.CAP_SETGID),
    )


def _helper(extents: tuple[Extent, ...], own: int, capability: int) -> Writer | None:
    """Return who writes a map that the kernel would not take from this process."""
    if not extents or idmap.is_own(extents, own) or procfs.has_capability(capability):
        return None
    from pyspaces import newidmap

    return lambda path, rows: newidmap.write_outer(path, rows, stage=MAP)


def _listen(
    plan: Plan,
    child: Spawned,
    ends: Channel,
    talk: Conversation,
    *,
    observe: Observer,
    reader: Reader | None,
) -> None:
    """Hear the child out until it has become the command. Raises where it has not."""
    poller = _poller(ends.fileno(), child.pidfd, *([reader.fileno()] if reader else []))
    while True:
        ready = dict(poller.poll())
        # Messages first. A signal is early only where the child has said nothing new: seen before
        # its messages, one for a command that runs already would be taken for one to the set-up.
        if ends.fileno() not in ready and child.pidfd not in ready:
            _receive_early(child, reader)
            continue
        # A child that has ended has said all that it will say: the channel holds a message or
        # end-of-file, and this cannot block.
        message = ends.hear()
        if message is None:
            break
        talk.accept(message)
        if message.kind == channel.STAGE:
            observe(talk.stage)
        elif message.kind == channel.EXECUTING:
            observe(f"{EXECUTE}: {' '.join(plan.command)}")
            if reader:  # from here on signals are for the command: they wait for wait_forwarding
                poller.unregister(reader.fileno())
        elif message.kind == channel.FAILED:
            raise failure(Report.from_bytes(message.body), plan)
    if not talk.executing:
        raise _ChildDied


class _ChildDied(Exception):
    """The child ended without a word."""


def _receive_early(child: Spawned, reader: Reader | None) -> None:
    """Take a signal from before the command has started: end, or keep it for the command."""
    signal = reader.read() if reader else None
    if signal is None:
        return
    if signal.number in signals.ENDING:
        raise Interrupted(signal.number)
    if signal.from_process:
        signals.send(child.pidfd, signal.number)


def _death(talk: Conversation, ended: Status) -> SpaceError:
    stage = talk.stage or WAIT
    return SpaceError(
        f"cannot {stage}: the new process {ended} on the way",
        report=Report(stage=stage, text=str(ended)),
    )


def _is_lost(child: Spawned, number: int) -> bool:
    try:
        return signals.is_lost_on(procfs.pid_of_pidfd(child.pidfd), number)
    except KernelError:
        return False


def _poller(*descriptors: int) -> select.poll:
    poller = select.poll()
    for descriptor in descriptors:
        poller.register(descriptor, select.POLLIN)
    return poller


def _mapping_detail(report: Report, plan: Plan) -> str:
    groups = report.call == "newgidmap" or report.path.endswith("gid_map")
    extents = plan.gid_map if groups else plan.uid_map
    kind = "group" if groups or report.path.endswith("setgroups") else "user"
    return f"while mapping {kind} ids for the new user namespace ({idmap.arrows(extents)})"
