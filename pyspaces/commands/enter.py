"""`pyspaces enter`: run a command in existing namespaces."""

from __future__ import annotations

import click

from pyspaces import settings
from pyspaces.commands.help import help_option, version_option
from pyspaces.commands.options import GroupedCommand, general_options, options_for
from pyspaces.commands.run import (
    EPILOG,
    complete_command,
    default_command,
    in_foreground,
    show,
)
from pyspaces.commands.targets import TargetWord
from pyspaces.errors import UsageFault
from pyspaces.features.existing.values import Join, Joining
from pyspaces.host import targets
from pyspaces.kernel import namespaces
from pyspaces.settings import EXISTING, IDENTITY, MOUNTS, NAMESPACES, SETUP
from pyspaces.settings import joining as joining_settings

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from click.shell_completion import CompletionItem

    from pyspaces.host.targets import Target

_HELP = """Run COMMAND in namespaces of TARGET and exit with its status.

TARGET is a process ID, a name registered with `pyspaces run --name`, or a namespace file (with a
slash). It is omitted with --target, --join or an option such as --net-file. Options may be given
before and after it, and end at the next word that is not an option, or at `--`. Without COMMAND,
your shell is run if standard input is a terminal.
"""
# The options under these headings describe new namespaces; `enter` takes only some of them.
_FOR_NEW_ONES = (NAMESPACES, EXISTING, IDENTITY, SETUP, MOUNTS)
_FOR_OLD_ONES_TOO = ("join", "workdir", "setuid", "setgid", "groups", "keep_caps")
# A pid namespace that is entered has a process 1 already; and --pid-file is the file of a
# namespace here, like the seven others: the status record has the pid.
_NOT_TAKEN = ("init", "init_wait", "pid_file")
_TAKEN = frozenset(
    setting.name
    for setting in settings.SETTINGS
    if (setting.group not in _FOR_NEW_ONES and setting.name not in _NOT_TAKEN)
    or setting.name in _FOR_OLD_ONES_TOO
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
    """A command whose first word is its TARGET, with options before and after it."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Turn the first word into --target if no option says what to enter."""
        try:
            values, _, _ = self.make_parser(ctx).parse_args(list(args))
        except click.UsageError:
            values = {}  # reported below; completion ignores it
        rest = values.get("command")
        # An option that was not given is missing or, in newer clicks, a sentinel object.
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
        """Return the heading of an option; `--user` is about existing namespaces here."""
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
            # Set-user-ID programs in there belong to the target, whose rules apply.
            "allow_new_privs": True,
        }
    ).replace(joining=joining)
    plan.check()
    if values["dry_run"] or values["as_json"]:
        return show(plan, values)
    return in_foreground(plan, verbose=verbose)


def _joining(target: Target | None, values: dict[str, Any]) -> Joining:
    """Return the namespaces to join. Raises UsageFault if none are given, or one twice."""
    faults: list[str] = []
    named = list(joining_settings.joining_from(values["join"], faults).joins)
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
                _require_process(option, target)
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
            _require_process(option, target)
    return target.joining(
        (*theirs, *named),
        root=root,
        cgroup=values["join_cgroup"],
        environment=values["env_of_target"],
        keep_ids=values["preserve_credentials"],
    )


def _require_process(option: str, target: Target | None) -> None:
    """Refuse an option that requires a process as the target."""
    if target is None or not target.pid:
        raise UsageFault([f"{option.replace('_', '-')}: requires a process as the target"])


def _as_path(text: str) -> str:
    """Return a path that cannot be mistaken for a process id."""
    return f"./{text}" if text.isdecimal() else text


def _complete_word(
    ctx: click.Context, param: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Complete the target if it is missing, and then the command."""
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
