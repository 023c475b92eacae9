"""The CHILD side of a launch: its steps, in their order, and then the command.

Runs in the new process only, between the clone and exec. Everything it needs is imported
before the fork: once the root may have moved, an import would run a file of the new root as
the launcher, so the first act here is to seal imports. No logging, no printing; what went wrong
goes home as a Report. Ends in exec or os._exit, never by returning.
"""

from __future__ import annotations

import errno
import os
import stat

from pyspaces.errors import (
    BETWEEN,
    EXECUTE,
    IS_DIRECTORY,
    MOUNTED_NOEXEC,
    NO_PERMISSION,
    WAIT,
    Refusal,
    Report,
)
from pyspaces.kernel import libc, procfs
from pyspaces.kernel.namespaces import NAMESPACES
from pyspaces.kernel.nsfs import wait_for_either
from pyspaces.launch.channel import ALLOWED, EXECUTING, FAILED, GO, MAPPED, STAGE
from pyspaces.launch.inner.identity import take_mapped
from pyspaces.launch.inner.steps import (
    FALLBACK_SHELL,
    NO_INTERPRETER,
    Context,
    make_ready,
    seal_imports,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import NoReturn

    from pyspaces.feature import Step

__all__ = ["Context", "run_inner"]


def run_inner(telling: Telling) -> NoReturn:
    """Carry out the plan in this process, and become the command or call the function.

    telling: made before the fork.
    """
    seal_imports()
    try:
        context = telling.context
        if context.own_group:
            # The command can always signal its own group. Groups have members in several pid
            # namespaces: kill(0, SIGKILL) from inside would reach all of the caller's group. A
            # process 1 of ours leads the new group, and is not hurt by that. It has to lead: the
            # kernel ends a namespace only when none of its numbers is in use, and a group with
            # members elsewhere would use one (zap_pid_ns_processes).
            os.setpgid(0, 0)
        # By this descriptor it finds its own namespaces, whatever root it will have.
        own = _own_namespaces(context) if context.held else -1
        if context.between:
            # As the caller, to whom the directory of the file belongs.
            telling.stage = BETWEEN
            context.between.find_inner()
            telling.stage = WAIT
        become_mapped(context, _wait_for_word(context, MAPPED))
        rows = context.steps
        if context.post:
            rows = tuple([row for row in rows if not row[0].for_command])
        take(telling, rows)
        told = _told_namespaces(own) if own >= 0 else b""
        if context.post:
            context.post.serve_inner(lambda: _run_beneath(telling, told), context.limit)
        become(telling, told)
    except BaseException as error:  # noqa: BLE001 - reported, and the process ends
        telling.end(error)


def _run_beneath(telling: Telling, told: bytes) -> NoReturn:
    """Carry out the rest in the command's own process, a child of our process 1."""
    try:
        take(telling, [row for row in telling.context.steps if row[0].for_command])
        become(telling, told)
    except BaseException as error:  # noqa: BLE001 - reported, and the process ends
        telling.end(error)


def _own_namespaces(context: Context) -> int:
    """Open /proc/self/ns if the launcher, who wants to know, may not look; else return -1."""
    if libc.is_dumpable() and not context.post:
        return -1
    try:
        # To look for names in it is allowed to everybody, to list it to its owner: who is root now.
        return os.open("/proc/self/ns", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:  # this /proc may be that of a namespace in which we are not
        return -1


def _told_namespaces(own: int) -> bytes:
    """Return what EXECUTING carries: the namespaces of this process, as their links read."""
    links = []
    for row in NAMESPACES:
        try:
            links.append(os.readlink(row.link, dir_fd=own))
        except OSError:  # this kernel has no such namespace, or there is no /proc
            continue
    os.close(own)
    return os.fsencode(" ".join(links))


class Telling:
    """What reports to the launcher what is raised, and at which stage."""

    def __init__(self, context: Context) -> None:
        self.context = context
        self.stage: str = WAIT

    def end(self, error: BaseException) -> NoReturn:
        """Report an error, and end this process."""
        try:
            self.context.channel.say(FAILED, self.report(error).to_bytes())
        finally:  # whether or not the parent is there to be told
            os._exit(1)

    def report(self, error: BaseException) -> Report:
        """Return the report of an error, with the stage it happened in."""
        path = _path_of(error, self.context)
        return Report.of(self.stage, error, path=path, text=_text_of(error, self.stage))


def take(telling: Telling, rows: Iterable[tuple[Step, bytes]]) -> None:
    """Take steps, and report each as it begins."""
    context = telling.context
    for step, text in rows:
        if step.at_exec:
            continue
        telling.stage = step.title
        context.channel.say(STAGE, text)
        step.act(context)


def become(telling: Telling, told: bytes = b"") -> NoReturn:
    """Become the command, or call the function."""
    context = telling.context
    for step, text in context.steps:
        if step.at_exec:
            context.channel.say(STAGE, text)
    telling.stage = EXECUTE
    context.channel.say(EXECUTING, told)
    if context.held:
        _wait_for_word(context, GO)
    if context.call:
        context.call(telling)
    execute(context)


def become_mapped(context: Context, word: bytes) -> None:
    """Become the mapped user, if there is a new user namespace. word: what came with MAPPED."""
    mapped = context.mapped
    if mapped:
        uid, gid = mapped.uid, mapped.gid
        if mapped.by_others:
            uid, gid = _id_by_others("uid_map"), _id_by_others("gid_map")
        allowed = word == ALLOWED and not mapped.keeps_groups
        take_mapped(uid, gid, may_set_groups=allowed)


def _id_by_others(kind: str) -> int | None:
    """Return the id that a map of this process gives it, which is in no other root yet."""
    rows = procfs.id_map(kind)
    extents = [procfs.Extent(inside=row[0], outside=row[1], count=row[2]) for row in rows]
    return procfs.inside_id(extents)


def _wait_for_word(context: Context, kind: bytes) -> bytes:
    """Wait for a word of the launcher: that the maps are written, or that exec may come.

    A launcher that has died has not given it: the command must not run unmapped. End-of-file does
    not tell, since a process forked meanwhile by another thread may hold the launcher's end.
    """
    if context.launcher in wait_for_either(context.channel.fileno(), context.launcher):
        os._exit(0)
    word = context.channel.word(kind)
    if word is None:
        os._exit(0)
    return word


def execute(context: Context) -> NoReturn:
    """Try the candidates as execvp(3) does; raise the error that says most."""
    make_ready(context)
    denied: OSError | None = None
    error: OSError | None = None
    # A path that leads nowhere costs 2 µs to look at, and 30 to execute. If nothing can be executed
    # at all, exec itself says why.
    there = []
    for path in context.candidates:  # no comprehension: that is another function
        if os.access(path, os.F_OK):
            there.append(path)  # noqa: PERF401
    for path in there or context.candidates:
        try:
            _execute_one(path, context)
        except Refusal:
            raise
        except OSError as failure:
            error = failure
            if failure.errno == errno.EACCES:
                denied = denied or failure
            elif failure.errno not in (errno.ENOENT, errno.ENOTDIR) or os.path.lexists(path):
                raise
    raise denied or error or FileNotFoundError(errno.ENOENT, "", context.program())


def _execute_one(path: bytes, context: Context) -> None:
    try:
        _checked(path, context.words, context)
    except Refusal:
        raise
    except OSError as error:
        # A script without a #! line: what a shell would do.
        if error.errno == errno.ENOEXEC:
            _checked(FALLBACK_SHELL, (FALLBACK_SHELL, path, *context.words[1:]), context)
        error.filename = path
        raise


def _checked(path: bytes, words: tuple[bytes, ...], context: Context) -> None:
    if context.leading:
        context.leading.check_inner(path)
    os.execve(path, words, context.environment)


def _path_of(error: BaseException, context: Context) -> str:
    """Return the command as the caller wrote it if it is missing, else the file that failed."""
    if not isinstance(error, OSError) or error.filename is None or isinstance(error, Refusal):
        return ""  # a Refusal says it all
    name = os.fsdecode(error.filename)
    missing = error.errno == errno.ENOENT and not os.path.lexists(name)
    return context.program() if missing and os.fsencode(name) in context.candidates else name


def _text_of(error: BaseException, stage: str) -> str:
    """Explain what misleads: ENOENT for a file that is there, and EACCES for one that can be read.

    Here the file is seen as the command would have seen it.
    """
    if not isinstance(error, OSError) or not error.filename or isinstance(error, Refusal):
        return ""
    if error.errno == errno.ENOENT and os.path.lexists(error.filename):
        return NO_INTERPRETER
    if error.errno == errno.EACCES and stage == EXECUTE:
        return _why_not_executed(error.filename)
    return ""


def _why_not_executed(path: bytes) -> str:
    """execve(2), EACCES: path_noexec() and may_open() of the kernel, for a regular file."""
    try:
        mode = os.stat(path).st_mode
        if not stat.S_ISREG(mode):
            return IS_DIRECTORY if stat.S_ISDIR(mode) else ""
        if os.statvfs(path).f_flag & os.ST_NOEXEC:
            return MOUNTED_NOEXEC
    except OSError:  # a directory on the way is closed
        return ""
    return "" if mode & 0o111 else NO_PERMISSION
