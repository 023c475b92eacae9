"""`pyspaces enter`: run a command in existing namespaces; its options for click."""

from __future__ import annotations

import click

from pyspaces.commands import entering
from pyspaces.commands.options import (
    GroupedCommand,
    common_params,
    general_options,
    options_for,
    rewritten,
)
from pyspaces.commands.run import EPILOG, callback, complete_command
from pyspaces.commands.targets import complete_target
from pyspaces.feature import NAMESPACES, SETUP
from pyspaces.kernel import namespaces

TYPE_CHECKING = False
if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

_HELP = """Run COMMAND in namespaces of TARGET and exit with its status.

TARGET is a process ID, a name registered with `pyspaces run --name`, or a namespace file (with a
slash). It is omitted with --target, --join or an option such as --net-file. Options may be given
before and after it, and end at the next word that is not an option, or at `--`. Without COMMAND,
your shell is run if standard input is a terminal.
"""
_SHORT = dict(zip(namespaces.NAMES, ("-U", "-m", "-p", "-n", "-u", "-i", "-C", "-T"), strict=True))


class EnterCommand(GroupedCommand):
    """A command whose first word is its TARGET, with options before and after it."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Turn the first word into --target if no option says what to enter."""
        args = rewritten(ctx, args)
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


def _complete_word(
    ctx: click.Context, param: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Complete the target if it is still missing, else the command."""
    words = ("target", "join", *entering.FILES.values())
    if any(ctx.params.get(name) for name in words):
        return complete_command(ctx, param, incomplete)
    return complete_target(ctx, param, incomplete)


_TARGET = (
    click.Option(
        ["-t", "--target"],
        metavar="TARGET",
        shell_complete=complete_target,
        help="specify TARGET as an option",
    ),
    click.Option(["-a", "--all"], is_flag=True, help="enter all namespaces of TARGET (default)"),
)
_NAMESPACES = (
    *_TARGET,
    *(
        click.Option(
            [_SHORT[name], f"--{name}"], is_flag=True, help=f"enter the {name} namespace of TARGET"
        )
        for name in namespaces.NAMES
    ),
    *(
        click.Option(
            [f"--{name}-file"],
            metavar="FILE",
            type=click.Path(),
            help=f"enter the {name} namespace that FILE refers to",
        )
        for name in namespaces.NAMES
    ),
)
_COMMAND = (
    click.Option(
        ["--root/--no-root"],
        default=None,
        help="move to TARGET's root and working directory (default with its mount namespace)",
    ),
    click.Option(
        ["--preserve-credentials"],
        is_flag=True,
        help="keep the caller's user and groups; do not become root",
    ),
    click.Option(["--env-of-target"], is_flag=True, help="start with TARGET's environment"),
    click.Option(["--join-cgroup"], is_flag=True, help="move to TARGET's cgroups"),
)
_OWN = (*_NAMESPACES, *_COMMAND)

_EXAMPLES = (
    "pyspaces enter NAME                   # a shell in the box called NAME",
    "pyspaces enter NAME -- ps -ef",
    "pyspaces enter PID --net -- ss -ltn   # in its network only",
)

enter = EnterCommand(
    "enter",
    help=_HELP,
    examples=_EXAMPLES,
    own=(*_TARGET, *_COMMAND),
    epilog=EPILOG,
    options_metavar="[TARGET] [OPTIONS] [--]",
    add_help_option=False,
    callback=callback(entering.plan_of),
    params=[
        *_OWN,
        *options_for(
            entering.taken(), without_short=[word for option in _OWN for word in option.opts]
        ),
        *(
            option
            for option in general_options()
            if option.name not in ("plan_file", "save_profile")
        ),
        *common_params(complete=_complete_word),
    ],
)
