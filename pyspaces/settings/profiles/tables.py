"""A profile's table, as TOML has it, as settings: its keys are their names.

Runs in the parent. What is wrong is told with the name and the file of the profile.
"""

from __future__ import annotations

from pyspaces.feature import FLAG, MANY, OPERATION, OPTIONAL, ORDERED, PAIRS, TOGGLE
from pyspaces.record import Record
from pyspaces.settings import _table
from pyspaces.settings.profiles import places
from pyspaces.settings.profiles.layers import MOUNTS, Layer, kind_of
from pyspaces.settings.profiles.paths import Paths

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from pyspaces.settings.profiles.places import Found

DESCRIPTION, EXTENDS, ENVIRONMENT = "description", "extends", "environment"
_OWN = (DESCRIPTION, EXTENDS, ENVIRONMENT, MOUNTS)
_FROM_LINE = "is for one launch: give it on the command line"
_DESCRIPTOR = "is the number of an open descriptor, which a file cannot know"
_WRITES = "names a file that the launcher writes: a project gives none; use the command line"
# What no profile has, and why.
REFUSED = {
    "command": "a profile has settings only: the command is given on the command line",
    "profile": f"use {EXTENDS}",
    "bundle": _FROM_LINE,
    **dict.fromkeys(
        ("seccomp_fd", "keep_fd", "info_fd", "block_fd", "userns_block_fd", "sync_fd"), _DESCRIPTOR
    ),
    **dict.fromkeys(("json_status_fd", "status_fd"), _DESCRIPTOR),
    **dict.fromkeys(("bind_fd", "ro_bind_fd", "file", "bind_data"), _DESCRIPTOR),
    "ro_bind_data": _DESCRIPTOR,
}
# What no profile of a project has: the launcher writes these with the rights of the caller, and
# follows the links of the directory.
OF_CALLER = dict.fromkeys(
    ("status_file", "pid_file", "overlay_diff", "seccomp_learn", "keep", "lock_file"), _WRITES
)
_MOST_ITEMS = 4096
_SHOWN = 60


class Misfit(ValueError):
    """What is wrong with a value, in words."""


class Content(Record):
    """What a table says: its settings, what it extends, and its description."""

    layer: Layer
    extends: tuple[str, ...] = ()
    description: str = ""


def content_of(found: Found) -> Content:
    """Return what a profile says. Raises UsageFault."""
    reading = _Reading(found)
    for key, value in found.table.items():
        try:
            reading.take(key, value)
        except Misfit as misfit:
            raise places.fault(f"{found}: {key[:_SHOWN]}: {misfit}") from None
    return reading.content()


