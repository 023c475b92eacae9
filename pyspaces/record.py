"""Frozen plain-data records: the base class of values that are passed between rooms.

Pure; runs in any process. Must not import anything: `dataclasses` alone costs more
start-up time than all of the launch path. But for what makes plain data of records: few launches
take that, and a child, which can import nothing, never does.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Any, ClassVar, Self, dataclass_transform
else:

    def dataclass_transform(**_: object) -> object:
        """Stand in for `typing.dataclass_transform`, which only type checkers need."""
        return lambda cls: cls


@dataclass_transform(frozen_default=True, kw_only_default=True)
class Record:
    """A frozen record whose fields are the annotations of its class.

    Fields are keyword-only, have names in lower case that begin with a letter, and keep the order
    in which they are written. A field with a value in the class body is optional. `_nested` names
    the fields that hold records (one, or a tuple of them), so that `from_data` can rebuild them.
    """

    _fields: ClassVar[tuple[str, ...]] = ()
    _defaults: ClassVar[Mapping[str, Any]] = {}
    _nested: ClassVar[Mapping[str, type[Record]]] = {}
    # All fields, and those without a default, for one comparison of sets in place of a loop.
    _known: ClassVar[frozenset[str]] = frozenset()
    _required: ClassVar[frozenset[str]] = frozenset()

    def __init_subclass__(cls) -> None:
        fields = {**dict.fromkeys(cls._fields), **cls.__annotations__}
        # Few classes annotate anything private. An underscore comes before all lower-case letters.
        if fields and min(fields)[0] == "_":
            fields = {name: None for name in fields if name[0] != "_"}
        own = {name: cls.__dict__[name] for name in fields.keys() & cls.__dict__.keys()}
        new = fields.keys() - cls._known
        cls._fields = tuple(fields)
        cls._defaults = {**cls._defaults, **own}
        cls._known = frozenset(fields)
        cls._required = (cls._required | new) - cls._defaults.keys()

    def __init__(self, **values: Any) -> None:
        if not self._required <= values.keys() <= self._known:
            raise TypeError(f"{type(self).__name__}: {self._fault_of(values)}")
        self.__dict__.update(self._defaults)
        self.__dict__.update(values)

    def _fault_of(self, values: Mapping[str, Any]) -> str:
        """Return which field a record with these values would have too many, or too few."""
        for name in values:
            if name not in self._known:
                return f"unknown field {name!r}"
        return f"missing field {next(n for n in self._fields if n in self._required - {*values})!r}"

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"{type(self).__name__} is frozen: cannot set {name!r}")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"{type(self).__name__} is frozen: cannot delete {name!r}")

    def _values(self) -> Mapping[str, Any]:
        """Return the values of the fields, in any order: all attributes, but of a plan."""
        return self.__dict__

    def _held(self) -> dict[str, Any]:
        """Return the values of the fields, in their order."""
        return {name: self.__dict__[name] for name in self._fields if name in self.__dict__}

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and other._values() == self._values()

    def __hash__(self) -> int:
        return hash((type(self), *map(self.__dict__.get, self._fields)))

    def __repr__(self) -> str:
        inner = ", ".join(f"{name}={value!r}" for name, value in self._held().items())
        return f"{type(self).__name__}({inner})"

    def replace(self, **changes: Any) -> Self:
        """Return a copy with some fields changed."""
        if not changes.keys() <= self._known:
            raise TypeError(f"{type(self).__name__}: {self._fault_of(changes)}")
        copy = object.__new__(type(self))
        copy.__dict__.update(self.__dict__)
        copy.__dict__.update(changes)
        return copy

    def type_faults(self) -> Iterator[str]:
        """Yield each field whose value is not of the type that its annotation names.

        For records that programs make, which may not be type-checked.
        """
        kinds: dict[str, object] = {}
        for cls in reversed(type(self).__mro__):
            kinds.update(getattr(cls, "__annotations__", {}))
        for name, value in self._held().items():
            if value is self._defaults.get(name, self):
                continue
            kind = str(kinds[name])
            if not _fits(kind, value):
                yield f"{name}: has to be {kind}, and is {told(value)}"
            elif isinstance(value, Record):
                yield from (f"{name}.{fault}" for fault in value.type_faults())

    def to_data(self, *, whole: bool = True) -> dict[str, Any]:
        """Return the record as dicts, lists, strings and numbers, ready for JSON.

        whole: with the fields that have their defaults, which `from_data` does not need.
        """
        from pyspaces.record_data import to_data

        return to_data(self, whole=whole)

    @classmethod
    def from_data(cls, data: Mapping[str, Any]) -> Self:
        """Rebuild a record from the result of `to_data`.

        Raises TypeError for a missing or an unknown field.
        """
        from pyspaces.record_data import from_data

        return from_data(cls, data)

    @classmethod
    def _from_plain(cls, name: str, value: Any) -> Any:
        """Return the value of a field as `from_data` rebuilds it."""
        from pyspaces.record_data import value_from_plain

        return value_from_plain(cls, name, value)


def told(value: object) -> str:
    """Describe a value of a wrong type in a few words, without its text, which may be endless."""
    if value is None:
        return "None"
    if isinstance(value, int) and value.bit_length() > _MOST_BITS:
        return f"a number of {value.bit_length()} bits"
    if isinstance(value, int):
        return str(value)
    return f"of type {type(value).__name__}"


# More than any field of a record can mean; a number of 4,300 digits cannot even be written as text.
_MOST_BITS = 64
_PLAIN: dict[str, Any] = {
    "str": str,
    "bool": bool,
    "None": type(None),
    "int": int,
    "float": (int, float),
}


def _fits(kind: str, value: object) -> bool:
    """Return whether a value fits an annotation: a plain type, a record, a tuple or a union."""
    if " | " in kind:
        return any(_fits(one, value) for one in kind.split(" | "))
    if kind.startswith("tuple["):
        return isinstance(value, tuple) and _all_fit(kind[6:-1], value)
    if kind not in _PLAIN:
        names = (cls.__name__ for cls in type(value).__mro__)
        return isinstance(value, Record) and kind in names
    if kind == "bool" or not isinstance(value, bool):
        large = isinstance(value, int) and value.bit_length() > _MOST_BITS
        return isinstance(value, _PLAIN[kind]) and not large
    return False


def _all_fit(kinds: str, values: tuple[object, ...]) -> bool:
    if kinds.endswith(", ..."):
        kind = kinds.removesuffix(", ...")
        return all(
            _fits(kind, value) and not (isinstance(value, Record) and any(value.type_faults()))
            for value in values
        )
    parts = kinds.split(", ")
    return len(parts) == len(values) and all(map(_fits, parts, values))
