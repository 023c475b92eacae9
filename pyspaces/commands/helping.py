"""The help of the commands that have the options of a launch, in three lengths.

-h: the options of every day, with as many clauses of their texts as fit in a line. --help: the
same with all of their texts and examples, in groups by what people want. --help-all: every option,
under the headings of the README and the man page.
"""

from __future__ import annotations

import click

from pyspaces import settings
from pyspaces.commands import colours, table
from pyspaces.commands.say import put
from pyspaces.feature import (
    CONFINEMENT,
    DESCRIPTORS,
    ENVIRONMENT,
    EXISTING,
    IDENTITY,
    LIFE,
    LIMITS,
    MOUNTS,
    NAMESPACES,
    NETWORK,
    RECORDS,
    SETUP,
    TERMINAL,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from contextlib import AbstractContextManager

    from pyspaces.commands.options import GroupedCommand

GENERAL = "General"
# What people want: the headings of --help, and the groups of settings under each.
WANTS = {
    "Isolate": (NAMESPACES, CONFINEMENT),
    "Files": (MOUNTS,),
    "Network": (NETWORK,),
    "Identity": (IDENTITY,),
    "Limits": (LIMITS,),
    "Life": (LIFE, TERMINAL, EXISTING, SETUP, ENVIRONMENT),
    "Output": (RECORDS, DESCRIPTORS, GENERAL),
}
# Of the options that are no settings, those of every day.
_GENERAL = ("dry_run", "verbose", "help_all")
SHORT, USUAL, WHOLE = "-h", "--help", "--help-all"
_LENGTH = "pyspaces.help"
_FIRST = 26  # the width of the first column of -h
_CLAUSE_ENDS = (";", " (")


def help_options() -> list[click.Option]:
    """Return -h, --help and --help-all."""
    return [
        _option("short_help", SHORT, "show the options of every day, a line each"),
        _option("help", USUAL, "show the options of every day, with examples"),
        _option("help_all", WHOLE, "show all options"),
    ]


def _option(name: str, word: str, text: str) -> click.Option:
    def show(ctx: click.Context, param: click.Parameter, value: object) -> None:
        if value and not ctx.resilient_parsing:
            ctx.meta[_LENGTH] = word
            put(ctx.get_help() + "\n")
            ctx.exit()

    return click.Option(
        [name, word], is_flag=True, is_eager=True, expose_value=False, callback=show, help=text
    )


def write(command: GroupedCommand, ctx: click.Context, formatter: click.HelpFormatter) -> None:
    """Write the help of a command in the length that was asked for."""
    length = ctx.meta.get(_LENGTH, WHOLE)
    command.format_usage(ctx, formatter)
    if length == SHORT:
        _write_short(command, ctx, formatter)
        return
    command.format_help_text(ctx, formatter)
    if command.examples:
        with _section(formatter, "Examples"):
            formatter.write("".join(f"  {line}\n" for line in command.examples))
    headings = settings.GROUPS if length == WHOLE else tuple(WANTS)
    sections: dict[str, list[tuple[str, str]]] = {name: [] for name in headings}
    for option, record in _records(command, ctx, everyday=length == USUAL):
        group = command.heading_of(option)
        heading = group if length == WHOLE else _want_of(group)
        sections.setdefault(heading, []).append(record)
    for heading, records in sections.items():
        if records:
            with _section(formatter, heading):
                formatter.write_dl([(_coloured(words), text) for words, text in records])
    if length == USUAL:
        formatter.write_paragraph()
        formatter.write_text(_more(ctx))
    command.format_epilog(ctx, formatter)


def _write_short(
    command: GroupedCommand, ctx: click.Context, formatter: click.HelpFormatter
) -> None:
    records = [record for _, record in _records(command, ctx, everyday=True)]
    formatter.write_paragraph()
    for words, text in records:
        gap = " " * (_FIRST - 2 - len(words)) if len(words) < _FIRST - 3 else f"\n{' ' * _FIRST}"
        line = _clauses(text, formatter.width - _FIRST)
        formatter.write(f"  {_coloured(words)}{gap}{line}\n")
    formatter.write_paragraph()
    formatter.write_text(_more(ctx))


def _clauses(text: str, width: int) -> str:
    """Return as many whole clauses of a text as fit; if none does, the text, cut."""
    ends = [at for at in range(len(text)) if text.startswith(_CLAUSE_ENDS, at)]
    fitting = [text[:at] for at in (*ends, len(text)) if at <= width]
    return fitting[-1] if fitting else table.cut(text, width)


def _more(ctx: click.Context) -> str:
    name = ctx.command_path.rpartition(" ")[2]
    return f"`{ctx.command_path} --help-all` shows all options, `pyspaces help {name}` the manual."


def _section(formatter: click.HelpFormatter, name: str) -> AbstractContextManager[None]:
    return formatter.section(colours.styled(name, bold=True))


def _coloured(words: str) -> str:
    """Return the words of an option in colour, but not its value."""
    if not colours.wanted():
        return words
    return " ".join(
        colours.styled(word, fg="cyan") if word[:1] == "-" else word for word in words.split(" ")
    )


def _want_of(group: str) -> str:
    return next((want for want, groups in WANTS.items() if group in groups), group)


def _records(
    command: GroupedCommand, ctx: click.Context, *, everyday: bool
) -> Iterable[tuple[click.Option, tuple[str, str]]]:
    for param in command.get_params(ctx):
        if not isinstance(param, click.Option) or (everyday and not _is_usual(command, param)):
            continue
        if record := param.get_help_record(ctx):
            yield param, record


def _is_usual(command: GroupedCommand, option: click.Option) -> bool:
    name = option.name or ""
    if option in command.own:
        return True
    if name in settings.BY_NAME:
        return settings.BY_NAME[name].everyday and not command.launch_apart
    return name in _GENERAL
