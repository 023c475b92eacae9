#!/usr/bin/env python3
"""Write the table of options that a launch reads in place of click's, which it is made of.

With --check, only compare.
"""

from __future__ import annotations

import functools
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pyspaces import finding
from pyspaces.commands.enter import enter
from pyspaces.commands.optional import OptionalValue
from pyspaces.commands.options import general_options
from pyspaces.commands.run import run
from pyspaces.plan.features import FEATURES
from pyspaces.settings import BY_NAME, ORDERED, SETTINGS, TOGGLE, Setting

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

# How the value of an option is put among the others, by the kind of its setting.
_KINDS = {"flag": "on", "toggle": "on", "value": "one", "pairs": "many"}
_KINDS |= {"many": "many", "ordered": "ordered", "optional": "optional", "operation": "operation"}
# Launches whose modules are listed, by the setting that they are for: those of every day.
LAUNCHES = {
    "": "",
    "user": "--user",
    "net": "--net",
    "mounts": "--mount --ro-bind /usr /usr",
    "sandbox": "--sandbox",
}
# Lists the modules of a launch as they have run, and ends before there is a child.
RECORD = """
import os, sys
from importlib.machinery import PathFinder

class Recorder:
    @staticmethod
    def find_spec(name, path=None, target=None):
        spec = PathFinder.find_spec(name, path) if name.startswith("pyspaces.") else None
        if spec:
            execute, spec.loader.exec_module = spec.loader.exec_module, run
            executed[name] = execute
        return spec

def run(module):
    name = module.__name__
    executed[name](module)
    done.append(name.partition(".")[2] + "/" * hasattr(module, "__path__"))
    if name == "pyspaces.commands.fast":
        module.modules_for = lambda values: ""
    if name == "pyspaces.kernel.spawn":
        module.spawn = stop

def stop(*arguments, **more):
    print(*done, flush=True)
    os._exit(0)

done, executed = [], {}
sys.path.insert(0, sys.argv.pop(1))
sys.meta_path.insert(0, Recorder)
from pyspaces import cli
cli.run()
"""
TABLE = Path(__file__).parents[1] / "pyspaces" / "settings" / "_table.py"
HEAD = '''\
"""What a launch needs of settings and options; scripts/write_table.py writes it.

SETTINGS: the kind of each setting, the features that read it, the namespaces that are created with
it, and how many values its option takes. OPTIONS, for commands/fast.py, are those of `run`: the
key, the number of values, and whether that is one, many, or turns something on or off. ENTER lists
the options of `enter`; OF_ENTER has those that are not the same for `run`. Click reads all others.
MODULES: what a launch loads before it creates the child, in the form that
`finding.load` takes; beneath the name of a setting, what comes with that.
"""

from __future__ import annotations
'''


def table() -> str:
    """Return the text of the module, without MODULES."""
    settings = "".join(map(_setting, SETTINGS))
    options = "".join([line for row in SETTINGS for line in _read_as(row)])
    of_run, of_enter = _options(run), _options(enter)
    own = [
        f'    "{word}": ("{row[0]}", {row[1]}, "{row[2]}"),\n'
        for word, row in of_enter.items()
        if of_run.get(word) != row
    ]
    return (
        f"{HEAD}\nSETTINGS = {{\n{settings}}}\n"
        f"\nOPTIONS = {{\n{options}}}\n"
        f"\nENTER = (\n{_words(of_enter)})\nOF_ENTER = {{\n{''.join(own)}}}\n"
    )


def _modules() -> Iterator[str]:
    """Yield a row for each of `LAUNCHES`: its modules, without those of every launch."""
    early = f"{finding.FIRST} {finding.OF_LAUNCH}".split()
    known = {"finding", *early}
    for name, options in LAUNCHES.items():
        words = f"run {options} -- true".split()
        root = str(TABLE.parents[2])
        order = subprocess.run(
            [sys.executable, "-I", "-c", RECORD, root, *words],
            stdout=subprocess.PIPE,
            check=True,
            text=True,
        ).stdout.split()
        if [word for word in order if word in early] != early:
            raise SystemExit(f"finding.FIRST, finding.OF_LAUNCH: not the order of {order}")
        # The filters that are ready depend on the processor.
        found = [word for word in order if word not in known and "._ready" not in word]
        if not name:
            known |= {*found}
        lines = _words(found, 8)
        text = f"(\n{lines}    )" if lines.count("\n") > 1 else lines.strip()
        yield f'    "{name}": {text},\n'


def _words(words: Iterable[str], indent: int = 4) -> str:
    """Return words as one text, in lines."""
    lines = textwrap.wrap(" ".join(words), 94 - indent, break_on_hyphens=False)
    return "".join(f'{" " * indent}"{line} "\n' for line in lines)


def _setting(row: Setting) -> str:
    readers = [
        feature.name for feature in FEATURES if row in feature.settings or row.name in feature.also
    ]
    words = f'"{row.kind}", "{" ".join(readers)}", "{" ".join(row.implies)}"'
    return f'    "{row.name}": ({words}, {_counts()[row.name]}),\n'


def _read_as(row: Setting) -> Iterator[str]:
    """Yield a row for each word of an option of `run`."""
    count = _counts()[row.name]
    for word in filter(None, (row.option, row.short)):
        yield f'    "{word}": ("{row.name}", {count}, "{_KINDS[row.kind]}"),\n'
    if row.kind == TOGGLE:
        yield f'    "--no-{row.option[2:]}": ("{row.name}", {count}, "off"),\n'


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
    checks = "--check" in sys.argv[1:]
    if not checks:  # first, since the launches that are recorded read it
        TABLE.write_text(f"{text}\nMODULES: dict[str, str] = {{}}\n")
    text += f"\nMODULES = {{\n{''.join(_modules())}}}\n"
    if not checks:
        TABLE.write_text(text)
    elif TABLE.read_text() != text:
        raise SystemExit(f"{TABLE}: out of date: run scripts/write_table.py")


if __name__ == "__main__":
    main()
