"""From the values of a command line to a command that runs, and to its exit status.

Without click: for `run` and `enter`, whoever has read their command line, click or `fast`.
"""

from __future__ import annotations

import os
import sys

from pyspaces import launch, status
from pyspaces.errors import UsageFault, visible
from pyspaces.settings import reading

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from pyspaces.plan import Plan

# Programs that show, or signal, the processes that /proc shows.
_READERS_OF_PROC = (
    *("ps", "pstree", "top", "htop", "btop", "atop", "glances", "lsof", "fuser", "w"),
    *("pgrep", "pidof", "pidwait", "pkill", "killall", "skill", "slabtop"),
)


def plan_of(command: tuple[str, ...], mapping: Mapping[str, Any]) -> Plan:
    """Return the plan of a command line of `run`; without a command, that of the user's shell.

    mapping: as for `settings.plan_from`.
    """
    if mapping.get("profile") or mapping.get("bundle"):
        mapping = expanded(mapping)
    command = command or mapping.get("command", ())
    if not command and not mapping.get("hold"):
        command = default_command()
    if mapping.get("mounts") and _at_terminal():
        from pyspaces.commands.words import moot  # which few launches have a use for

        if text := moot.warning(mapping):
            tell(f"warning: {visible(text)}")
    plan = reading.plan_from({**mapping, "command": command})
    if (name := _reader_of_proc(plan)) and _at_terminal():
        tell(f"warning: {name} reads /proc, which shows the host's processes: add --mount-proc")
    return plan


def _reader_of_proc(plan: Plan) -> str | None:
    """Return the name of a command that looks at processes, if they are the host's.

    With --mount, a new /proc comes along, or has been refused by an option.
    """
    if not plan.has("pid") or plan.has("mount") or plan.joining() is not None:
        return None
    name = "".join(plan.command[:1]).rpartition("/")[2]
    return name if name in _READERS_OF_PROC else None


def _at_terminal() -> bool:
    return sys.stderr is not None and sys.stderr.isatty()


def expanded(mapping: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings with those of their bundle and profiles; print what is left out."""
    from pyspaces.settings import beneath

    terminal = sys.stdin is not None and sys.stdin.isatty()
    return beneath.expanded(mapping, tell, terminal=terminal)


def carry_out(plan: Plan, *, verbose: bool = False) -> int:
    """Do what a plan says, and return the exit status: wait for the command, or leave a hold."""
    if plan.holds("existing") and plan.existing.hold:
        launch.start(plan, observe=observe if verbose else None, tell=tell).close()
        return 0
    return in_foreground(plan, verbose=verbose)


def in_foreground(plan: Plan, *, verbose: bool) -> int:
    """Run the command of a plan and wait for it; return the exit status."""
    if plan.holds("life") and plan.life.in_place:
        # This process seals imports, and may have to say why it could not become the command.
        from pyspaces.commands import say  # noqa: F401
    ended = launch.run(
        plan, observe=observe if verbose else None, forget_environment=True, tell=tell
    )
    if verbose:
        tell(f"process {ended.pid} {ended.status}")
    if ended.signal is not None:
        # The signal that ended the command was sent to us too: the shell must see that its child
        # died of it, or a loop would continue after Ctrl-C.
        status.die_of(ended.signal)
    return ended.shell_code


def default_command(example: str = "run --user") -> tuple[str, ...]:
    """Return the user's shell if standard input is a terminal. Raises UsageFault otherwise.

    In a script, a missing backslash would otherwise turn the next line into a command on the host.
    example: how the command line in the hint begins.
    """
    if sys.stdin is None or not sys.stdin.isatty():
        raise UsageFault(
            ["no command given, and standard input is not a terminal"],
            hint=f"put it after the options: pyspaces {example} -- ls -l",
        )
    return (os.environ.get("SHELL") or "/bin/sh",)


def observe(text: str) -> None:
    """Print a step, for --verbose."""
    from pyspaces.commands.say import say

    say(f"pyspaces: {visible(text)}")


def tell(text: str) -> None:
    """Print a message that is not an error, of one line or more."""
    from pyspaces.commands.say import say

    say(f"pyspaces: {text}")
