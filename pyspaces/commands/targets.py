"""Targets on the command line of `enter` and `stop`, and their completion."""

from __future__ import annotations

import click

from pyspaces.host import targets
from pyspaces.visible import visible

TYPE_CHECKING = False
if TYPE_CHECKING:
    from click.shell_completion import CompletionItem


def complete_target(
    ctx: click.Context, param: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Complete a name, a pid after a digit, or a file after a slash."""
    from click.shell_completion import CompletionItem  # 1 ms that only a TAB key needs

    if "/" in incomplete:
        return [CompletionItem(incomplete, type="file")]
    found = [CompletionItem(name) for name in complete_name(ctx, param, incomplete)]
    if incomplete.isdecimal() or not incomplete:
        found += complete_pid(ctx, param, incomplete)
    return found


def complete_pid(
    ctx: click.Context, param: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Complete the pid of a process of this user, with its command line as the help.

    Control characters are escaped: the shell's script reads a line for each field, and prints it.
    """
    from click.shell_completion import CompletionItem

    return [
        CompletionItem(str(pid), help=visible(command)[:60])
        for pid, command in targets.own_processes()
        if str(pid).startswith(incomplete)
    ]


def complete_name(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """Complete a registered name."""
    return [name for name in targets.names() if name.startswith(incomplete)]
