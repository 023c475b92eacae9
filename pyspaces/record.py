"""Frozen plain-data records: the base class of every value that crosses the door of a room.

Pure; runs in any process. Must not import anything: `dataclasses` alone costs more
start-up time than all of the launch path.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any, ClassVar, Self, dataclass_transform
else:

    def dataclass_transform(**_: object) -> object:
        """Stand in for `typing.dataclass_transform`, which only type checkers need."""
        return lambda cls: cls


@dataclass_transform(frozen_default=True, kw_only_default=True)
class Record:
    """A frozen record whose fields are the annotations of its class.

    Fields are keyword-only and keep the order in which they are written. A field with a
    value in the class body is optional. `_nested` names the fields that hold records (one,
    or a tuple of them), so that `from_data` can rebuild them.
    """

    _fields: ClassVar[tuple[str, ...]] = ()
    _nested: ClassVar[Mapping[str, type[Record]]] = {}

    def __init_subclass__(cls) -> None:
        own = tuple(name for name in cls.__annotations__ if not name.startswith("_"))
        cls._fields = (*(name for name in cls._fields if name not in own), *own)

    def __init__(self, **values: Any) -> None:
        for name in self._fields:
            if name in values:
                self.__dict__[name] = values.pop(name)
            elif hasattr(type(self), name):
                self.__dict__[name] = getattr(type(self), name)
            else:
                raise TypeError(f"{type(self).__name__}: missing field {name!r}")
        if values:
            raise TypeError(f"{type(self).__name__}: unknown field {next(iter(values))!r}")

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"{type(self).__name__} is frozen: cannot set {name!r}")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"{type(self).__name__} is frozen: cannot delete {name!r}")

    def _values(self) -> tuple[object, ...]:
        return tuple(getattr(self, name) for name in self._fields)

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and other._values() == self._values()

    def __hash__(self) -> int:
        return hash((type(self), self._values()))

    def __repr__(self) -> str:
        inner = ", ".join(f"{name}={getattr(self, name)!r}" for name in self._fields)
        return f"{type(self).__name__}({inner})"

    def replace(self, **changes: Any) -> Self:
        """Return a copy with some fields changed."""
        return type(self)(**{name: getattr(self, name) for name in self._fields} | changes)

    def to_data(self) -> dict[str, Any]:
        """Return the record as dicts, lists, strings and numbers, ready for JSON."""
        return {name: _to_plain(getattr(self, name)) for name in self._fields}

    @classmethod
    def from_data(cls, data: Mapping[str, Any]) -> Self:
        """Rebuild a record from what `to_data` gave.

        Raises TypeError for a missing or an unknown field.
        """
        return cls(**{name: cls._from_plain(name, value) for name, value in data.items()})

    @classmethod
    def _from_plain(cls, name: str, value: Any) -> Any:
        kind = cls._nested.get(name)
        if kind is None or value is None:
            return _to_tuple(value)
        if isinstance(value, list):
            return tuple(kind.from_data(item) for item in value)
        return kind.from_data(value)


def _to_plain(value: Any) -> Any:
    if isinstance(value, Record):
        return value.to_data()
    if isinstance(value, tuple):
        return [_to_plain(item) for item in value]
    return value


def _to_tuple(value: Any) -> Any:
    return tuple(_to_tuple(item) for item in value) if isinstance(value, list) else value
