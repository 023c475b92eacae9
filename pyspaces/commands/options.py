"""click options for settings, grouped in --help by the settings' headings."""

from __future__ import annotations

import click
from click.core import ParameterSource

from pyspaces import settings
from pyspaces.commands import arguments, helping
from pyspaces.commands.helping import GENERAL
from pyspaces.commands.optional import (
    Command,
    OptionalValue,
    complete_path,
    version_option,
)
from pyspaces.settings import FLAG, MANY, OPERATION, OPTIONAL, ORDERED, PAIRS, TOGGLE, Setting

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterable, Sequence
    from typing import Any

    from click.shell_completion import CompletionItem

    from pyspaces.commands.optional import Completer

_ORDER = "pyspaces.order"
_WIDEST = 110  # columns of the help


def launch_options() -> list[click.Option]:
    """Return an option for each setting of a launch."""
    return [_option(setting) for setting in settings.SETTINGS]


def options_for(names: Container[str], *, without_short: Container[str] = ()) -> list[click.Option]:
    """Return an option for each setting in `names`.

    without_short: one-letter forms that have another meaning for that command.
    """
    rows = [setting for setting in settings.SETTINGS if setting.name in names]
    return [_option(row.replace(short="") if row.short in without_short else row) for row in rows]


def general_options() -> list[click.Option]:
    """Return the options that do not describe the launch itself, such as --verbose and --plan."""
    return [
        click.Option(
            ["plan_file", "--plan"],
            metavar="FILE",
            shell_complete=complete_path("file"),
            help="run the plan in FILE, printed by --dry-run --json; - is standard input",
        ),
        click.Option(
            ["--args"],
            metavar="FD",
            expose_value=False,
            callback=_args_too_late,
            help="read options from FD, with a NUL after each word; repeatable",
        ),
        click.Option(
            ["--save-profile"],
            metavar="FILE",
            shell_complete=complete_path("file"),
            help="write these options to a new FILE as a profile, and do nothing else",
        ),
        click.Option(["--dry-run"], is_flag=True, help="print what would happen, and do nothing"),
        click.Option(
            ["as_json", "--json"], is_flag=True, help="with --dry-run, print the plan as JSON"
        ),
        click.Option(["-v", "--verbose"], is_flag=True, help="print each step"),
        click.Option(["--debug"], is_flag=True, help="show tracebacks with errors"),
    ]


def _args_too_late(ctx: click.Context, param: click.Parameter, value: object) -> None:
    """Refuse --args where nothing has put options in its place: behind an unknown one."""
    if value is not None and not ctx.resilient_parsing:
        raise click.UsageError("--args cannot be read here")


def common_params(
    metavar: str = "COMMAND [ARG]...", complete: Completer | None = None
) -> list[click.Parameter]:
    """Return the parameters of every command that reads a launch: --version, --help, COMMAND."""
    return [
        version_option(),
        *helping.help_options(),
        click.Argument(
            ["command"],
            nargs=-1,
            metavar=metavar,
            type=click.UNPROCESSED,
            shell_complete=complete,
        ),
    ]


def given(names: Iterable[str]) -> list[str]:
    """Return which of the options `names` were given to the current command."""
    ctx = click.get_current_context()
    sources = (ParameterSource.COMMANDLINE, ParameterSource.ENVIRONMENT)
    return [name for name in names if ctx.get_parameter_source(name) in sources]


def _option(setting: Setting) -> click.Option:
    names = [setting.name, setting.option, *([setting.short] if setting.short else [])]
    if setting.kind == TOGGLE:
        names[1] = f"{setting.option}/--no-{setting.option[2:]}"
    if setting.kind == FLAG:
        return click.Option(names, help=setting.help, is_flag=True)
    if setting.kind == TOGGLE:
        return click.Option(names, help=setting.help, default=None)
    if setting.kind in (OPTIONAL, OPERATION):
        return OptionalValue(
            names,
            help=setting.help,
            metavar=setting.metavar,
            bare=True,
            words=setting.words,
            names_of=_names_of(setting),
            type=click.UNPROCESSED,
            multiple=setting.kind == OPERATION,
        )
    if setting.kind == ORDERED and not setting.metavar:
        return click.Option(names, help=setting.help, count=True)
    return click.Option(
        names,
        help=setting.help,
        metavar=setting.metavar,
        multiple=setting.kind in (MANY, PAIRS, ORDERED),
        nargs=len(setting.metavar.split()) if setting.kind in (PAIRS, ORDERED) else 1,
        shell_complete=_values_of(setting),
    )


