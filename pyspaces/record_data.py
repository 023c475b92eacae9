"""Records to and from plain data: what `Record.to_data` and `Record.from_data` do.

Pure; runs in the parent, and in the launch server. A launch from the command line takes none of it,
so it is loaded once it is needed.
"""

from __future__ import annotations

from pyspaces.record import Record, told

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any, TypeVar

    Kind = TypeVar("Kind", bound=Record)


def to_data(record: Record, *, whole: bool) -> dict[str, Any]:
    """Return a record as `Record.to_data` does."""
    if whole:
        return {name: _to_plain(getattr(record, name), whole) for name in record._fields}
    held, defaults = record._held(), record._defaults
    names = [name for name in held if name not in defaults or held[name] != defaults[name]]
    return {name: _to_plain(held[name], whole) for name in names}


def _to_plain(value: Any, whole: bool) -> Any:
    if isinstance(value, Record):
        return value.to_data(whole=whole)
    if isinstance(value, tuple):
        return [_to_plain(item, whole) for item in value]
    return value


def from_data(cls: type[Kind], data: Mapping[str, Any]) -> Kind:
    """Rebuild a record as `Record.from_data` does. Raises TypeError."""
    if not isinstance(data, dict) or not all(isinstance(name, str) for name in data):
        raise TypeError(f"{cls.__name__}: has to be a dict of its fields, and is {told(data)}")
    return cls(**{name: cls._from_plain(name, value) for name, value in data.items()})


def value_from_plain(cls: type[Record], name: str, value: Any) -> Any:
    """Rebuild the value of a field."""
    kind = cls._nested.get(name)
    if kind is None or value is None:
        return _to_tuple(value)
    if isinstance(value, list):
        return tuple(kind.from_data(item) for item in value)
    return kind.from_data(value)


def _to_tuple(value: Any) -> Any:
    return tuple(_to_tuple(item) for item in value) if isinstance(value, list) else value
