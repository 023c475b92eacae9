"""click options that all commands share: --help, --version, completion, optional values.

Separate from options.py, so that commands without settings of a launch need not load those.
"""

from __future__ import annotations

import click

from pyspaces import __version__
from pyspaces.commands.say import put

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any

    from click.shell_completion import CompletionItem

    Completer = Callable[[click.Context, click.Parameter, str], list[CompletionItem] | list[str]]


def help_option() -> click.Option:
    """Return the option --help; click's own loads translations, which takes 2 ms per launch."""
    return _printing(["-h", "--help"], "show this help", click.Context.get_help)


def json_option() -> click.Option:
    """Return --json, of every command that prints what it has found."""
    return click.Option(
        ["as_json", "-J", "--json"], is_flag=True, help="print JSON with stable keys"
    )


def listing_options() -> list[click.Option]:
    """Return --json and --noheadings, of every command that prints a table."""
    return [
        json_option(),
        click.Option(["-n", "--noheadings"], is_flag=True, help="do not print column headings"),
    ]


def version_option() -> click.Option:
    """Return the option --version; click's own reads the package's metadata, in 18 ms."""
    return _printing(["--version"], "show the version", lambda ctx: f"pyspaces {__version__}")


def _printing(names: list[str], text: str, output: Callable[[click.Context], str]) -> click.Option:
    def show(ctx: click.Context, param: click.Parameter, value: object) -> None:
        if value and not ctx.resilient_parsing:
            put(output(ctx) + "\n")
            ctx.exit()

    return click.Option(
        names, is_flag=True, is_eager=True, expose_value=False, callback=show, help=text
    )


def complete_words(words: Sequence[str], *, listed: bool = True) -> Completer:
    """Return a function that completes a word. listed: the last one of a comma-separated list."""

    def complete(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
        done, comma, last = incomplete.rpartition(",") if listed else ("", "", incomplete)
        return [done + comma + word for word in words if word.startswith(last)]

    return complete


def complete_path(kind: str) -> Completer:
    """Return a function that lets the shell complete a path. kind: `file` or `dir`."""

    def complete(
        ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        from click.shell_completion import CompletionItem  # 1 ms that only a TAB key needs

        return [CompletionItem(incomplete, type=kind)]

    return complete


class OptionalValue(click.Option):
    """An option whose value may be omitted: `--tree` or `--tree=parent`.

    bare: the value if none is given. metavar: the placeholder after `=`. words: its completions,
    if they are not the choices of its type; names_of returns more of them. A value is accepted only
    after `=`, never as the next word. click's own flag_value takes any next word that does not look
    like an option, for example the first word of the command to run. A short form takes no value.
    """

    def __init__(
        self,
        names: Sequence[str],
        *,
        bare: object,
        metavar: str,
        words: Sequence[str] = (),
        names_of: Callable[[], Sequence[str]] = tuple,
        **more: Any,
    ) -> None:
        super().__init__(names, metavar=metavar, **more)
        self._bare = bare
        self._words = words or getattr(self.type, "choices", ())
        self._names_of = names_of
        self._long = [name for name in self.opts if name[:2] == "--"]
        # click's completion takes the word after an option that is neither flag nor count for
        # its value. Nothing else reads this: what else depends on it is overridden here.
        self.count = True

    def add_to_parser(self, parser: Any, ctx: click.Context) -> None:
        """Add it as an option with a value, which the parser gets even if none is given."""
        act = "append" if self.multiple else "store"
        parser.add_option(obj=self, opts=self._long, dest=self.name, action=act, nargs=1)
        if short := [name for name in self.opts if name not in self._long]:
            parser.add_option(
                obj=self, opts=short, dest=self.name, action=f"{act}_const", const=self._bare
            )
        match = parser._match_long_opt

        def match_long(name: str, value: str | None, state: Any) -> None:
            match(name, self._bare if value is None and name in self._long else value, state)

        parser._match_long_opt = match_long

    def get_help_record(self, ctx: click.Context) -> tuple[str, str]:
        """Return `--tree[=owner|parent]` and the help; the short form comes first."""
        names = sorted(self.opts, key=self._long.__contains__)
        return f"{', '.join(names)}[={self.metavar}]", self.help or ""

    def words(self) -> list[str]:
        """Return its completions: the option with each of its values, as one word each."""
        values = (*self._words, *self._names_of())
        return [f"{name}={value}" for name in self._long for value in values]


class Command(click.Command):
    """A command that completes an option with an optional value as one word."""

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Complete options; those with an optional value also with each of their values."""
        from click.shell_completion import CompletionItem  # 1 ms that only a TAB key needs

        found = super().shell_complete(ctx, incomplete)
        shown = {item.value for item in found}
        for param in self.get_params(ctx):
            if isinstance(param, OptionalValue) and shown.intersection(param.opts):
                words = (word for word in param.words() if word.startswith(incomplete))
                found.extend(CompletionItem(word, help=param.help) for word in words)
        return found


class Group(click.Group):
    """A group whose errors say what to write instead of a command that it does not have.

    others: what other programs call its commands, and what to write here.
    """

    def __init__(self, *words: Any, others: Mapping[str, str], **more: Any) -> None:
        super().__init__(*words, **more)
        self._others = others

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Return the command that the first word names. Raises NoSuchCommand with a hint."""
        name = args[0]
        if name[:1] == "-" or self.get_command(ctx, name) or ctx.resilient_parsing:
            return super().resolve_command(ctx, args)
        from pyspaces.commands import mistakes

        known = self.list_commands(ctx)
        hint = mistakes.command_hint(name, known, self._others, ctx.command_path)
        raise NoSuchCommand(f"no such command: {name}", hint, ctx)


class NoSuchCommand(click.UsageError):
    """A word that is no command, and the hint that says what to write."""

    def __init__(self, message: str, hint: str, ctx: click.Context) -> None:
        super().__init__(message, ctx)
        self.hint = hint
