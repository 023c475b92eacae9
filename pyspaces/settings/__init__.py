"""The settings of a launch, and how a plain mapping of them becomes a Plan.

Runs in the parent. Must not know where the mapping came from: a command line, a profile or Python
keywords. A launch loads `plan_from` alone: SETTINGS and BY_NAME load every feature.
"""

from __future__ import annotations

from pyspaces.feature import (
    FLAG,
    GROUPS,
    MANY,
    OPERATION,
    OPTIONAL,
    ORDERED,
    PAIRS,
    TOGGLE,
    VALUE,
    Setting,
)
from pyspaces.settings.reading import plan_from

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyspaces.settings.table import BY_NAME, SETTINGS

__all__ = [
    "BY_NAME",
    "FLAG",
    "GROUPS",
    "MANY",
    "OPERATION",
    "OPTIONAL",
    "ORDERED",
    "PAIRS",
    "SETTINGS",
    "TOGGLE",
    "VALUE",
    "Setting",
    "plan_from",
]


def __getattr__(name: str) -> object:
    """Import the table of settings, and with it every feature, on first use."""
    if name not in ("BY_NAME", "SETTINGS"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from pyspaces.settings import table

    return getattr(table, name)
