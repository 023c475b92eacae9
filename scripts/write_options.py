#!/usr/bin/env python3
"""Write the README's table of options, from the options themselves; with --check, only compare."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from pyspaces.commands.run import run
from pyspaces.settings import BY_NAME, GROUPS

README = Path(__file__).parents[1] / "README.md"
BEGIN, END = "<!-- options: written by scripts/write_options.py -->\n", "<!-- end of options -->\n"


def table() -> str:
    """Return the options of `pyspaces run` as tables, one for each heading of --help."""
    options = [param for param in run.params if isinstance(param, click.Option)]
    groups: dict[str, list[click.Option]] = {group: [] for group in (*GROUPS, "General")}
    for option in options:
        setting = BY_NAME.get(option.name or "")
        groups[setting.group if setting else "General"].append(option)
    return "\n".join(
        f"**{group}**\n\n| option | meaning |\n| --- | --- |\n" + "".join(map(_row, rows))
        for group, rows in groups.items()
        if rows
    )


def _row(option: click.Option) -> str:
    names = sorted([*option.opts, *option.secondary_opts], key=lambda name: name.startswith("--"))
    metavar = "" if option.is_flag or not option.metavar else f" {option.metavar}"
    shown = ", ".join(f"`{name}`" for name in [*names[:-1], names[-1] + metavar])
    help_ = (option.help or "").replace("|", "\\|")
    return f"| {shown.replace('|', chr(92) + '|')} | {help_} |\n"


def written(text: str) -> str:
    """Return the README with the table put in its place."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise SystemExit(f"{README}: the marks of the table are missing")
    return f"{before}{BEGIN}\n{table()}\n{END}{after}"


def main() -> None:
    """Write the table, or say whether it is up to date."""
    text = README.read_text()
    new = written(text)
    if "--check" in sys.argv[1:]:
        if new != text:
            raise SystemExit("README.md: the table of options is old: run scripts/write_options.py")
    else:
        README.write_text(new)


if __name__ == "__main__":
    main()
