#!/usr/bin/env python3
"""Write the table of options that a launch reads in place of click's, which it is made of.

With --check, only compare.
"""

from __future__ import annotations

import sys
import textwrap
from pathlib import Path

import click

from pyspaces.commands.enter import enter
from pyspaces.commands.options import general_options
from pyspaces.commands.run import run
from pyspaces.plan.features import FEATURES
from pyspaces.settings import BY_NAME, ORDERED, SETTINGS, Setting

TABLE = Path(__file__).parents[1] / "pyspaces" / "settings" / "_table.py"
HEAD = '''\
"""What a launch needs of settings and options; scripts/write_table.py writes it.

SETTINGS: of each setting its kind, the features that read it, and the namespaces that are created
with it. RUN, for commands/fast.py: of each option of `run` its name as a key, how many values it
takes, and its kind: a flag that turns something on or off, one value, many, or ordered among
others. ENTER: the options of `enter`; those that `run` has not, or another way, are in OF_ENTER.
What is not there is left to click.
"""

from __future__ import annotations
'''


def table() -> str:
    """Return the text of the module."""
    settings = "".join(map(_setting, SETTINGS))
    of_run, of_enter = _options(run), _options(enter)
    own = [row for row in of_enter if row not in of_run]
    return (
        f"{HEAD}\nSETTINGS = {{\n{settings}}}\n\nRUN = {{\n{''.join(of_run)}}}\n"
        f"\nENTER = (\n{_words(of_enter)})\nOF_ENTER = {{\n{''.join(own)}}}\n"
    )


def _words(rows: list[str]) -> str:
    """Return the options of a command as one text, in lines."""
    text = " ".join(row.split('"')[1] for row in rows)
    return "".join(f'    "{line} "\n' for line in textwrap.wrap(text, 90, break_on_hyphens=False))


def _setting(row: Setting) -> str:
    readers = [
        feature.name for feature in FEATURES if row in feature.settings or row.name in feature.also
    ]
    return f'    "{row.name}": ("{row.kind}", "{" ".join(readers)}", "{" ".join(row.implies)}"),\n'


def _options(command: click.Command) -> list[str]:
    return [line for option in _taken(command) for line in _lines(option)]


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
