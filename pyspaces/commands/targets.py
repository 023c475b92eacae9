"""Names on the command line, each acted upon, and targets of `enter`; their completion."""

from __future__ import annotations

import click

from pyspaces.commands.say import say
from pyspaces.errors import SpaceError
from pyspaces.host import targets
from pyspaces.visible import visible

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from click.shell_completion import CompletionItem


def for_each(names: Iterable[str], *acts: Callable[[str], object]) -> None:
    """Call each function with each name for which none has failed; raise the last error."""
    failed: SpaceError | None = None
    left = dict.fromkeys(names)
    for act in acts:
        for name in [*left]:
            try:
                act(name)
            except SpaceError as error:
                del left[name]
                if failed:
                    say(f"pyspaces: {failed}")
                failed = error
    if failed:
        raise failed


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
