"""The last act of the child: exec, and why it failed.

Runs in the new process only.
"""

from __future__ import annotations

import errno
import os

from pyspaces.errors import Refusal
from pyspaces.kernel import libc

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

    from pyspaces.launch.inner.steps import Context

_FALLBACK_SHELL = b"/bin/sh"


def execute(context: Context) -> NoReturn:
    """Try the candidates as execvp(3) does; raise the error that says most."""
    if context.leading:
        # Until exec, which undoes it: who is inside finds by /proc/PID no file of the host's.
        libc.set_dumpable(dumpable=False)
    if context.handed:
        context.handed.take_inner()
    argv = [os.fsencode(word) for word in context.plan.command]
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
    if not isinstance(error, OSError) or error.filename is None:
        return ""
    name = os.fsdecode(error.filename)
    missing = error.errno == errno.ENOENT and not os.path.lexists(name)
    return context.plan.command[0] if missing and os.fsencode(name) in context.candidates else name


def text_of(error: BaseException) -> str:
    """Explain the one errno that misleads: ENOENT for a file that is there."""
    if isinstance(error, FileNotFoundError) and error.filename and os.path.lexists(error.filename):
        return "the file is there, but not the interpreter that it names"
    return ""
