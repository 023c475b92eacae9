"""The syntax of the names of commands. `registry.py` has the names in use.

Pure; runs in any process. Must not know a Plan.
"""

from __future__ import annotations

_LETTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
_OTHERS = frozenset("0123456789._-")
_LONGEST = 64


def name_fault(name: str) -> str | None:
    """Return what is wrong with a name, or None.

    A name is never all digits and has no slash: `enter` takes those for a pid and for a file.
    """
    if not name:
        return "a name cannot be empty"
    if len(name) > _LONGEST:
        return f"{name[:16]!r}...: a name has {_LONGEST} characters at most"
    if not _LETTERS.union(_OTHERS).issuperset(name):
        return f"{name!r}: a name is made of letters, digits and ._-"
    if name[0] in "._-":
        return f"{name!r}: a name begins with a letter or a digit"
    if name.isdecimal():
        return f"{name!r}: a name of nothing but digits would be a process id"
    return None
