"""The CHILD side of a launch: STEPS, in their order, and then the command.

Runs in the new process only, between the clone and exec. Everything it needs is imported
before the fork: once the root may have moved, an import would run a file of the new root as
the launcher, so the first act here is to seal imports. No logging, no printing; what went wrong
goes home as a Report. Ends in exec or os._exit, never by returning.
"""

from __future__ import annotations

import errno
import os
import sys

from pyspaces import channel, clocks, hostname, network
from pyspaces.errors import Report
from pyspaces.idmap import inside_id
from pyspaces.kernel import constants, libc, nsfs
from pyspaces.kernel.libc import KernelError
from pyspaces.mounts import proc, propagation
from pyspaces.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import NoReturn

    from pyspaces.channel import Channel
    from pyspaces.idmap import Extent
    from pyspaces.plan import Plan
    from pyspaces.signals import Inherited

_FALLBACK_SHELL = b"/bin/sh"


class Context(Record):
    """What the parent hands to the child through the fork.

    channel: this side's end. launcher: a pidfd of the parent. inherited: the signal state for the
    command. candidates: the paths at which the command may be, in their order. environment: the
    command's. function: what to call instead of executing the command.
    """

    plan: Plan
    channel: Channel
    launcher: int
    inherited: Inherited
    candidates: tuple[bytes, ...]
    environment: Mapping[bytes, bytes]
    function: Callable[[], object] | None = None


class Step(Record):
    """One piece of set-up: when it applies, what it does, and how it is told to people."""

    title: str
    applies: Callable[[Plan], object]
    act: Callable[[Context], None]
    detail: Callable[[Plan], object] = lambda plan: ""

    def text(self, plan: Plan) -> str:
        """Return the step in one line, with its value where it has one."""
        detail = self.detail(plan)
        return f"{self.title}: {detail}" if detail else self.title


def _tie_to_launcher(context: Context) -> None:
    """Die when the launcher dies, and do it at once where it is dead already.

    After the ids have changed, since that clears the signal again (commit_creds() in
    kernel/cred.c). getppid(2) cannot tell: across a pid namespace it is always 0.
    """
    libc.set_parent_death_signal(constants.SIGKILL)
    if nsfs.has_ended(context.launcher):
        os._exit(0)


def _mount_proc(context: Context) -> None:
    proc.mount_inner("/proc")


def _enter_clocks(context: Context) -> None:
    clocks.enter_inner(boottime=context.plan.boottime, monotonic=context.plan.monotonic)


def _change_directory(context: Context) -> None:
    os.chdir(context.plan.workdir or ".")


def _restore_signals(context: Context) -> None:
    if context.function is None:
        context.inherited.restore_inner()
    else:
        context.inherited.restore_mask_inner()


def _offsets(plan: Plan) -> str:
    rows = (("boottime", plan.boottime), ("monotonic", plan.monotonic))
    return ", ".join(f"{name} {offset}" for name, offset in rows if offset)


# The ids are changed before this table begins: every step needs the rights of the mapped user.
STEPS = (
    Step(
        title="tie the command to the life of the launcher",
        applies=lambda plan: plan.kill_child,
        act=_tie_to_launcher,
    ),
    # Before the mounts: the offsets are written through /proc, which a later root may lack.
    Step(
        title="enter a new time namespace",
        applies=lambda plan: plan.has("time"),
        act=_enter_clocks,
        detail=_offsets,
    ),
    # Before any mount is made, or the mount would be seen outside.
    Step(
        title="set the propagation of mounts",
        applies=lambda plan: plan.has("mount"),
        act=lambda context: propagation.set_inner(context.plan.propagation),
        detail=lambda plan: plan.propagation,
    ),
    Step(
        title="mount a new /proc",
        applies=lambda plan: plan.mount_proc,
        act=_mount_proc,
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
        act=lambda context: network.raise_loopback_inner(),
    ),
    # After the mounts, which decide where the path leads.
    Step(
        title="change to the working directory",
        applies=lambda plan: plan.workdir is not None,
        act=_change_directory,
        detail=lambda plan: plan.workdir,
    ),
    # Last: from here on a signal does to this process what it would do to the command.
    Step(
        title="restore the signals",
        applies=lambda plan: True,
        act=_restore_signals,
    ),
)


