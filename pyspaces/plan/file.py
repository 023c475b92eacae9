"""A plan from a file: JSON as `Plan.to_data()` gives it, with every type checked.

Runs in the parent. Must not know options, or how the plan is used. The types of the fields are
those of the annotations of the records, so that a new field needs no change here.
"""

from __future__ import annotations

import itertools
import json
import sys
import types
import typing
from collections.abc import Iterator, Mapping
from typing import Any

from pyspaces.errors import UsageFault
from pyspaces.mounts.operations import KINDS, Operation
from pyspaces.plan.features import FEATURES
from pyspaces.plan.plan import Plan, version_fault
from pyspaces.record import Record

STDIN = "-"
_LARGEST = 16 * 1024 * 1024
# A file may come from an untrusted user. The maximum length of a list of values, and of objects;
# how many faults are reported, and how much text of each. More than anybody needs.
_MOST_VALUES = 1 << 16
_MOST_OBJECTS = 4096
_MOST_FAULTS = 20
_LONGEST = 500
# The range of whole numbers: of fields with these names, and of all others.
_INT = (1 << 31) - 1
_NUMBERS = {"fd": (0, _INT), "pid": (0, _INT), "target": (0, _INT), "status_fd": (0, _INT)}
_ANY_NUMBER = (-(1 << 63), (1 << 63) - 1)
_WORDS = {
    str: "a text",
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    types.NoneType: "null",
    list: "a list",
    dict: "an object",
}


def read(path: str) -> Plan:
    """Return the plan in the file `path`; `-` is standard input.

    Raises UsageFault with everything that is wrong with it.
    """
    name = "standard input" if path == STDIN else path
    data = _decode(_bytes_of(path, name), name)
    if fault := version_fault(data):
        raise UsageFault([f"plan: {name}: {fault}"])
    rest = data
    if isinstance(data, dict):
        rest = {field: data[field] for field in data if field != "version"}
    if faults := _few(f"plan: {name}: {fault}" for fault in faults_of(Plan, rest)):
        raise UsageFault(faults)
    plan = Plan.from_data(data)
    if faults := _few(plan.faults()):
        raise UsageFault(faults)
    return plan


def _few(faults: Iterator[str]) -> list[str]:
    """Return the first faults, each cut to a readable length."""
    found = [_cut(fault) for fault in itertools.islice(faults, _MOST_FAULTS + 1)]
    if len(found) > _MOST_FAULTS:
        found[-1] = "and more"
    return found


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."


def _bytes_of(path: str, name: str) -> bytes:
    try:
        if path == STDIN:
            if sys.stdin is None:
                raise ValueError("is closed")
            content = sys.stdin.buffer.read(_LARGEST + 1)
        else:
            with open(path, "rb") as file:
                content = file.read(_LARGEST + 1)
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise UsageFault([f"plan: {name}: {why}"]) from None
    if len(content) > _LARGEST:
        raise UsageFault([f"plan: {name}: is larger than {_LARGEST >> 20} MiB"])
    return content


def _decode(content: bytes, name: str) -> Any:
    try:
        return json.loads(
            content.decode(), object_pairs_hook=_without_doubles, parse_constant=_no_number
        )
    except RecursionError:
        why = "is nested too deeply"
    except UnicodeDecodeError as error:
        why = f"is not UTF-8 at byte {error.start}"
    except json.JSONDecodeError as error:
        why = f"is not JSON: line {error.lineno} column {error.colno}: {error.msg}"
    except ValueError as error:
        why = f"is not JSON: {_cut(str(error))}"
    raise UsageFault([f"plan: {name}: {why}"])


