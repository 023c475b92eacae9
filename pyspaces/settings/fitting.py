"""The types of the values of settings, checked for programs that call us.

Pure; runs in the parent. All code after it may rely on the types.
"""

from __future__ import annotations

import os

from pyspaces.feature import FLAG, MANY, OPERATION, OPTIONAL, PAIRS, TOGGLE
from pyspaces.record import told

# Id maps have forms of their own: `idmap.entries` reads them.
MAPS = ("map_uid", "map_gid")
_LARGEST = 1 << 64
_LISTS = (list, tuple, set, frozenset)


class Misfit(ValueError):
    """A value of a wrong type; the text says which type the setting takes."""


def fitted(name: str, kind: str, value: object) -> object:
    """Return a value in the form that the setting `name` takes: paths as texts. Raises Misfit."""
    if name in MAPS or (name == "mounts" and isinstance(value, list | tuple)):
        return value
    if name == "mounts":
        raise Misfit(f"takes a list of operations, and is {told(value)}")
    if name == "command":
        return _words_of(value)
    if kind in (FLAG, TOGGLE, OPERATION):
        raise Misfit(f"takes True or False, and is {told(value)}")
    if kind == OPTIONAL:
        return str(_scalar(value, "True, False, a text or a number, and is"))
    if kind == PAIRS:
        return _pairs(value)
    if kind == MANY and isinstance(value, _LISTS):
        return [_scalar(item, "a list of texts, and has an item that is") for item in value]
    what = "a text or a list of texts, and is" if kind == MANY else "a text or a number, and is"
    return [_scalar(value, what)] if kind == MANY else _scalar(value, what)


def _words_of(command: object) -> list[str]:
    """Return the words of a command: a list of texts and paths, or one text. Raises Misfit."""
    if isinstance(command, str | os.PathLike):
        return [_path(command, "a list of words, and is")]
    if not isinstance(command, list | tuple):
        raise Misfit(f"takes a list of words, and is {told(command)}")
    return [_path(word, "a list of words, and has one that is") for word in command]


def _pairs(value: object) -> list[tuple[object, object]]:
    items = list(value.items()) if isinstance(value, dict) else value
    what = "a dict, or a list of pairs, of texts, and"
    if not isinstance(items, list | tuple):
        raise Misfit(f"takes {what} is {told(value)}")
    pairs = []
    for item in items:
        if not isinstance(item, list | tuple) or len(item) != 2:
            raise Misfit(f"takes {what} has an item that is not a pair")
        first, second = (_scalar(part, f"{what} has one that is") for part in item)
        pairs.append((first, second))
    return pairs


def _scalar(value: object, what: str) -> object:
    """Return a value that is a text, a path or a number."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        # int has an error of its own for converting thousands of digits.
        if isinstance(value, int) and abs(value) >= _LARGEST:
            raise Misfit(f"takes {what} {told(value)}")
        return value
    return _path(value, what)


def _path(value: object, what: str) -> str:
    text = os.fspath(value) if isinstance(value, os.PathLike) else value
    if not isinstance(text, str):
        raise Misfit(f"takes {what} {told(text)}")
    return text