def _values_of(setting: Setting) -> Completer:
    def complete(
        ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem] | list[str]:
        from pyspaces.commands import values  # what only a TAB key needs

        if setting.directory:
            return complete_path("dir")(ctx, param, incomplete)
        find = values.completer(setting.metavar, setting.words, listed=setting.listed)
        return find(ctx, param, incomplete)

    return complete


def _names_of(setting: Setting) -> Callable[[], Sequence[str]]:
    def names() -> list[str]:
        from pyspaces.commands import values  # what only a TAB key needs

        return [*values.VALUES.get(setting.metavar, tuple)()]

    return names


class GroupedCommand(Command):
    """A command with the options of a launch, whose help has three lengths.

    Options end at the first word that is not an option: the rest is the command to run.
    examples: lines for the help. own: options that are no settings, and in every help.
    launch_apart: whether the options of a launch are in --help-all only.
    """

    allow_interspersed_args = False

    def __init__(
        self,
        *words: Any,
        examples: Sequence[str] = (),
        own: Container[click.Parameter] = (),
        launch_apart: bool = False,
        **more: Any,
    ) -> None:
        super().__init__(*words, **more)
        self.context_settings["max_content_width"] = _WIDEST
        self.examples = examples
        self.own = own
        self.launch_apart = launch_apart

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the options, those of other tools too, and make errors name the command."""
        try:
            return super().parse_args(ctx, rewritten(ctx, args))
        except click.UsageError as error:
            error.ctx = error.ctx or ctx
            raise

    def make_parser(self, ctx: click.Context) -> Any:
        """Return the parser, which stores the order of the options in `ctx.meta`."""
        parser = super().make_parser(ctx)
        parse = parser.parse_args

        def parse_args(args: list[str]) -> Any:
            values, rest, order = parse(args=args)
            # click gives each option its own values; only here is the order of different options.
            ctx.meta[_ORDER] = [param.name for param in order]
            return values, rest, order

        parser.parse_args = parse_args  # type: ignore[method-assign]
        return parser

    def format_help(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the help in the length that was asked for."""
        helping.write(self, ctx, formatter)

    def heading_of(self, option: click.Option) -> str:
        """Return the heading of an option in --help."""
        setting = settings.BY_NAME.get(option.name or "")
        return setting.group if setting else GENERAL


def rewritten(ctx: click.Context, args: list[str]) -> list[str]:
    """Return the words of a line with ours in the place of those of other tools."""
    if ctx.resilient_parsing:  # of completion, which has no errors
        return args
    from pyspaces.commands import mistakes
    from pyspaces.commands.words import aliases  # which many lines of click's do without

    words = aliases.rewritten(str(ctx.command.name), args)
    if "--" in words and ctx.command.name in arguments.COMMANDS:
        mistakes.refuse_dashes(str(ctx.command.name), words)
    return words


def used(values: dict[str, Any], names: Iterable[str]) -> dict[str, Any]:
    """Return the values of the settings `names`: a mapping for settings.plan_from.

    Options whose order matters are collected in one list, in the order in which they were given.
    """
    mapping: dict[str, Any] = {}
    left: dict[str, Any] = {}
    for name in names:
        value = values[name]
        if name in settings.BY_NAME and settings.BY_NAME[name].kind == ORDERED:
            left[name] = iter(() if isinstance(value, int) else value)
        elif name in settings.BY_NAME and settings.BY_NAME[name].kind == OPERATION:
            left[name] = iter(value)
            mapping[name] = True in value
        else:
            mapping[name] = value
    if any(values[name] for name in left):
        order = [name for name in click.get_current_context().meta[_ORDER] if name in left]
        rows = [(name, next(left[name], ())) for name in order]
        # True: --mount without a value, which is no operation.
        if mounts := [[name, *_words(value)] for name, value in rows if value is not True]:
            mapping["mounts"] = mounts
    return mapping


def _words(value: str | tuple[str, ...]) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else value
