"""Settings of several profiles, one on top of the other, and those of the command line on top.

Pure. A setting of a later layer replaces that of an earlier one; lists add up.
"""

from __future__ import annotations

from pyspaces.feature import MANY, ORDERED, PAIRS, TOGGLE
from pyspaces.record import Record
from pyspaces.settings import _table

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any

MOUNTS = "mounts"
# Operations that are about the next one, and are taken away with it.
_MODIFIERS = ("size", "perms", "noexec", "overlay_src")
# Lists of KEY=VALUE in which a key stands once: the later one counts.
_KEYED = ("rlimit", "join", "keep")


class Layer(Record):
    """What one profile, or a command line, says.

    values: a mapping for `settings.plan_from`. removed: the settings that it takes away from those
    beneath. unset: the variables of the environment that it takes away.
    """

    values: Mapping[str, Any]
    removed: frozenset[str] = frozenset()
    unset: tuple[str, ...] = ()


def kind_of(name: str) -> str:
    """Return the kind of a setting; empty if there is none of that name."""
    return _table.SETTINGS[name][0] if name in _table.SETTINGS else ""


def of_mapping(mapping: Mapping[str, Any]) -> Layer:
    """Return the settings of a command line or a program as a layer. False takes a setting away."""
    removed = {
        name for name, value in mapping.items() if value is False and kind_of(name) != TOGGLE
    }
    return Layer(
        values={
            name: value
            for name, value in mapping.items()
            if value is not None and name not in removed and not _is_empty(value)
        },
        removed=frozenset(removed),
    )


def merged(layers: Iterable[Layer]) -> dict[str, Any]:
    """Return the settings of layers, the lowest one first."""
    result: dict[str, Any] = {}
    for layer in layers:
        for name in layer.removed:
            _remove(result, name)
        _unset(result, (*layer.unset, *layer.values.get("unsetenv", ())))
        if layer.unset:
            result["unsetenv"] = [*result.get("unsetenv", ()), *layer.unset]
        for name, value in layer.values.items():
            result[name] = _added(name, result.get(name), value)
    return {name: value for name, value in result.items() if not _is_empty(value)}


def _is_empty(value: object) -> bool:
    return isinstance(value, list | tuple | dict) and not value


def _added(name: str, below: Any, value: Any) -> Any:
    if below is None or not (name == MOUNTS or kind_of(name) in (MANY, PAIRS)):
        return value
    above = _items(value)
    if name in _KEYED:
        keys = {_key(item) for item in above}
        below = [item for item in _items(below) if _key(item) not in keys]
    return [*_items(below), *above]


def _items(value: Any) -> list[Any]:
    """Return the items of a list, in any of the forms that programs give one."""
    if isinstance(value, dict):
        return [*value.items()]
    return [*value] if isinstance(value, list | tuple | set | frozenset) else [value]


def _key(item: object) -> str:
    return str(item).partition("=")[0].lower()


def _remove(result: dict[str, Any], name: str) -> None:
    if kind_of(name) == ORDERED:
        _remove_operations(result, name)
    else:
        result.pop(name, None)


def _remove_operations(result: dict[str, Any], name: str) -> None:
    """Take the operations of a name away, each with the modifiers before it."""
    kept: list[Any] = []
    for item in result.get(MOUNTS, ()):
        if _name_of(item) != name:
            kept.append(item)
            continue
        while name not in _MODIFIERS and kept and _name_of(kept[-1]) in _MODIFIERS:
            kept.pop()
    result[MOUNTS] = kept


def _name_of(item: object) -> str:
    """Return the name of an operation in the form of a list of words."""
    first = item[0] if isinstance(item, list | tuple) and item else ""
    return first.replace("-", "_") if isinstance(first, str) else ""


def _unset(result: dict[str, Any], names: Iterable[str]) -> None:
    gone = {*names}
    if gone and "setenv" in result:
        result["setenv"] = [pair for pair in _items(result["setenv"]) if pair[0] not in gone]
