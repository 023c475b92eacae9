"""The command line, and the only place where an error becomes text and an exit status.

The usual launch is read by `commands.fast`; everything else by click, in `commands.group`.
"""

from __future__ import annotations

import errno
import os
import sys

from pyspaces import status
from pyspaces.commands import fast
from pyspaces.errors import (
    DESCRIPTOR_LIMIT,
    Hint,
    InternalError,
    Interrupted,
    Report,
    SpaceError,
    trace_of,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import NoReturn

    from pyspaces.commands.group import COMMANDS, group

__all__ = ["COMMANDS", "group", "main", "run"]

_MEMORY = "this process cannot get more memory: see `ulimit -v` and `ulimit -d`"
# dlopen(3): what is left of ENOMEM if an extension module does not fit any more.
_NOT_LOADED = "failed to map segment from shared object"


def run() -> NoReturn:
    """Run the command line of this process, and exit with its status."""
    arguments = sys.argv[1:]
    # A link to the script with one of these names.
    if (name := sys.argv[0].rpartition("/")[2]) in ("bwrap", "unshare", "nsenter", "lsns"):
        arguments = ["as", name, *arguments]
    # Nothing of ours waits for an exit handler; taking the interpreter apart costs 5 ms.
    os._exit(main(arguments))


def main(arguments: Sequence[str]) -> int:
    """Run the command line `arguments` (without the program's name); return the exit status.

    If a signal to the launcher ended the command, ends by that signal instead of returning.
    """
    talk = {"debug": False}  # set by the command, once it knows its options
    try:
        if any(word[:6] == "--args" for word in arguments):
            from pyspaces.commands.arguments import expanded  # which few lines need

            arguments = expanded(arguments)
        ended = fast.launch(arguments)
        if ended is not None:
            return ended
        from pyspaces.commands import group as by_click  # 20 ms, which few launches need

        return by_click.main(arguments, talk)
    except Interrupted as error:
        status.die_of(error.signal)
        return status.SIGNAL_BASE + error.signal
    except KeyboardInterrupt:
        return status.SIGNAL_BASE + 2
    except SpaceError as error:
        _explain(error, arguments)
        return _report(error, debug=talk["debug"])
    except OSError as error:
        return _report(SpaceError(_os_error_text(error), hint=_hint(error)), debug=talk["debug"])
    except Exception as error:  # noqa: BLE001 - a bug is reported like any other failure
        lacking = isinstance(error, MemoryError) or _NOT_LOADED in str(error)
        known = SpaceError(os.strerror(errno.ENOMEM), hint=_MEMORY) if lacking else None
        return _report(known or InternalError(error), debug=talk["debug"])


def _explain(error: SpaceError, arguments: Sequence[str]) -> None:
    """Add what the command line shows about an error for which it may be wrong."""
    try:
        from pyspaces.commands import mistakes
    except ImportError:  # this process was about to become the command, and imports are sealed
        return
    mistakes.explain(error, arguments)


def _report(error: SpaceError, *, debug: bool) -> int:
    from pyspaces.commands.say import say

    say(f"pyspaces: {error}")
    if isinstance(error.hint, Hint) and error.hint.code and _at_terminal():
        say(f"see pyspaces-hints(7), {error.hint.code}")
    if debug:
        if error.report and error.report.trace:
            say(f"in the new process:\n{error.report.trace}")
        say(_trace_of_handled())
    return error.exit_status


def _hint(error: OSError) -> Hint | str | None:
    """Return what the rules say of an error that no stage of a launch has raised."""
    if error.errno == errno.EMFILE:  # to load the rules would take a descriptor
        return DESCRIPTOR_LIMIT
    report = Report.of("", error)
    if not report.path.startswith("/proc/"):
        return None
    try:
        from pyspaces import hints
    except ImportError:  # imports are sealed
        return None
    return hints.explain(hints.Case(report=report))


def _at_terminal() -> bool:
    try:
        return os.isatty(2)
    except OSError:  # closed when we were started
        return False


def _trace_of_handled() -> str:
    error = sys.exception()
    try:
        import traceback  # takes 5 ms, for developers only
    except ImportError:  # this process was about to become the command, and imports are sealed
        return trace_of(error) if error else ""
    return traceback.format_exc().rstrip()


def _os_error_text(error: OSError) -> str:
    call = getattr(error, "call", "")
    what = " ".join(part for part in (call, error.filename) if part)
    return f"{what}: {error.strerror}" if what else str(error.strerror)


def __getattr__(name: str) -> object:
    """Import click's group and the table of commands on first use."""
    if name not in ("COMMANDS", "group"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from pyspaces.commands import group as by_click

    return getattr(by_click, name)
