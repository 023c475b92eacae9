#!/usr/bin/env python3
"""Write the table of options that a launch reads in place of click's, which it is made of.

With --check, only compare.
"""

from __future__ import annotations

import sys
from pathlib import Path

import click

from pyspaces.commands.enter import enter
from pyspaces.commands.options import general_options
from pyspaces.commands.run import run
from pyspaces.settings import BY_NAME, ORDERED

TABLE = Path(__file__).parents[1] / "pyspaces" / "settings" / "_table.py"
HEAD = '''\
"""The options of `run` and `enter` for commands/fast.py; scripts/write_table.py writes them.

Of each: its name as a key, how many values it takes, and its kind: a flag that turns something on
or off, one value, many, or ordered among others. What is not here is left to click.
"""

from __future__ import annotations
'''


def table() -> str:
    """Return the text of the module."""
    return HEAD + "".join(map(_options, (run, enter)))


def _options(command: click.Command) -> str:
    lines = [line for option in _taken(command) for line in _lines(option)]
    return f"\n{str(command.name).upper()} = {{\n{''.join(lines)}}}\n"


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


def _lines(option: click.Option) -> list[str]:
    assert option.name
    setting = BY_NAME.get(option.name)
    kind, count = "many" if option.multiple else "one", option.nargs
    if option.is_flag or option.count:
        kind, count = "on", 0
    if option.count or (option.multiple and setting and setting.kind == ORDERED):
        kind = "ordered"
    return [
        *(_line(word, option.name, count, kind) for word in option.opts),
        *(_line(word, option.name, count, "off") for word in option.secondary_opts),
    ]


def _line(word: str, name: str, count: int, kind: str) -> str:
    return f'    "{word}": ("{name}", {count}, "{kind}"),\n'


def main() -> None:
    """Write the table, or say whether it is up to date."""
    text = table()
    if "--check" not in sys.argv[1:]:
        TABLE.write_text(text)
    elif TABLE.read_text() != text:
        raise SystemExit(f"{TABLE}: out of date: run scripts/write_table.py")


if __name__ == "__main__":
    main()
