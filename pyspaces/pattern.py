"""Patterns of names with `*` and `?`, as in a shell.

Pure; runs in any process. Must not know what the names are of.
"""

from __future__ import annotations


def matches(name: str, pattern: str) -> bool:
    """Return whether `name` matches `pattern`: `*` is any text, `?` any one character."""
    # Own, since fnmatch imports re, which costs more than the rest of the launch path. After a
    # mismatch only the last star needs another try: one character more.
    at = star = 0
    retry = -1
    position = 0
    while position < len(name):
        if at < len(pattern) and pattern[at] == "*":
            star, retry = at, position
            at += 1
        elif at < len(pattern) and pattern[at] in ("?", name[position]):
            at += 1
            position += 1
        elif retry >= 0:
            retry += 1
            at, position = star + 1, retry
        else:
            return False
    return not pattern[at:].strip("*")
