"""The settings of a launch in the docstrings of what takes them as keywords, for help() and pydoc.

Runs in the parent, when a module is imported: the texts are those of the options.
"""

from __future__ import annotations

import textwrap

from pyspaces import settings
from pyspaces.library import space
from pyspaces.settings import FLAG, TOGGLE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection
    from typing import TypeVar

    from pyspaces.feature import Setting

    T = TypeVar("T")

_WIDTH = 96


def with_settings(target: T, *, refused: Collection[str], more: Collection[str] = ()) -> T:
    """Add the settings, by groups, to the docstring of a function or class, and return it.

    refused: settings that it does not take. more: settings that it takes beyond `space.TAKEN`.
    """
    if target.__doc__ is None:  # python -OO
        return target
    groups: dict[str, list[str]] = {}
    aliases = set(space.ALIASES)
    for row in settings.SETTINGS:
        names = [
            key for key, name in space.TAKEN.items() if name == row.name and key not in aliases
        ]
        names += [row.name] if row.name in more else []
        for name in names:
            if name not in refused:
                groups.setdefault(row.group, []).append(_line(name, row))
    groups.setdefault("Mounts", []).append(
        _wrapped(
            "mounts: operations in their order, such as [['tmpfs', '/tmp'], ['bind', '.', '/mnt']]"
        )
    )
    lines = [f"    {group}:\n" + "\n".join(rows) for group, rows in groups.items()]
    text = "\n\n".join(["    The settings, by groups:", *lines])
    target.__doc__ = f"{target.__doc__.rstrip()}\n\n{text}\n    "
    return target


def _line(name: str, row: Setting) -> str:
    kind = "" if row.kind in (FLAG, TOGGLE) or not row.metavar else f" ({row.metavar})"
    return _wrapped(f"{name}{kind}: {space.with_keywords(row.help)}")


def _wrapped(text: str) -> str:
    return textwrap.fill(
        text,
        _WIDTH,
        initial_indent="        ",
        subsequent_indent="            ",
        break_on_hyphens=False,
        break_long_words=False,
    )
