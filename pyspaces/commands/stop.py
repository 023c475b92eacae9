"""`pyspaces stop`: stop commands and namespaces by name."""

from __future__ import annotations

import math
from contextlib import ExitStack
from functools import partial

import click

from pyspaces.commands.optional import help_option
from pyspaces.commands.say import say
from pyspaces.commands.targets import complete_name, for_each
from pyspaces.host import boxes
from pyspaces.host.stopping import Stopping
from pyspaces.launch.awaiting import SILENT, Awaited
from pyspaces.visible import visible

_HELP = """Stop the command or the namespaces called NAME, and wait until they have ended.

TERM is sent to the launcher of a command, which forwards it. Without a pid namespace of its own,
what was entered or left in the background continues to run, and is mentioned.
"""
_MOST = 5  # processes that are mentioned
_LONGEST = 2**31 - 1  # seconds that any wait counts to


def _checked(ctx: click.Context, param: click.Parameter, seconds: float) -> float:
    if math.isnan(seconds):  # which is in every range
        raise click.BadParameter("nan is not a number", ctx, param)
    return seconds


def _stop(names: tuple[str, ...], grace: float) -> None:
    asked: dict[str, Stopping] = {}
    with ExitStack() as opened:

        def ask(name: str) -> None:
            asked[name] = opened.enter_context(Stopping(name))

        def finish(name: str) -> None:
            _finish(name, asked[name], grace)

        # All are asked before any is awaited: the time that they are given is the same.
        for_each(names, ask, finish)


def _finish(name: str, asked: Stopping, grace: float) -> None:
    with Awaited() as awaited:
        holder = asked.finish(grace=grace, waiting=partial(_show_waiting, awaited), after=SILENT)
    # The end of process 1 ends all that is in its pid namespace.
    if "pid" not in holder.made:
        _say_left(name, boxes.inhabitants(holder.new_inodes()))


def _show_waiting(awaited: Awaited, pid: int, left: float) -> None:
    awaited.show(f"waiting for process {pid} to end; KILL is sent in {left:g} s")


def _say_left(name: str, left: list[tuple[int, str]]) -> None:
    if not left:
        return
    shown = ", ".join(f"{pid} ({visible(command[:40])})" for pid, command in left[:_MOST])
    more = f" and {len(left) - _MOST} more" if len(left) > _MOST else ""
    say(f"pyspaces: {name}: still runs in its namespaces: {shown}{more}")


stop = click.Command(
    "stop",
    help=_HELP,
    add_help_option=False,
    callback=_stop,
    params=[
        click.Option(
            ["--grace"],
            type=click.FloatRange(min=0, max=_LONGEST),
            callback=_checked,
            default=10,
            metavar="SECONDS",
            help="seconds to wait before sending KILL (10)",
        ),
        help_option(),
        click.Argument(
            ["names"], nargs=-1, required=True, metavar="NAME...", shell_complete=complete_name
        ),
    ],
)