class _Reading:
    """The settings of a table, read so far."""

    def __init__(self, found: Found) -> None:
        self._found = found
        self._paths = Paths(found.base)
        self._values: dict[str, Any] = {}
        self._removed: set[str] = set()
        self._unset: list[str] = []
        self._extends: tuple[str, ...] = ()
        self._description = ""
        self._seen: set[str] = set()

    def content(self) -> Content:
        layer = Layer(
            values=self._values, removed=frozenset(self._removed), unset=tuple(self._unset)
        )
        return Content(layer=layer, extends=self._extends, description=self._description)

    def take(self, key: str, value: Any) -> None:
        name = key.replace("-", "_")
        if name in self._seen:
            raise Misfit("is given twice")
        self._seen.add(name)
        if name in _OWN:
            self._take_own(name, value)
            return
        self._check_name(key, name)
        if value is False and kind_of(name) != TOGGLE:
            self._removed.add(name)
        elif kind_of(name) == ORDERED:
            self._add([_as_operation(name, words) for words in _rows(name, value)])
        elif kind_of(name) == OPERATION:
            self._take_mount(name, value)
        elif kind_of(name) == PAIRS:
            self._values.setdefault(name, []).extend(_pairs(value))
        else:
            self._values[name] = self._paths.of_setting(name, _fitted(kind_of(name), value))

    def _check_name(self, key: str, name: str) -> None:
        refused = REFUSED | (OF_CALLER if self._found.place == places.PROJECT else {})
        if name in refused:
            raise Misfit(refused[name])
        if name not in _table.SETTINGS:
            from pyspaces.settings import nearest

            known = [one.replace("_", "-") for one in (*_table.SETTINGS, *_OWN)]
            near = nearest.words(key[:80].replace("_", "-"), known, most=1)
            hint = f"did you mean {near[0]}?" if near else "see pyspaces-profile(1)"
            raise places.fault(f"{self._found}: {key[:_SHOWN]}: unknown setting", hint)

    def _take_own(self, name: str, value: Any) -> None:
        if name == DESCRIPTION:
            self._description = _text(value)
        elif name == EXTENDS:
            self._extends = tuple(_texts(value))
        elif name == ENVIRONMENT:
            self._take_environment(value)
        elif value is False:
            self._removed.add(MOUNTS)
        else:
            self._add([self._operation(item) for item in _list(value)])

    def _take_environment(self, value: Any) -> None:
        if not isinstance(value, dict):
            raise Misfit("takes a table of names and values")
        for name, text in value.items():
            if text is False:
                self._unset.append(name)
        sets = {name: text for name, text in value.items() if text is not False}
        self._values.setdefault("setenv", []).extend(_pairs(sets))

    def _take_mount(self, name: str, value: Any) -> None:
        if value is True:
            self._values[name] = True
        else:
            self._add([[name, text] for text in _texts(value)])

    def _operation(self, item: Any) -> list[str]:
        words = _texts(_list(item))
        if not words:
            raise Misfit("an operation is a list of its words, and one is empty")
        name = words[0].replace("-", "_")
        self._check_operation(name)
        return _as_operation(name, words[1:])

    def _check_operation(self, name: str) -> None:
        if name in REFUSED:
            raise Misfit(f"{name.replace('_', '-')}: {REFUSED[name]}")
        if kind_of(name) not in (ORDERED, OPERATION):
            raise Misfit(f"{name[:_SHOWN]!r} is not an operation")

    def _add(self, operations: list[list[str]]) -> None:
        added = [self._paths.of_operation(one) for one in operations]
        self._values.setdefault(MOUNTS, []).extend(added)


def _as_operation(name: str, words: list[str]) -> list[str]:
    count = _table.SETTINGS[name][3]
    if kind_of(name) == ORDERED and len(words) != count:
        raise Misfit(f"takes {count} {'text' if count == 1 else 'texts'}, and not {len(words)}")
    return [name, *words]


def _rows(name: str, value: Any) -> Iterator[list[str]]:
    """Yield the words of each operation of a key: one, or a list of several."""
    count = _table.SETTINGS[name][3]
    if not count:
        if value is not True:
            raise Misfit("takes true or false")
        yield []
    elif count == 1:
        yield from ([text] for text in _texts(value))
    elif isinstance(value, list) and value and not isinstance(value[0], list):
        yield _texts(value)
    else:
        yield from (_texts(_list(item)) for item in _list(value))


def _fitted(kind: str, value: Any) -> Any:
    if kind in (FLAG, TOGGLE):
        if not isinstance(value, bool):
            raise Misfit("takes true or false")
        return value
    if kind == OPTIONAL and value is True:
        return True
    return _texts(value) if kind == MANY else _text(value)


def _pairs(value: Any) -> list[tuple[str, str]]:
    if isinstance(value, dict):
        return [(name, _text(text, name)) for name, text in value.items()]
    rows = [_texts(_list(item)) for item in _list(value)]
    if any(len(row) != 2 for row in rows):
        raise Misfit("takes a table, or a list of pairs")
    return [(row[0], row[1]) for row in rows]


def _texts(value: Any) -> list[str]:
    return [_text(item) for item in (value if isinstance(value, list) else [value])]


def _list(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise Misfit("takes a list of lists")
    if len(value) > _MOST_ITEMS:
        raise Misfit(f"is a list of {len(value)}; {_MOST_ITEMS} are the most")
    return value


def _text(value: Any, where: str = "") -> str:
    """Return a text, or a number as one. TOML has dates, too."""
    if isinstance(value, str) and "\0" not in value:
        return value
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    what = "a text with a NUL" if isinstance(value, str) else f"of type {type(value).__name__}"
    place = f"{where[:_SHOWN]}: " if where else ""
    raise Misfit(f"{place}takes a text or a number, and is {what}")
