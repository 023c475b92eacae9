"""Targets on the command line of `enter` and `stop`, and their completion."""

from __future__ import annotations

import click

from pyspaces.host import targets
from pyspaces.visible import visible

TYPE_CHECKING = False
if TYPE_CHECKING:
    from click.shell_completion import CompletionItem


class TargetWord(click.ParamType):  # type: ignore[type-arg]  # generic only from click 8.4 on
    """A name, a pid or a file; whether it exists is checked when it is used."""

    name = "text"

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """Complete a name, a pid after a digit, or a file after a slash."""
        from click.shell_completion import CompletionItem  # 1 ms that only a TAB key needs

        if "/" in incomplete:
            return [CompletionItem(incomplete, type="file")]
        found = name_items(incomplete)
        if incomplete.isdecimal() or not incomplete:
            found += pid_items(incomplete)
        return found


def name_items(incomplete: str) -> list[CompletionItem]:
    """Return the registered names that begin with `incomplete`."""
    from click.shell_completion import CompletionItem

    return [CompletionItem(name) for name in targets.names() if name.startswith(incomplete)]


def pid_items(incomplete: str) -> list[CompletionItem]:
    """Return the pids of this user's processes that begin with `incomplete`, and command lines.

    Control characters are escaped: the shell's script reads a line for each field, and prints it.
    """
    from click.shell_completion import CompletionItem

    return [
        CompletionItem(str(pid), help=visible(command)[:60])
        for pid, command in targets.own_processes()
        if str(pid).startswith(incomplete)
    ]


def complete_name(
    ctx: click.Context, param: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Complete an argument that can only be a name."""
    return name_items(incomplete)


def complete_pid(
    ctx: click.Context, param: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Complete an option that takes only a pid."""
    return pid_items(incomplete)
