#!/usr/bin/env python3
"""Write what docs/reference has from the options themselves; --check only compares.

The tables of options.md, and settings.md as a whole.
"""

from __future__ import annotations

import sys
from pathlib import Path

import click

from pyspaces import cli, settings
from pyspaces.commands.optional import OptionalValue
from pyspaces.commands.run import run
from pyspaces.kernel import namespaces
from pyspaces.library import space
from pyspaces.settings import BY_NAME, GROUPS

REFERENCE = Path(__file__).parents[1] / "docs" / "reference"
OPTIONS = REFERENCE / "options.md"
HEAD = "| {} | meaning |\n| --- | --- |\n"
END = "<!-- end of options -->\n"


def begin(command: str) -> str:
    """Return the line before the table of a command."""
    of = "" if command == "run" else f" of {command}"
    return f"<!-- options{of}: written by scripts/write_options.py -->\n"


def run_tables() -> str:
    """Return the options of `pyspaces run` as tables, one for each heading of --help."""
    groups: dict[str, list[click.Option]] = {group: [] for group in (*GROUPS, "General")}
    for option in _options(run):
        setting = BY_NAME.get(option.name or "")
        groups[setting.group if setting else "General"].append(option)
    return "\n".join(
        f"**{group}**\n\n{HEAD.format('option')}" + "".join(map(_row, rows))
        for group, rows in groups.items()
        if rows
    )


def table(name: str) -> str:
    """Return the options of another command; those of `pyspaces run` share the last row."""
    command = cli.group.get_command(click.Context(cli.group), name)
    assert command is not None
    known = {_row(option) for option in _options(run)}
    shared = [option for option in _options(command) if _row(option) in known]
    if len(shared) == 1:
        shared = []
    # `check` takes the options of a launch from `run` as a whole.
    names = [_shown(option) for option in shared if name != "check" or option.name not in BY_NAME]
    rows = _merged([option for option in _options(command) if option not in shared])
    if names:
        rows += f"| {', '.join(names)} | as with `pyspaces run` |\n"
    return HEAD.format(f"option of `pyspaces {name}`") + rows


def _merged(options: list[click.Option]) -> str:
    """Return the rows; options that differ only in the type of namespace share one."""
    rows: dict[str, list[click.Option]] = {}
    for option in options:
        text = option.help or ""
        for name in namespaces.NAMES:
            text = text.replace(f"the {name} namespace", "the namespace")
        rows.setdefault(text, []).append(option)
    return "".join(
        f"| {', '.join(map(_shown, found))} | {_escaped(text)} |\n" for text, found in rows.items()
    )


def _options(command: click.Command) -> list[click.Option]:
    """Return the options of a command; of one that has subcommands, those of all, each once."""
    if not isinstance(command, click.Group):
        params = [param for param in command.params if isinstance(param, click.Option)]
        return [param for param in params if not param.hidden]
    found = [option for one in command.commands.values() for option in _options(one)]
    return [option for at, option in enumerate(found) if option.name not in _names(found[:at])]


def _names(options: list[click.Option]) -> set[str | None]:
    return {option.name for option in options}


def _shown(option: click.Option) -> str:
    names = sorted([*option.opts, *option.secondary_opts], key=lambda name: name.startswith("--"))
    metavar = "" if option.is_flag or not option.metavar else f" {option.metavar}"
    if isinstance(option, OptionalValue):
        metavar = f"[={option.metavar}]"
    shown = ", ".join(f"`{name}`" for name in [*names[:-1], names[-1] + metavar])
    return _escaped(shown)


def _row(option: click.Option) -> str:
    return f"| {_shown(option)} | {_escaped(option.help or '')} |\n"


def _escaped(text: str) -> str:
    return text.replace("|", "\\|")


def written(text: str) -> str:
    """Return options.md with the tables put in their places."""
    for name in cli.COMMANDS:
        before, found, rest = text.partition(begin(name))
        _, end, after = rest.partition(END)
        if not (found and end):
            raise SystemExit(f"{OPTIONS}: no marks for the table of options of {name}")
        text = f"{before}{found}\n{run_tables() if name == 'run' else table(name)}\n{END}{after}"
    return text


VALUES = {
    settings.FLAG: "`True`",
    settings.TOGGLE: "`True` or `False`",
    settings.VALUE: "a text",
    settings.OPTIONAL: "`True` or a text",
    settings.OPERATION: "`True`",
    settings.MANY: "a list of texts",
    settings.PAIRS: "a list of pairs of texts",
}
SETTINGS_HEAD = """<!-- Written by scripts/write_options.py. -->

# Settings

The keys of `settings.plan_from`, and the keywords of the library: each is an option of
`pyspaces run` with underscores for dashes. What the option means is
[its row in the options](options.md), and the value has its form.

A `Container` takes them as keywords, too, except for those with a reason in the last column. `run`,
`Popen` and `Sandbox` take a command's; `pydoc pyspaces.run` lists them. Maps, lists and paths can
be Python values there, such as `uid_map=[1000, 1001]`: see
[Python functions](../howto/functions.md).

The order of operations on mounts matters, so they are one list, `mounts`, of lists of words such as
`["ro-bind", "/usr", "/usr"]`, after the names of the options. `host_ro`, `throwaway` and
`read_only` are keywords, too.
"""


def settings_page() -> str:
    """Return settings.md: each setting with its value, and why a function cannot have it."""
    parts = [SETTINGS_HEAD]
    for group in GROUPS:
        rows = [
            row
            for row in settings.SETTINGS
            if row.group == group and (row.kind != settings.ORDERED or row.name in space.SETS)
        ]
        cells = [
            f"| `{row.name}` | {VALUES.get(row.kind, '`True`')} |"
            f" {_escaped(space.REFUSED.get(row.name, ''))} |\n"
            for row in rows
        ]
        if cells:
            head = "| key | value | not for a `Container`: why |\n| --- | --- | --- |\n"
            parts.append(f"## {group}\n\n{head}" + "".join(cells))
    return "\n".join(parts)


def main() -> None:
    """Write the tables, or check that they are up to date."""
    pages = {OPTIONS: written(OPTIONS.read_text()), REFERENCE / "settings.md": settings_page()}
    for path, new in pages.items():
        if "--check" not in sys.argv[1:]:
            path.write_text(new)
        elif not path.exists() or path.read_text() != new:
            raise SystemExit(f"{path.name} is outdated: run scripts/write_options.py")


if __name__ == "__main__":
    main()
