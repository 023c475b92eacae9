"""A plan from a file: JSON as `Plan.to_data()` gives it, with every type checked.

Runs in the parent. Must not know options, nor what is done with the plan. What a field may hold is
read from the annotations of the records, so that a new field is checked without a line here.
"""

from __future__ import annotations

import json
import sys
import types
import typing
from collections.abc import Iterator, Mapping
from typing import Any

from pyspaces.errors import UsageFault
from pyspaces.mounts.operations import KINDS, Operation
from pyspaces.plan import Plan
from pyspaces.record import Record

STDIN = "-"
_LARGEST = 16 * 1024 * 1024
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
    if faults := [f"plan: {name}: {fault}" for fault in faults_of(Plan, data)]:
        raise UsageFault(faults)
    plan = Plan.from_data(data)
    plan.check()
    return plan


def _bytes_of(path: str, name: str) -> bytes:
    try:
        if path == STDIN:
            if sys.stdin is None:
                raise UsageFault(["plan: standard input: is closed"])
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
        why = f"is not JSON: {error}"
    raise UsageFault([f"plan: {name}: {why}"])


def _without_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Build an object; of a key that is given twice json would drop the first without a word."""
    names = [name for name, _ in pairs]
    if doubles := {name for name in names if names.count(name) > 1}:
        raise ValueError(f"{min(doubles)!r} is given twice in one object")
    return dict(pairs)


def _no_number(word: str) -> Any:
    raise ValueError(f"{word} is no number of JSON")


def faults_of(kind: Any, data: Any, where: str = "") -> Iterator[str]:
    """Yield what keeps `data`, from JSON, from being a value of the type `kind`, a line each.

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
            yield f"{_place(where, name)}: is no field of a {kind.__name__.lower()}"
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
        yield f"{_place(where, 'kind')}: {name!r} is none of {', '.join(KINDS)}"
    else:
        yield from _record_faults(KINDS[name], rest, where)


def _union_faults(kinds: tuple[Any, ...], data: Any, where: str) -> Iterator[str]:
    found = [list(faults_of(kind, data, where)) for kind in kinds]
    if not all(found):
        return
    # Of a list or an object, say what is wrong in the arm that it was meant for.
    for kind, faults in zip(kinds, found, strict=True):
        if isinstance(data, list | dict) and _json_type(kind) is type(data):
            yield from faults
            return
    yield _mismatch(kinds, data, where)


def _tuple_faults(kinds: tuple[Any, ...], data: Any, where: str) -> Iterator[str]:
    if not isinstance(data, list):
        yield _mismatch(tuple, data, where)
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
    # Names that the modules import for type checkers only, in annotations that are no fields.
    names = {"ClassVar": typing.ClassVar, "Mapping": Mapping, "Operation": Operation}
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
    shown = name if name.isidentifier() else repr(name)
    return f"{where}.{shown}" if where else shown
