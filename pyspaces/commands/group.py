"""All commands, for every command line that `fast` leaves to click.

Knows its commands by name: a module is imported when its command is used.
"""

from __future__ import annotations

import importlib

import click

from pyspaces import status
from pyspaces.commands.optional import help_option, version_option
from pyspaces.errors import SpaceError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

# The commands and their summaries, which are here so that the list of commands needs no import.
COMMANDS = {
    "run": "Run a command in new namespaces.",
    "enter": "Run a command in existing namespaces.",
    "check": "Check what this host allows, or whether a launch would work.",
    "list": "List the namespaces of this host.",
    "stop": "Stop commands and namespaces by name.",
    "network": "Create, list and remove networks that commands share.",
    "drop": "Release namespaces that are bound to files.",
    "completion": "Print the completion script for a shell.",
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
        module = importlib.import_module(f"pyspaces.commands.{cmd_name}")
        command = getattr(module, "list_" if cmd_name == "list" else cmd_name)
        assert isinstance(command, click.Command)
        command.short_help = COMMANDS[cmd_name]
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


group = LazyGroup(
    "pyspaces",
    help="Run commands in Linux namespaces, without root, daemon or compiled code.",
    no_args_is_help=False,
    add_help_option=False,
    params=[version_option(), help_option()],
)


def main(arguments: Sequence[str], talk: dict[str, bool]) -> int:
    """Run a command line with click; return the exit status.

    talk: `debug` is set in it once a command has read its options. Raises SpaceError for usage
    errors, and what the command raises.
    """
    try:
        result = group.main(list(arguments), prog_name="pyspaces", standalone_mode=False, obj=talk)
        return result if isinstance(result, int) else 0
    except click.ClickException as error:
        talk["debug"] = False
        raise _wrong_usage(error) from error
    except click.Abort:
        return status.SIGNAL_BASE + 2


def _wrong_usage(error: click.ClickException) -> SpaceError:
    """Return a usage error in the form of all our errors."""
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
    message = f"{where}: {message}" if where else message
    return SpaceError(message, hint=hint, exit_status=status.USAGE)
