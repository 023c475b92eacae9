"""`pyspaces enter`: a command in existing namespaces."""

from __future__ import annotations

import click

from pyspaces import settings
from pyspaces.commands.help import help_option, version_option
from pyspaces.commands.options import GroupedCommand, general_options, options_for
from pyspaces.commands.run import complete_command, default_command, in_foreground, show
from pyspaces.commands.targets import TargetWord
from pyspaces.errors import UsageFault
from pyspaces.features.existing.values import Join, Joining, joins_from
from pyspaces.host import targets
from pyspaces.kernel import namespaces
from pyspaces.settings import EXISTING, IDENTITY, MOUNTS, NAMESPACES, SETUP

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from click.shell_completion import CompletionItem

    from pyspaces.host.targets import Target

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
# What says how new namespaces are made; of the rest, a command in old ones takes everything.
_ABOUT_NEW_ONES = (NAMESPACES, EXISTING, IDENTITY, SETUP, MOUNTS)
_TAKEN_ALL_THE_SAME = ("join", "workdir", "setuid", "setgid", "groups", "keep_caps")
# What makes a process 1 has no say in a pid namespace that has one; and --pid-file is the file of
# a namespace here, like the seven others: the status record has the pid.
_NOT_TAKEN = ("init", "init_wait", "pid_file")
_TAKEN = frozenset(
    setting.name
    for setting in settings.SETTINGS
    if (setting.group not in _ABOUT_NEW_ONES and setting.name not in _NOT_TAKEN)
    or setting.name in _TAKEN_ALL_THE_SAME
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
        # An option that was not given is not there, or, in newer clicks, an object that says so.
        given = [name for name, value in values.items() if value and isinstance(value, str | list)]
        if (
            isinstance(rest, tuple)
            and rest
            and not {"target", "join", *_FILES.values()}.intersection(given)
        ):
            before = args[: len(args) - len(rest)]
            if before[-1:] != ["--"]:
                args = [*before, "--target", rest[0], *rest[1:]]
        return super().parse_args(ctx, args)

    def heading_of(self, option: click.Option) -> str:
        """Return the heading of the option; `--user` is about old namespaces here."""
        if option in _NAMESPACES:
            return NAMESPACES
        return SETUP if option in _COMMAND else super().heading_of(option)


_FILES = {name: f"{name}_file" for name in namespaces.NAMES}


def _enter(command: tuple[str, ...], *, verbose: bool, debug: bool, **values: Any) -> int:
    click.get_current_context().obj["debug"] = debug
    target = targets.find(values["target"]) if values["target"] is not None else None
    joining = _joining(target, values)
    plan = settings.plan_from(
        {
            **{name: values[name] for name in settings.BY_NAME if name in _TAKEN},
            "join": [str(join) for join in joining.joins],
            "command": command or default_command(),
            # What is set-user-ID in there belongs to the target, whose rules hold.
            "allow_new_privs": True,
        }
    )
    plan = plan.replace(existing=plan.existing.replace(joining=joining))
    plan.check()
    if values["dry_run"] or values["as_json"]:
        return show(plan, values)
    return in_foreground(plan, verbose=verbose)


def _joining(target: Target | None, values: dict[str, Any]) -> Joining:
    """Return which namespaces to join. Raises UsageFault where that is not said, or twice."""
    faults: list[str] = []
    named = list(joins_from(values["join"], faults))
    named.extend(
        Join(namespace=name, path=_as_path(values[option]))
        for name, option in _FILES.items()
        if values[option] is not None
    )
    flags = [name for name in namespaces.NAMES if values[name]]
    if target is None and (flags or values["all"]):
        faults.append("no target given for these namespaces")
    if target is None and not named and not faults:
        faults.append("no target given: give a process id, a name or a namespace file")
    if faults:
        raise UsageFault(faults)
    if target is None:
        for option in ("root", "join_cgroup", "env_of_target"):
            if values[option]:
                _process(option, target)
        return Joining(joins=tuple(named), keep_ids=values["preserve_credentials"])
    theirs: tuple[Join, ...] = ()
    if flags or values["all"] or not named:
        others = {join.namespace for join in named}
        chosen = target.joins(() if values["all"] else flags)
        theirs = tuple(join for join in chosen if join.namespace not in others or flags)
    entered = any(join.namespace == "mount" and join.pid for join in theirs)
    root = entered if values["root"] is None else values["root"]
    wanted = {"root": root, **{name: values[name] for name in ("join_cgroup", "env_of_target")}}
    for option, used in wanted.items():
        if used:
            _process(option, target)
    return target.joining(
        (*theirs, *named),
        root=root,
        cgroup=values["join_cgroup"],
        environment=values["env_of_target"],
        keep_ids=values["preserve_credentials"],
    )


def _process(option: str, target: Target | None) -> None:
    """Refuse an option that is about a process where the target is none."""
    if target is None or not target.pid:
        raise UsageFault([f"{option.replace('_', '-')}: needs a target that is a process"])


def _as_path(text: str) -> str:
    """Return a path that cannot be taken for a process id."""
    return f"./{text}" if text.isdecimal() else text


def _complete_word(
    ctx: click.Context, param: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Complete the target where it is still missing, then the command."""
    words = ("target", "join", *_FILES.values())
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
        *options_for(_TAKEN, without_short=[word for option in _OWN for word in option.opts]),
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
