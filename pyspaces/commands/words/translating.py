"""A whole command line of another tool, whichever it is, in our words."""

from __future__ import annotations

import os

from pyspaces.commands.words import bwrap, ids, lsns, nsenter, podman, unshare
from pyspaces.commands.words.table import Caller, Translation
from pyspaces.errors import UsageFault

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

# The tools that another program can be run as, and all that can be translated.
CALLED = {
    bwrap.NAME: bwrap.translate,
    unshare.NAME: unshare.translate,
    nsenter.NAME: nsenter.translate,
    lsns.NAME: lsns.translate,
}
TABLES = {tool.NAME: tool.TABLE for tool in (bwrap, unshare, nsenter, lsns)}
_ENGINES = ("podman", "docker")
TOOLS = (*CALLED, *_ENGINES)


def this_caller() -> Caller:
    """Describe this process."""
    return Caller(
        uid=os.geteuid(), gid=os.getegid(), subordinate=ids.subordinate, exists=os.path.lexists
    )


def of(words: Sequence[str], caller: Caller) -> Translation:
    """Translate a command line, which begins with the name or path of a tool.

    Raises UsageFault for another program, and for what the tool itself would refuse.
    """
    name = words[0].rpartition("/")[2] if words else ""
    behind = list(words[1:])
    if name in CALLED:
        return CALLED[name](behind, caller)
    if name in _ENGINES:
        if behind[:1] == ["container"]:
            del behind[0]
        if behind[:1] != ["run"]:
            what = f"{name} {behind[0]}" if behind else name
            raise UsageFault([f"{what}: only `{name} run` can be translated"])
        return podman.translate(behind[1:], caller)
    what = f"{words[0]!r} is not a tool whose words are known" if words else "no command line given"
    raise UsageFault([what], hint=f"give a command line of {', '.join(TOOLS)}")


def refusal(tool: str, translation: Translation) -> UsageFault:
    """Return the error for a line that cannot be run since some of it has no counterpart."""
    return UsageFault([f"{tool}: {text}" for text in translation.missing])
