"""Every setting of a launch, once; and the way from a plain mapping of them to a Plan.

Runs in the parent. Must not know where the mapping came from: a command line, a profile or Python
keywords.
"""

from __future__ import annotations

from pyspaces.feature import (
    ENVIRONMENT,
    EXISTING,
    FLAG,
    GROUPS,
    IDENTITY,
    LIFE,
    MANY,
    MOUNTS,
    NAMESPACES,
    ORDERED,
    PAIRS,
    RECORDS,
    SETUP,
    TERMINAL,
    TOGGLE,
    VALUE,
    Setting,
)
from pyspaces.settings.reading import plan_from
from pyspaces.settings.table import BY_NAME, SETTINGS

__all__ = [
    "BY_NAME",
    "ENVIRONMENT",
    "EXISTING",
    "FLAG",
    "GROUPS",
    "IDENTITY",
    "LIFE",
    "MANY",
    "MOUNTS",
    "NAMESPACES",
    "ORDERED",
    "PAIRS",
    "RECORDS",
    "SETTINGS",
    "SETUP",
    "TERMINAL",
    "TOGGLE",
    "VALUE",
    "Setting",
    "plan_from",
]
