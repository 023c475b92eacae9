"""Escape text of others before a terminal shows it.

Pure; runs in any process. The functions are in `errors`, which every launch has loaded.
"""

from __future__ import annotations

from pyspaces.errors import visible, visible_lines

__all__ = ["visible", "visible_lines"]
