"""The click group, and the only place where an error becomes text and an exit status.

Knows its commands by name: a module is imported when its command is used.
"""

from __future__ import annotations

import importlib
import sys

import click

from pyspaces import status
from pyspaces.commands.help import help_option, version_option
from pyspaces.commands.say import say
from pyspaces.errors import InternalError, Interrupted, SpaceError, trace_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

# name: (module and object, summary). The summary is here so that the list of commands needs no
# import.
COMMANDS = {
    "run": ("pyspaces.commands.run:run", "Run a command in new namespaces."),
    "enter": ("pyspaces.commands.enter:enter", "Run a command in existing namespaces."),
    "check": (
        "pyspaces.commands.check:check",
        "Check what this host allows, or whether a launch would work.",
    ),
    "list": ("pyspaces.commands.list:list_", "List the namespaces of this host."),
    "stop": ("pyspaces.commands.stop:stop", "Stop commands and namespaces by name."),
    "drop": ("pyspaces.commands.drop:drop", "Release namespaces that are bound to files."),
    "completion": (
        "pyspaces.commands.completion:completion",
        "Print the completion script for a shell.",
    ),
}


class LazyGroup(click.Group):
    """A group that imports a command only when it is used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of the commands, in the order of COMMANDS."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import and return a command, or None if there is none of that name."""
        if cmd_name not in COMMANDS:
            return None
        module, _, attribute = COMMANDS[cmd_name][0].partition(":")
        command = getattr(importlib.import_module(module), attribute)
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, summary) for name, (_, summary) in COMMANDS.items()])


group = LazyGroup(
    "pyspaces",
    help="Run commands in Linux namespaces, without root, daemon or compiled code.",
    no_args_is_help=False,
    add_help_option=False,
    params=[
        version_option(),
        help_option(),
    ],
)


def main(arguments: Sequence[str]) -> int:
    """Run the command line `arguments` (without the program's name); return the exit status.

    If a signal to the launcher ended the command, ends by that signal instead of returning.
    """
    talk = {"debug": False}  # set by the command, once it knows its options
    try:
        result = group.main(list(arguments), prog_name="pyspaces", standalone_mode=False, obj=talk)
        return result if isinstance(result, int) else 0
    except click.ClickException as error:
        return _report_usage(error)
    except Interrupted as error:
        status.die_of(error.signal)
        return status.SIGNAL_BASE + error.signal
    except (click.Abort, KeyboardInterrupt):
        return status.SIGNAL_BASE + 2
    except SpaceError as error:
        return _report(error, debug=talk["debug"])
    except OSError as error:
        return _report(SpaceError(_os_error_text(error)), debug=talk["debug"])
    except Exception as error:  # noqa: BLE001 - a bug is reported like any other failure
        return _report(InternalError(error), debug=talk["debug"])


def _report_usage(error: click.ClickException) -> int:
    """Print a usage error of click in the form of all other errors."""
    ctx = getattr(error, "ctx", None)
    path = ctx.command_path if ctx else "pyspaces"
    where = path.partition(" ")[2]
    text = error.format_message().rstrip(".")
    hint = f"see `{path} --help`"
    if isinstance(error, click.NoSuchOption):
        text = f"no such option: {error.option_name}"
        if error.possibilities:
            hint = f"did you mean {' or '.join(sorted(error.possibilities))}? {hint}"
    message = text[:1].lower() + text[1:]
    return _report(
        SpaceError(
            f"{where}: {message}" if where else message, hint=hint, exit_status=status.USAGE
        ),
        debug=False,
    )


def _report(error: SpaceError, *, debug: bool) -> int:
    say(f"pyspaces: {error}")
    if debug:
        if error.report and error.report.trace:
            say(f"in the new process:\n{error.report.trace}")
        say(_trace_of_handled())
    return error.exit_status


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