def _without_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Build an object. Refuses a key that is given twice, of which json would drop the first."""
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise ValueError(f"{_cut(name)!r} is given twice in one object")
        found[name] = value
    return found


def _no_number(word: str) -> Any:
    raise ValueError(f"{word} is no number of JSON")


def faults_of(kind: Any, data: Any, where: str = "") -> Iterator[str]:
    """Yield why `data`, from JSON, is not a value of the type `kind`, a line each.

    kind: a Record, str, int, float, bool, None, a tuple of these, or a union. where: the place in
    the plan, for the text.
    """
    if kind is Operation:
        yield from _operation_faults(data, where)
    elif isinstance(kind, type) and issubclass(kind, Record):
        yield from _record_faults(kind, data, where)
    elif isinstance(kind, types.UnionType):
        yield from _union_faults(typing.get_args(kind), data, where)
    elif typing.get_origin(kind) is tuple:
        yield from _tuple_faults(typing.get_args(kind), data, where)
    elif not _fits(kind, data):
        yield _mismatch(kind, data, where)
    elif type(data) is int:
        first, last = _NUMBERS.get(where.rpartition(".")[2], _ANY_NUMBER)
        if not first <= data <= last:
            yield f"{where}: is out of range: {first} to {last}"


def _fits(kind: Any, data: Any) -> bool:
    if kind is float:
        return type(data) in (int, float)
    return type(data) is kind  # by type: True would pass for an int


def _record_faults(kind: type[Record], data: Any, where: str) -> Iterator[str]:
    if not isinstance(data, dict):
        yield _mismatch(kind, data, where)
        return
    fields = types_of(kind)
    for name in data:
        if name not in fields:
            yield f"{_place(where, name)}: is not a field of a {kind.__name__.lower()}"
    for name, type_ in fields.items():
        if name in data:
            yield from faults_of(type_, data[name], _place(where, name))
        elif not hasattr(kind, name):
            yield f"{_place(where, name)}: is missing"


def _operation_faults(data: Any, where: str) -> Iterator[str]:
    if not isinstance(data, dict):
        yield _mismatch(Operation, data, where)
        return
    rest = dict(data)
    name = rest.pop("kind", None)
    if not isinstance(name, str) or name not in KINDS:
        said = repr(_cut(name)) if isinstance(name, str) else _WORDS[type(name)]
        yield f"{_place(where, 'kind')}: {said} is none of {', '.join(KINDS)}"
    else:
        yield from _record_faults(KINDS[name], rest, where)


def _union_faults(kinds: tuple[Any, ...], data: Any, where: str) -> Iterator[str]:
    if any(next(faults_of(kind, data, where), None) is None for kind in kinds):
        return
    # For a list, an object or a number, report the faults of the alternative that has this type.
    for kind in kinds:
        if isinstance(data, list | dict) and _json_type(kind) is type(data):
            yield from faults_of(kind, data, where)
            return
        if _fits(kind, data):
            yield from faults_of(kind, data, where)
            return
    yield _mismatch(kinds, data, where)


def _tuple_faults(kinds: tuple[Any, ...], data: Any, where: str) -> Iterator[str]:
    if not isinstance(data, list):
        yield _mismatch(tuple, data, where)
        return
    most = _MOST_OBJECTS if any(type(item) in (list, dict) for item in data) else _MOST_VALUES
    if len(data) > most:
        yield f"{where}: is a list of {len(data)}; {most} are the most"
        return
    if len(kinds) == 2 and kinds[1] is Ellipsis:
        kinds = kinds[:1] * len(data)
    if len(kinds) != len(data):
        yield f"{where}: is a list of {len(data)}, and has to be one of {len(kinds)}"
        return
    for index, (kind, item) in enumerate(zip(kinds, data, strict=True)):
        yield from faults_of(kind, item, f"{where}[{index}]")


def types_of(kind: type[Record]) -> dict[str, Any]:
    """Return the type of each field of a record, its annotations resolved."""
    # Names that the modules import for type checkers only, in annotations that are not of fields.
    names = {"Any": Any, "ClassVar": typing.ClassVar, "Mapping": Mapping, "Operation": Operation}
    names |= {feature.part.__name__: feature.part for feature in FEATURES}
    hints = typing.get_type_hints(kind, localns=names)
    return {name: hints[name] for name in kind._fields}


def _json_type(kind: Any) -> Any:
    """Return the Python type that json gives to a value of `kind`."""
    if isinstance(kind, type) and issubclass(kind, Record):
        return dict
    return list if kind is tuple or typing.get_origin(kind) is tuple else kind


def _mismatch(kind: Any, data: Any, where: str) -> str:
    kinds = kind if isinstance(kind, tuple) else (kind,)
    wanted = " or ".join(_WORDS[_json_type(one)] for one in kinds)
    fault = f"is {_WORDS[type(data)]}, and has to be {wanted}"
    return f"{where}: {fault}" if where else fault


def _place(where: str, name: str) -> str:
    shown = _cut(name) if name.isidentifier() else repr(_cut(name))
    return f"{where}.{shown}" if where else shown
