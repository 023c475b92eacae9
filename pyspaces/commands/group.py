"""All commands, for every command line that `fast` leaves to click.

Knows its commands by name: a module is imported when its command is used.
"""

from __future__ import annotations

import importlib
import os

import click

from pyspaces import status
from pyspaces.commands import colours
from pyspaces.commands.optional import Group, NoSuchCommand, help_option, version_option
from pyspaces.errors import SpaceError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

# The commands and their summaries, which are here so that the list of commands needs no import.
COMMANDS = {
    "run": "Run a command in new namespaces.",
    "enter": "Run a command in existing namespaces.",
    "check": "Check what this host allows, or whether a launch would work.",
    "ps": "List what pyspaces has started and still runs.",
    "list": "List the namespaces of this host.",
    "stop": "Stop commands and namespaces by name.",
    "network": "Create, list and remove networks that commands share.",
    "overlay": "List or apply the changes that an overlay has kept.",
    "profile": "List and show profiles, which are settings in files.",
    "drop": "Release namespaces that are bound to files.",
    "translate": "Rewrite a line of bwrap, unshare, nsenter, lsns or podman for pyspaces.",
    "as": "Do what bwrap, unshare, nsenter or lsns would do with the same words.",
    "completion": "Print or install the completion script for a shell.",
    "help": "Open the man page about a command or a topic.",
}
# `as` cannot be the name of a module, nor `list` that of a command.
_MODULES = {"as": "as_"}
_NAMES = {"as": "as_", "help": "help_", "list": "list_"}

# What other programs call them, and what to write.
_OTHERS = {
    "ls": "list",
    **dict.fromkeys(("attach", "exec", "join"), "enter NAME -- COMMAND"),
    **dict.fromkeys(("delete", "down", "end", "kill", "rm", "terminate"), "stop NAME"),
    **dict.fromkeys(("release", "umount"), "drop FILE"),
    **dict.fromkeys(("create", "spawn", "start", "up"), "run -- COMMAND"),
    **{name: f"as {name}" for name in ("bwrap", "nsenter", "unshare")},
    **dict.fromkeys(("shell", "sh", "bash"), "run --all"),
    **dict.fromkeys(("doctor", "info", "test"), "check"),
    "commit": "overlay apply UPPER DIR",
    "diff": "overlay diff UPPER DIR",
    **dict.fromkeys(("build", "images", "load", "pull"), "run --root DIR -- COMMAND"),
    "inspect": "list --json",
    "lsns": "list",
    "man": "help TOPIC",
    "top": "ps --watch",
    "version": "--version",
}


class LazyGroup(Group):
    """A group that imports a command only when it is used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of the commands, in the order of COMMANDS."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import and return a command, or None if there is none of that name."""
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"pyspaces.commands.{_MODULES.get(cmd_name, cmd_name)}")
        command = getattr(module, _NAMES.get(cmd_name, cmd_name))
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
    others=_OTHERS,
    no_args_is_help=False,
    add_help_option=False,
    params=[colours.option(), version_option(), help_option()],
)


def main(arguments: Sequence[str], talk: dict[str, bool]) -> int:
    """Run a command line with click; return the exit status.

    talk: `debug` is set in it once a command has read its options. Raises SpaceError for usage
    errors, and what the command raises.
    """
    if os.environ.get("_PYSPACES_COMPLETE"):
        from pyspaces.commands import shells  # what only a TAB key needs

        shells.register()
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
    text = " ".join(error.format_message().split()).rstrip(".")
    hint = error.hint if isinstance(error, NoSuchCommand) else f"see `{path} --help`"
    if isinstance(error, click.NoSuchOption):
        text, hint = f"no such option: {error.option_name}", _of_option(error, hint, ctx)
    elif isinstance(error, click.BadOptionUsage):
        text = text.replace("Option ", "", 1).replace("'", "", 2)
        text = text.replace("an argument", "a value").replace("arguments", "values")
        text = text.replace("does not take a value", "takes no value")
    for kind in ("integer", "float"):  # a range is nothing that anybody has typed
        text = text.replace(f"is not a valid {kind} range", "is not a number")
    message = text[:1].lower() + text[1:]
    message = f"{where}: {message}" if where else message
    return SpaceError(message, hint=hint, exit_status=status.USAGE)


def _of_option(error: click.NoSuchOption, hint: str, ctx: click.Context | None) -> str:
    """Return the options that are nearest to an unknown one, and where they all are."""
    if error.option_name == "-V":
        return "write --version"
    if ctx is None:
        return hint
    known = [word for param in ctx.command.params for word in (*param.opts, *param.secondary_opts)]
    long = [word for word in known if word[:2] == "--"]
    from pyspaces.settings import nearest  # what only an error needs

    if near := nearest.words(error.option_name, long):
        return f"did you mean {' or '.join(near)}? {hint}"
    if isinstance(ctx.command, LazyGroup):
        return f"options of a launch follow the command: pyspaces run {error.option_name}"
    return hint
