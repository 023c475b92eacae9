"""`pyspaces check`: check what this host allows, or whether a launch would work here."""

from __future__ import annotations

import sys

import click

from pyspaces import settings
from pyspaces.commands import colours
from pyspaces.commands.optional import complete_words
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
from pyspaces.launch import signals
from pyspaces.settings import nearest
from pyspaces.visible import visible, visible_lines

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from pyspaces.host.check import Row

VERSION = 1  # of the JSON; increased when the meaning of a member changes
_COLOURS = {host_check.YES: "green", host_check.NO: "red", host_check.DEGRADED: "yellow"}
_NARROWEST = 40
_SHOWN = 8  # of the rows that fail for one reason

_HELP = """Check whether an ordinary launch works on this host, and what does not work.

Each feature is tried. The first line is a verdict on `pyspaces run --all`. What follows is only
what does not work, causes before effects, with the remedy for this host, container or CI service.

With options of `pyspaces run` or a COMMAND, check whether that launch would work here: carry it
out in a child process, without running the command. Alone, --all prints a row for each feature.
"""
_EPILOG = (
    "Exit status: 0; 1 if an ordinary launch, the launch that was given, or a row of --require does"
    " not work here; 2 for usage errors."
)


def _check(command: tuple[str, ...], *, as_json: bool, debug: bool, **values: Any) -> int:
    click.get_current_context().obj["debug"] = debug
    signals.notice_ends()
    names = given([name for name in values if name in settings.BY_NAME or name == "plan_file"])
    every = names == ["all"] and not command and not as_json
    facts = host_check.facts()
    if required := values.pop("require"):
        rows = host_check.examine(_known(required, names, command))
        works = all(row.answer == host_check.YES for row in rows)
        put(_as_json(facts, None, rows) if as_json else _as_text([], rows))
    elif (names or command) and not every:
        rows = [_launch_row(command, values)]
        works = rows[0].answer == host_check.YES
        put(_as_json(facts, works, rows) if as_json else _as_text([], rows))
    else:
        verdict, rows = host_check.ordinary(), host_check.examine()
        works = verdict.answer == host_check.YES
        if as_json:
            put(_as_json(facts, None, rows, verdict))
        elif every:
            put(_as_text([_first_line(verdict), _host_line(facts)], rows))
        else:
            put(_as_text([_first_line(verdict), _host_line(facts)], *_in_short(rows, facts)))
    return 0 if works else 1


def _known(required: tuple[str, ...], names: list[str], command: tuple[str, ...]) -> list[str]:
    """Return the rows that are required. Raises UsageFault for unknown ones, or with a launch."""
    if names or command:
        raise UsageFault(["--require: cannot be combined with a launch"])
    faults, hint = [], None
    for name in required:
        if name not in host_check.NAMES:
            near = nearest.words(name, host_check.NAMES)
            faults.append(f"--require: {name!r} is not a row")
            hint = f"did you mean {near[0]}?" if near else "`pyspaces check --all` prints them all"
    if faults:
        raise UsageFault(faults, hint=hint)
    return list(dict.fromkeys(required))


def _in_short(
    rows: Sequence[Row], facts: dict[str, Any]
) -> tuple[list[Row], dict[str, tuple[str, ...]], str]:
    """Return what does not work: the rows, what else each prevents, and a last line."""
    found = host_check.troubles(rows, facts)
    shown = [trouble.row for trouble in found]
    last = f"`pyspaces check --all` prints a row for each of {len(rows)} features"
    return shown, {trouble.row.name: trouble.prevents for trouble in found}, last


def _launch_row(command: tuple[str, ...], values: dict[str, Any]) -> Row:
    from_plan = values["plan_file"] is not None
    try:
        plan = plan_of(command or (() if from_plan or values["hold"] else ("true",)), values)
        return host_check.launchable(plan, command=bool(command) or from_plan)
    except UsageFault:
        raise
    except SpaceError as error:  # such as missing subordinate ids
        return host_check.of_trial(error).replace(name="launch")


def _as_json(
    facts: dict[str, Any], works: bool | None, rows: Sequence[Row], verdict: Row | None = None
) -> str:
    import json  # 2 ms that only this needs

    data = {
        "version": VERSION,
        "host": facts,
        "launch": works,
        "verdict": verdict.to_data() if verdict else None,
        "rows": [row.to_data() for row in rows],
    }
    return json.dumps(data, indent=2) + "\n"


def _as_text(
    head: Sequence[str],
    rows: Sequence[Row],
    prevents: Mapping[str, Sequence[str]] | None = None,
    last: str = "",
) -> str:
    names = max((len(row.name) for row in rows), default=0)
    indent = names + max(map(len, _COLOURS)) + 2
    room = max((terminal_width() or sys.maxsize) - indent, _NARROWEST)
    lines = list(head)
    for row in rows:
        first, *rest = _wrapped(row.evidence, room)
        answer = row.answer.ljust(max(map(len, _COLOURS)))
        lines.append(f"{row.name:<{names}} {_coloured(answer, row.answer)} {first}".rstrip())
        if others := (prevents or {}).get(row.name):
            rest += _wrapped(f"for the same reason: {_shortened(others)}", room)
        if row.remedy and "\n" not in row.remedy:
            rest += _wrapped(f"remedy: {row.remedy}", room)
        lines += [" " * indent + line for line in rest]
        if row.remedy and "\n" in row.remedy:
            # To be copied: not indented, because a here-document ends at the margin.
            lines += ["", *visible_lines(row.remedy).split("\n"), ""]
    return "\n".join([*lines, *([last] if last else [])]) + "\n"


def _shortened(names: Sequence[str]) -> str:
    more = [f"and {len(names) - _SHOWN} more"] if len(names) > _SHOWN else []
    return ", ".join([*names[:_SHOWN], *more])


def _first_line(verdict: Row) -> str:
    """Return the verdict, which may be longer than a line of the terminal, as it is for grep."""
    return _coloured(visible(verdict.evidence), verdict.answer)


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
    return colours.styled(text, fg=_COLOURS[answer])


_EXAMPLES = (
    "pyspaces check                         # what does not work here, and why",
    "pyspaces check --require map-many || exit 77",
    "pyspaces check --sandbox -- make       # would this launch work?",
)
_OWN = (
    click.Option(["as_json", "--json"], is_flag=True, help="print JSON with stable keys"),
    click.Option(
        ["--require"],
        multiple=True,
        metavar="ROW",
        shell_complete=complete_words(host_check.NAMES, listed=False),
        help="fail unless the answer of ROW is yes; print nothing else; repeatable",
    ),
)

check = GroupedCommand(
    "check",
    help=_HELP,
    epilog=_EPILOG,
    examples=_EXAMPLES,
    own=_OWN,
    launch_apart=True,
    options_metavar="[OPTIONS] [--]",
    add_help_option=False,
    callback=_check,
    params=[
        *launch_options(),
        *(option for option in general_options() if option.name in ("plan_file", "args", "debug")),
        *_OWN,
        *common_params("[COMMAND [ARG]...]"),
    ],
)
