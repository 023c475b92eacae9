"""`pyspaces enter`: a command in existing namespaces; here its options, as click has them."""

from __future__ import annotations

import click

from pyspaces.commands import entering, launching
from pyspaces.commands.help import help_option, version_option
from pyspaces.commands.options import GroupedCommand, general_options, options_for
from pyspaces.commands.run import complete_command, show
from pyspaces.commands.targets import TargetWord
from pyspaces.kernel import namespaces
from pyspaces.settings import NAMESPACES, SETUP

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from click.shell_completion import CompletionItem

_HELP = """Run COMMAND in namespaces of TARGET and pass its exit status back.

TARGET is a process id, a name that `pyspaces run --name` gave, or a namespace file (with a slash).
It is left out where --target, --join or an option like --net-file says what to enter. Options may
stand on both sides of it, and end at the first word after it that is none, or at `--`. Without
COMMAND, on a terminal, your shell is run.
"""
_EPILOG = (
    "Exit status: the command's; 128+N when signal N ended it; 127 when it was not found,"
    " 126 when it could not be executed; 125 when pyspaces itself failed; 124 when its time was"
    " over; 2 for wrong usage."
)
_SHORT = {
    "user": "-U",
    "mount": "-m",
    "pid": "-p",
    "net": "-n",
    "uts": "-u",
    "ipc": "-i",
    "cgroup": "-C",
    "time": "-T",
}


class EnterCommand(GroupedCommand):
    """A command whose first word is its TARGET, with options on both sides of it."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Turn the first word into --target where nothing else says what to enter."""
        try:
            values, _, _ = self.make_parser(ctx).parse_args(list(args))
        except click.UsageError:
            values = {}  # said below, or where completion does not mind
        rest = values.get("command")
        if isinstance(rest, tuple):
            args = entering.with_target(args, len(rest), values)
        return super().parse_args(ctx, args)

    def heading_of(self, option: click.Option) -> str:
        """Return the heading of the option; `--user` is about old namespaces here."""
        if option in _NAMESPACES:
            return NAMESPACES
        return SETUP if option in _COMMAND else super().heading_of(option)


def _enter(command: tuple[str, ...], *, verbose: bool, debug: bool, **values: Any) -> int:
    click.get_current_context().obj["debug"] = debug
    plan = entering.plan_of(command, values)
    if values["dry_run"] or values["as_json"]:
        return show(plan, values)
    return launching.carry_out(plan, verbose=verbose)


def _complete_word(
    ctx: click.Context, param: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Complete the target where it is still missing, then the command."""
    words = ("target", "join", *entering.FILES.values())
    if any(ctx.params.get(name) for name in words):
        return complete_command(ctx, param, incomplete)
    return TargetWord().shell_complete(ctx, param, incomplete)


def _namespace_options() -> list[click.Option]:
    flags = [
        click.Option(
            [_SHORT[name], f"--{name}"], is_flag=True, help=f"enter the {name} namespace of TARGET"
        )
        for name in namespaces.NAMES
    ]
    files = [
        click.Option(
            [f"--{name}-file"],
            metavar="FILE",
            type=click.Path(),
            help=f"enter the {name} namespace behind FILE",
        )
        for name in namespaces.NAMES
    ]
    return [*flags, *files]


_TARGET = (
    click.Option(
        ["-t", "--target"], metavar="TARGET", type=TargetWord(), help="what to enter, as an option"
    ),
    click.Option(["-a", "--all"], is_flag=True, help="enter all of TARGET's (the default)"),
)
_NAMESPACES = (*_TARGET, *_namespace_options())
_COMMAND = (
    click.Option(
        ["--root/--no-root"],
        default=None,
        help="move to TARGET's root and working directory (the default with its mount namespace)",
    ),
    click.Option(
        ["--preserve-credentials"],
        is_flag=True,
        help="stay who you are, instead of becoming root of the user namespace",
    ),
    click.Option(["--env-of-target"], is_flag=True, help="start from TARGET's environment"),
    click.Option(["--join-cgroup"], is_flag=True, help="go into TARGET's cgroups"),
)
_OWN = (*_NAMESPACES, *_COMMAND)

enter = EnterCommand(
    "enter",
    help=_HELP,
    epilog=_EPILOG,
    short_help="Run a command in existing namespaces.",
    options_metavar="[TARGET] [OPTIONS] [--]",
    add_help_option=False,
    callback=_enter,
    params=[
        *_OWN,
        *options_for(
            entering.TAKEN, without_short=[word for option in _OWN for word in option.opts]
        ),
        *(option for option in general_options() if option.name != "plan_file"),
        version_option(),
        help_option(),
        click.Argument(
            ["command"],
            nargs=-1,
            metavar="COMMAND [ARG]...",
            type=click.UNPROCESSED,
            shell_complete=_complete_word,
        ),
    ],
)