class ImportSealed(ImportError):
    """A module was imported in the child, where it might come from somebody else's root."""


class _Seal:
    @staticmethod
    def find_spec(name: str, path: object = None, target: object = None) -> None:
        raise ImportSealed(f"{name}: nothing is imported between the clone and exec")


def seal_imports() -> None:
    """Refuse every import of a module that is not loaded yet."""
    sys.meta_path.insert(0, _Seal)


def unseal_imports() -> None:
    """Allow imports again; from here on they come from the command's own root."""
    sys.meta_path.remove(_Seal)


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
            _execute(context)
    except BaseException as error:  # noqa: BLE001 - whatever it is, the parent must learn of it
        path = _path_of(error, context)
        _send_report(context, Report.of(stage, error, path=path, text=_text_of(error)))
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
        allowed = message.body == channel.ALLOWED
        become_mapped(plan.uid_map, plan.gid_map, may_set_groups=allowed)


def become_mapped(uids: Sequence[Extent], gids: Sequence[Extent], *, may_set_groups: bool) -> None:
    """Take the mapped ids; without them exec would drop every capability: user_namespaces(7).

    Supplementary groups of the caller are not mapped as a rule; they go where the kernel lets them.
    """
    uid, gid = inside_id(uids), inside_id(gids)
    calls: list[tuple[str, Callable[[], None]]] = []
    if may_set_groups:
        calls.append(("setgroups", lambda: os.setgroups([])))
    if gid is not None:
        calls.append(("setresgid", lambda: os.setresgid(gid, gid, gid)))
    if uid is not None:
        calls.append(("setresuid", lambda: os.setresuid(uid, uid, uid)))
    for name, call in calls:
        try:
            call()
        except OSError as error:
            raise KernelError(error.errno or 0, name) from error
    # The change of ids gave our files in /proc to the host's root, and where that is not us any
    # more, timens_offsets could not be opened (seen as root with 0 mapped to 1000).
    libc.set_dumpable()


def _execute(context: Context) -> NoReturn:
    """Try the candidates as execvp(3) does; raise the error that says most."""
    argv = [os.fsencode(word) for word in context.plan.command]
    denied: OSError | None = None
    error: OSError | None = None
    for path in context.candidates:
        try:
            _execute_one(path, argv, context.environment)
        except OSError as failure:
            error = failure
            if failure.errno == errno.EACCES:
                denied = denied or failure
            elif failure.errno not in (errno.ENOENT, errno.ENOTDIR) or os.path.lexists(path):
                raise
    raise denied or error or FileNotFoundError(errno.ENOENT, "", argv[0])


def _execute_one(path: bytes, argv: list[bytes], environment: Mapping[bytes, bytes]) -> None:
    try:
        os.execve(path, argv, environment)
    except OSError as error:
        # A script without a #! line: what a shell would do.
        if error.errno == errno.ENOEXEC:
            os.execve(_FALLBACK_SHELL, [_FALLBACK_SHELL, path, *argv[1:]], environment)
        error.filename = path
        raise


def _path_of(error: BaseException, context: Context) -> str:
    """Name the command as the caller wrote it where it is missing, else the file that failed."""
    if not isinstance(error, OSError) or error.filename is None:
        return ""
    name = os.fsdecode(error.filename)
    missing = error.errno == errno.ENOENT and not os.path.lexists(name)
    return context.plan.command[0] if missing and os.fsencode(name) in context.candidates else name


def _text_of(error: BaseException) -> str:
    """Explain the one errno that misleads: ENOENT for a file that is there."""
    if isinstance(error, FileNotFoundError) and error.filename and os.path.lexists(error.filename):
        return "the file is there, but not the interpreter that it names"
    return ""


def _send_report(context: Context, report: Report) -> None:
    """Send the report; a parent that has gone cannot be told."""
    try:
        context.channel.say(channel.FAILED, report.to_bytes())
    except KernelError:
        os._exit(1)
