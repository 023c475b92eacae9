"""`pyspaces enter`: a command in existing namespaces; here its options, as click has them."""

from __future__ import annotations

import click

from pyspaces.commands import entering, launching
from pyspaces.commands.help import help_option, version_option
from pyspaces.commands.options import GroupedCommand, general_options, options_for
from pyspaces.commands.run import EPILOG, complete_command, show
from pyspaces.commands.targets import TargetWord
from pyspaces.kernel import namespaces
from pyspaces.settings import NAMESPACES, SETUP

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from click.shell_completion import CompletionItem

_HELP = """Run COMMAND in namespaces of TARGET and exit with its status.

TARGET is a process ID, a name registered with `pyspaces run --name`, or a namespace file (with a
slash). It is omitted with --target, --join or an option such as --net-file. Options may be given
before and after it, and end at the next word that is not an option, or at `--`. Without COMMAND,
your shell is run if standard input is a terminal.
"""
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
    """A command whose first word is its TARGET, with options before and after it."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Turn the first word into --target if no option says what to enter."""
        try:
            values, _, _ = self.make_parser(ctx).parse_args(list(args))
        except click.UsageError:
            values = {}  # reported below; completion ignores it
        rest = values.get("command")
        if isinstance(rest, tuple):
            args = entering.with_target(args, len(rest), values)
        return super().parse_args(ctx, args)

    def heading_of(self, option: click.Option) -> str:
        """Return the heading of an option; `--user` is about existing namespaces here."""
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
            help=f"enter the {name} namespace that FILE refers to",
        )
        for name in namespaces.NAMES
    ]
    return [*flags, *files]


_TARGET = (
    click.Option(
        ["-t", "--target"], metavar="TARGET", type=TargetWord(), help="specify TARGET as an option"
    ),
    click.Option(["-a", "--all"], is_flag=True, help="enter all namespaces of TARGET (default)"),
)
_NAMESPACES = (*_TARGET, *_namespace_options())
_COMMAND = (
    click.Option(
        ["--root/--no-root"],
        default=None,
        help="move to TARGET's root and working directory (default with its mount namespace)",
    ),
    click.Option(
        ["--preserve-credentials"],
        is_flag=True,
        help="keep the caller's user, group and supplementary groups instead of becoming root",
    ),
    click.Option(["--env-of-target"], is_flag=True, help="start with TARGET's environment"),
    click.Option(["--join-cgroup"], is_flag=True, help="move to TARGET's cgroups"),
)
_OWN = (*_NAMESPACES, *_COMMAND)

enter = EnterCommand(
    "enter",
    help=_HELP,
    epilog=EPILOG,
    short_help="Run a command in existing namespaces.",
    options_metavar="[TARGET] [OPTIONS] [--]",
    add_help_option=False,
    callback=_enter,
    params=[
        *_OWN,
        *options_for(
            entering.taken(), without_short=[word for option in _OWN for word in option.opts]
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
