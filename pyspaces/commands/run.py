"""`pyspaces run`: run a command in new namespaces; its options for click."""

from __future__ import annotations

import os

import click

from pyspaces import settings
from pyspaces.commands import launching
from pyspaces.commands.options import (
    GroupedCommand,
    common_params,
    general_options,
    given,
    launch_options,
    used,
)
from pyspaces.commands.say import put
from pyspaces.errors import UsageFault, visible

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from click.shell_completion import CompletionItem

    from pyspaces.plan import Plan

_HELP = """Run COMMAND in new namespaces and exit with its status.

Options end at the first word that is not an option, or at `--`. Without COMMAND, your shell is
run if standard input is a terminal.
"""
EPILOG = (
    "Exit status: that of the command; 128+N if signal N ended it, 127 if it was not found, 126 if"
    " it could not be executed, 125 if pyspaces itself failed, 124 if it exceeded --timeout; 2 for"
    " usage errors."
)


def callback(plan_of: Callable[[tuple[str, ...], dict[str, Any]], Plan]) -> Callable[..., int]:
    """Return the function of a command that launches what `plan_of` makes of its values."""

    def carry_out(command: tuple[str, ...], *, verbose: bool, debug: bool, **values: Any) -> int:
        click.get_current_context().obj["debug"] = debug
        if values.get("save_profile") is not None:
            return _save(values)
        plan = plan_of(command, values)
        if not values["dry_run"] and not values["as_json"]:
            return launching.carry_out(plan, verbose=verbose)
        if not values["dry_run"]:
            raise UsageFault(["json: requires --dry-run"])
        put(_preview(plan, as_json=values["as_json"]))
        return 0

    return carry_out


def plan_of(command: tuple[str, ...], values: dict[str, Any]) -> Plan:
    """Return the plan of the options, or of --plan, which can be combined only with a COMMAND."""
    mapping = _typed(values)
    if values["plan_file"] is None:
        return launching.plan_of(command, mapping)
    if names := given(mapping):
        words = [settings.BY_NAME[name].option for name in names]
        raise UsageFault([f"plan: cannot be combined with {word}" for word in words])
    from pyspaces.plan import file as plan_file  # typing and json, 10 ms that only this needs

    plan = plan_file.read(values["plan_file"])
    return plan.replace(command=command) if command else plan


def _typed(values: dict[str, Any]) -> dict[str, Any]:
    """Return the settings; False, which would take one of a profile away, only if it was typed."""
    return {
        name: value
        for name, value in used(values, settings.BY_NAME).items()
        if value is not False or settings.BY_NAME[name].kind == settings.TOGGLE
    }


def _save(values: dict[str, Any]) -> int:
    """Write the settings of a command line to a new file, those of its profiles among them."""
    from pyspaces.settings.profiles import places, writing

    for name, option in (("plan_file", "--plan"), ("dry_run", "--dry-run")):
        if values[name]:
            raise UsageFault([f"save-profile: cannot be combined with {option}"])
    found = launching.expanded(_typed(values))
    # What is wrong with them is told now, and not when the profile is used.
    settings.plan_from({**found, "command": () if found.get("hold") else ("true",)})
    file = values["save_profile"]
    writing.save(file, found)
    word = visible(places.word_for(file))
    launching.tell(f"{visible(file)}: written; nothing was run; to use it: --profile {word}")
    return 0


def _preview(plan: Plan, *, as_json: bool) -> str:
    if as_json:
        import json  # 2 ms that only this needs

        return json.dumps(plan.to_data(), indent=2) + "\n"
    from pyspaces.launch import preview
    from pyspaces.plan import equivalent

    return preview.text(plan, equivalent.of(plan, equivalent.Caller.of_this_process()))


def complete_command(
    ctx: click.Context, param: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Complete the command from PATH, and everything after it as files."""
    from click.shell_completion import CompletionItem  # 1 ms that only a TAB key needs

    if ctx.params.get("command") or "/" in incomplete:
        return [CompletionItem(incomplete, type="file")]
    path = os.environ.get("PATH", os.defpath).split(os.pathsep)
    names = {
        name for directory in path for name in _programs(directory) if name.startswith(incomplete)
    }
    return [CompletionItem(name) for name in sorted(names)]


def _programs(directory: str) -> list[str]:
    try:
        return [
            entry.name
            for entry in os.scandir(directory or ".")
            if entry.is_file() and os.access(entry.path, os.X_OK)
        ]
    except OSError:
        return []


_EXAMPLES = (
    "pyspaces run --all -- make test                  # in namespaces of its own",
    "pyspaces run --user --throwaway -- ./install.sh  # changes are discarded",
    "pyspaces run --sandbox --timeout 1m -- ./program",
)

run = GroupedCommand(
    "run",
    help=_HELP,
    examples=_EXAMPLES,
    epilog=EPILOG,
    options_metavar="[OPTIONS] [--]",
    add_help_option=False,
    callback=callback(plan_of),
    params=[*launch_options(), *general_options(), *common_params(complete=complete_command)],
)
