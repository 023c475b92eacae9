#!/usr/bin/env python3
"""Write the table of options that a launch reads in place of click's, which it is made of.

With --check, only compare.
"""

from __future__ import annotations

import functools
import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pyspaces.commands.enter import enter
from pyspaces.commands.optional import OptionalValue
from pyspaces.commands.options import general_options
from pyspaces.commands.run import run
from pyspaces.plan.features import FEATURES
from pyspaces.settings import BY_NAME, ORDERED, SETTINGS, Setting

if TYPE_CHECKING:
    from collections.abc import Iterable

TABLE = Path(__file__).parents[1] / "pyspaces" / "settings" / "_table.py"
HEAD = '''\
"""What a launch needs of settings and options; scripts/write_table.py writes it.

SETTINGS: the kind of each setting, the features that read it, the namespaces that are created with
it, and, for commands/fast.py, how many values its option takes, and its short option. `run` has
these options. ENTER lists the options of `enter`; OF_ENTER has those that are not the same for
`run`: the key, the number of values, and whether that is one, many, or turns something on or off.
Click reads all others.
"""

from __future__ import annotations
'''


def table() -> str:
    """Return the text of the module."""
    settings = "".join(map(_setting, SETTINGS))
    of_run, of_enter = _options(run), _options(enter)
    own = [
        f'    "{word}": ("{row[0]}", {row[1]}, "{row[2]}"),\n'
        for word, row in of_enter.items()
        if of_run.get(word) != row
    ]
    return (
        f"{HEAD}\nSETTINGS = {{\n{settings}}}\n"
        f"\nENTER = (\n{_words(of_enter)})\nOF_ENTER = {{\n{''.join(own)}}}\n"
    )


def _words(options: Iterable[str]) -> str:
    """Return the options of a command as one text, in lines."""
    text = " ".join(options)
    return "".join(f'    "{line} "\n' for line in textwrap.wrap(text, 90, break_on_hyphens=False))


def _setting(row: Setting) -> str:
    readers = [
        feature.name for feature in FEATURES if row in feature.settings or row.name in feature.also
    ]
    words = f'"{row.kind}", "{" ".join(readers)}", "{" ".join(row.implies)}"'
    return f'    "{row.name}": ({words}, {_counts()[row.name]}, "{row.short}"),\n'


@functools.cache
def _counts() -> dict[str, int]:
    """Return how many values the option of each setting takes."""
    return {name: count for name, count, _ in _options(run).values()}


def _options(command: click.Command) -> dict[str, tuple[str, int, str]]:
    return {word: row for option in _taken(command) for word, row in _rows(option)}


def _taken(command: click.Command) -> list[click.Option]:
    """Return the options that say what to launch, and whose values click does not judge."""
    left = {option.name for option in general_options()}
    return [
        param
        for param in command.params
        if isinstance(param, click.Option)
        and param.expose_value
        and param.name not in left
        and not isinstance(param.type, click.Path)
    ]


def _rows(option: click.Option) -> list[tuple[str, tuple[str, int, str]]]:
    """Return each word of an option, with its name, its number of values, and its kind."""
    assert option.name
    setting = BY_NAME.get(option.name)
    kind, count = "many" if option.multiple else "one", option.nargs
    if option.is_flag or option.count:
        kind, count = "on", 0
    if isinstance(option, OptionalValue):
        kind = "operation" if option.multiple else "optional"
    elif option.count or (option.multiple and setting and setting.kind == ORDERED):
        kind = "ordered"
    return [
        *((word, (option.name, count, kind)) for word in option.opts),
        *((word, (option.name, count, "off")) for word in option.secondary_opts),
    ]


def main() -> None:
    """Write the table, or say whether it is up to date."""
    text = table()
    if "--check" not in sys.argv[1:]:
        TABLE.write_text(text)
    elif TABLE.read_text() != text:
        raise SystemExit(f"{TABLE}: out of date: run scripts/write_table.py")


if __name__ == "__main__":
    main()
