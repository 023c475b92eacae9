"""The last act of a child that confines itself: what it may reach, use and call, and then exec.

Runs in the new process only. Loaded only if the plan confines the command.
"""

from __future__ import annotations

import errno
import os
import stat

from pyspaces.errors import CONFINED, EXECUTE, Refusal
from pyspaces.launch import channel
from pyspaces.launch.inner.steps import FALLBACK_SHELL, NO_INTERPRETER, make_ready

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

    from pyspaces.launch.inner import Telling
    from pyspaces.launch.inner.steps import Context

# Why exec fails that would not have failed a moment before.
_CONFINED = {
    errno.ENOENT: NO_INTERPRETER,
    errno.EACCES: CONFINED,
    errno.EPERM: CONFINED,
}


def confine(telling: Telling) -> None:
    """Take the last steps. From the first on, this process may lack any call, descriptor, memory.

    Nothing stands between the last one and exec but what the caller writes there.
    """
    context = telling.context
    late = [step for step, _ in context.steps if step.at_exec]
    if not late:
        return
    context.channel.go_mute()
    for step in late:
        telling.stage = step.title
        context.channel.say(channel.STAGE, os.fsencode(step.title))
        step.act(context)
    telling.stage = EXECUTE
    context.channel.say(channel.EXECUTING)


def execute_confined(telling: Telling) -> NoReturn:
    """Look for the command first: once it is confined, this process may not be able to.

    And nothing is executed that has not been found before, or it would run unconfined.
    """
    context = telling.context
    make_ready(context)
    path, is_program = _found(context)
    # An ELF program is nothing that a shell could run instead, whatever keeps the kernel from it.
    shell = None if is_program else _refusal_of(FALLBACK_SHELL, context)
    confine(telling)
    try:
        try:
            os.execve(path, context.words, context.environment)
        except OSError as error:
            if error.errno != errno.ENOEXEC or shell or is_program:
                raise shell or error from None
            words = (FALLBACK_SHELL, path, *context.words[1:])
            os.execve(FALLBACK_SHELL, words, context.environment)
    except Refusal:
        raise
    except OSError as error:
        text = _CONFINED.get(error.errno or 0, "")
        raise Refusal(text, number=error.errno or 0, path=os.fsdecode(path)) from None


def _found(context: Context) -> tuple[bytes, bool]:
    """Return the candidate that exec would take, and whether it is known to be an ELF program.

    Raises what exec would fail by.
    """
    denied: OSError | None = None
    for path in context.candidates:
        try:
            status = os.stat(path)
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.ENOTDIR, errno.EACCES):
                raise
            denied = denied or (error if error.errno == errno.EACCES else None)
            continue
        is_program = bool(context.leading and context.leading.check_inner(path))
        if stat.S_ISREG(status.st_mode) and os.access(path, os.X_OK, effective_ids=True):
            return path, is_program
        denied = denied or PermissionError(errno.EACCES, "", path)
    raise denied or FileNotFoundError(errno.ENOENT, "", context.program())


def _refusal_of(path: bytes, context: Context) -> Refusal | None:
    try:
        if context.leading:
            context.leading.check_inner(path)
    except Refusal as refusal:
        return refusal
    return None
