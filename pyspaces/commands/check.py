"""`pyspaces check`: check what this host allows, or whether a launch would work here."""

from __future__ import annotations

import os
import sys

import click

from pyspaces import settings
from pyspaces.commands.options import (
    GroupedCommand,
    common_params,
    general_options,
    given,
    launch_options,
)
from pyspaces.commands.run import plan_of
from pyspaces.commands.say import put
from pyspaces.commands.table import terminal_width
from pyspaces.errors import SpaceError, UsageFault
from pyspaces.host import check as host_check
from pyspaces.visible import visible, visible_lines

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from pyspaces.host.check import Row

VERSION = 1  # of the JSON; increased when the meaning of a member changes
_COLOURS = {host_check.YES: "green", host_check.NO: "red", host_check.DEGRADED: "yellow"}
_NARROWEST = 40

_HELP = """Check which features work on this host, by trying them.

With options of `pyspaces run` or a COMMAND, check whether that launch would work here: carry it
out in a child process, without running the command.
"""
_EPILOG = "Exit status: 0; 1 if the launch would not work here; 2 for usage errors."


def _check(command: tuple[str, ...], *, as_json: bool, debug: bool, **values: Any) -> int:
    click.get_current_context().obj["debug"] = debug
    names = [name for name in values if name in settings.BY_NAME or name == "plan_file"]
    row = _launch_row(command, values) if command or given(names) else None
    rows = [row] if row else host_check.examine()
    facts = host_check.facts()
    works = None if row is None else row.answer == host_check.YES
    put(_as_json(facts, works, rows) if as_json else _as_text(facts, rows))
    return 1 if works is False else 0


def _launch_row(command: tuple[str, ...], values: dict[str, Any]) -> Row:
    from_plan = values["plan_file"] is not None
    try:
        plan = plan_of(command or (() if from_plan or values["hold"] else ("true",)), values)
        return host_check.launchable(plan, command=bool(command) or from_plan)
    except UsageFault:
        raise
    except SpaceError as error:  # such as missing subordinate ids
        return host_check.of_trial(error).replace(name="launch")


def _as_json(facts: dict[str, Any], works: bool | None, rows: Sequence[Row]) -> str:
    import json  # 2 ms that only this needs

    data = {
        "version": VERSION,
        "host": facts,
        "launch": works,
        "rows": [row.to_data() for row in rows],
    }
    return json.dumps(data, indent=2) + "\n"


def _as_text(facts: dict[str, Any], rows: Sequence[Row]) -> str:
    names = max(len(row.name) for row in rows)
    indent = names + max(map(len, _COLOURS)) + 2
    room = max((terminal_width() or sys.maxsize) - indent, _NARROWEST)
    lines = [_host_line(facts)] if len(rows) > 1 else []
    for row in rows:
        first, *rest = _wrapped(row.evidence, room)
        answer = row.answer.ljust(max(map(len, _COLOURS)))
        lines.append(f"{row.name:<{names}} {_coloured(answer, row.answer)} {first}".rstrip())
        lines += [" " * indent + line for line in rest]
        if row.remedy and "\n" in row.remedy:
            # To be copied: not indented, because a here-document ends at the margin.
            lines += ["", *visible_lines(row.remedy).split("\n"), ""]
        elif row.remedy:
            lines += [" " * indent + line for line in _wrapped(f"remedy: {row.remedy}", room)]
    return "\n".join(lines) + "\n"


def _host_line(facts: dict[str, Any]) -> str:
    parts = [f"Linux {facts['kernel']} {facts['machine']}", f"Python {facts['python']}"]
    parts.append(f"user {facts['uid']}")
    if facts["nested_user_namespace"]:
        parts.append("in a user namespace")
    parts += [visible(facts[name]) for name in ("container", "runner") if facts[name]]
    return ", ".join(parts)


def _wrapped(text: str, room: int) -> list[str]:
    import textwrap  # re, 8 ms that only this needs

    text = visible(text)
    if len(text) <= room:
        return [text]
    return textwrap.wrap(text, room, break_long_words=False, break_on_hyphens=False) or [""]


def _coloured(text: str, answer: str) -> str:
    """Add colour if standard output is a terminal and NO_COLOR (https://no-color.org) is unset."""
    plain = (
        not sys.stdout.isatty() or os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb"
    )
    return text if plain else click.style(text, fg=_COLOURS[answer])


check = GroupedCommand(
    "check",
    help=_HELP,
    epilog=_EPILOG,
    options_metavar="[OPTIONS] [--]",
    add_help_option=False,
    callback=_check,
    params=[
        *launch_options(),
        *(option for option in general_options() if option.name in ("plan_file", "args", "debug")),
        click.Option(["as_json", "--json"], is_flag=True, help="print JSON with stable keys"),
        *common_params("[COMMAND [ARG]...]"),
    ],
)
