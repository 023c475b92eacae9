"""The last act of the child: exec, and why it failed.

Runs in the new process only.
"""

from __future__ import annotations

import errno
import os
import stat

from pyspaces.errors import CONFINED, Refusal
from pyspaces.kernel import libc

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import NoReturn

    from pyspaces.launch.inner.steps import Context

_FALLBACK_SHELL = b"/bin/sh"
_NO_INTERPRETER = "the file is there, but not the interpreter that it names"
# Why exec fails that would not have failed a moment before.
_CONFINED = {
    errno.ENOENT: _NO_INTERPRETER,
    errno.EACCES: CONFINED,
    errno.EPERM: CONFINED,
}


def execute(context: Context, confine: Callable[[], object] | None = None) -> NoReturn:
    """Try the candidates as execvp(3) does; raise the error that says most.

    confine: what takes from this process all that the command may not have.
    """
    if context.leading:
        # Until exec, which undoes it: who is inside finds by /proc/PID no file of the host's.
        libc.set_dumpable(dumpable=False)
    argv = [os.fsencode(word) for word in context.plan.command]
    if confine:
        _execute_confined(context, argv, confine)
    denied: OSError | None = None
    error: OSError | None = None
    for path in context.candidates:
        try:
            _execute_one(path, argv, context)
        except Refusal:
            raise
        except OSError as failure:
            error = failure
            if failure.errno == errno.EACCES:
                denied = denied or failure
            elif failure.errno not in (errno.ENOENT, errno.ENOTDIR) or os.path.lexists(path):
                raise
    raise denied or error or FileNotFoundError(errno.ENOENT, "", argv[0])


def _execute_confined(
    context: Context, argv: list[bytes], confine: Callable[[], object]
) -> NoReturn:
    """Look for the command first: once it is confined, this process may not be able to.

    And nothing is executed that has not been found before, or it would run unconfined.
    """
    path = _found(context, argv)
    shell = _refusal_of(_FALLBACK_SHELL, context)
    confine()
    try:
        try:
            os.execve(path, argv, context.environment)
        except OSError as error:
            if error.errno != errno.ENOEXEC or shell:
                raise shell or error from None
            words = [_FALLBACK_SHELL, path, *argv[1:]]
            os.execve(_FALLBACK_SHELL, words, context.environment)
    except Refusal:
        raise
    except OSError as error:
        text = _CONFINED.get(error.errno or 0, "")
        raise Refusal(text, number=error.errno or 0, path=os.fsdecode(path)) from None


def _found(context: Context, argv: list[bytes]) -> bytes:
    """Return the candidate that exec would take. Raises what it would fail by."""
    denied: OSError | None = None
    for path in context.candidates:
        if context.leading:
            context.leading.check_inner(path)
        try:
            status = os.stat(path)
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.ENOTDIR, errno.EACCES):
                raise
            denied = denied or (error if error.errno == errno.EACCES else None)
            continue
        if stat.S_ISREG(status.st_mode) and os.access(path, os.X_OK, effective_ids=True):
            return path
        denied = denied or PermissionError(errno.EACCES, "", path)
    raise denied or FileNotFoundError(errno.ENOENT, "", argv[0])


def _refusal_of(path: bytes, context: Context) -> Refusal | None:
    try:
        if context.leading:
            context.leading.check_inner(path)
    except Refusal as refusal:
        return refusal
    return None


def _execute_one(path: bytes, argv: list[bytes], context: Context) -> None:
    try:
        _checked(path, argv, context)
    except Refusal:
        raise
    except OSError as error:
        # A script without a #! line: what a shell would do.
        if error.errno == errno.ENOEXEC:
            _checked(_FALLBACK_SHELL, [_FALLBACK_SHELL, path, *argv[1:]], context)
        error.filename = path
        raise


def _checked(path: bytes, argv: list[bytes], context: Context) -> None:
    if context.leading:
        context.leading.check_inner(path)
    os.execve(path, argv, context.environment)


def path_of(error: BaseException, context: Context) -> str:
    """Name the command as the caller wrote it where it is missing, else the file that failed."""
    if not isinstance(error, OSError) or error.filename is None or isinstance(error, Refusal):
        return ""  # a Refusal says it all
    name = os.fsdecode(error.filename)
    missing = error.errno == errno.ENOENT and not os.path.lexists(name)
    return context.plan.command[0] if missing and os.fsencode(name) in context.candidates else name


def text_of(error: BaseException) -> str:
    """Explain the one errno that misleads: ENOENT for a file that is there."""
    if isinstance(error, FileNotFoundError) and error.filename and os.path.lexists(error.filename):
        return _NO_INTERPRETER
    return ""
