"""A launch as data: the record, its rules, its file, and its translation for unshare(1).

Runs in any process. Only the record is imported here; the others are loaded when they are used.
"""

from __future__ import annotations

from pyspaces.plan.plan import Plan, checked

__all__ = ["Plan", "checked"]
