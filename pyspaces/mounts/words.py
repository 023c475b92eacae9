"""Operations as command lines have them, with the names that bwrap(1) uses.

Reads only the caller's working directory; runs in the parent.
"""

from __future__ import annotations

import os

from pyspaces.mounts.binds import Bind
from pyspaces.mounts.devices import Dev
from pyspaces.mounts.operation import NO_EXEC, PERMS, SIZE, SOURCE, Operation
from pyspaces.mounts.places import Proc, ReadOnly
from pyspaces.record import told

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Container, Iterable
    from typing import Any

MOUNT = "mount"
HOST_RO, THROWAWAY = "host-ro", "throwaway"


class _Fault(ValueError):
    """What is wrong with an operation, in words."""


def operations_from(
    items: Iterable[Any],
    faults: list[str],
    *,
    proc: bool = False,
    user: bool = False,
    shared_pids: bool = False,
) -> tuple[Operation, ...]:
    """Return the operations in `items`, and add what is wrong with them to `faults`.

    items: operations, lists of words such as ["ro-bind", "/usr", "/usr"], or plain data of
    operations. proc: whether a new pid namespace gets a new /proc. user: whether a new user
    namespace owns the mounts. shared_pids: whether the command stays in the caller's pid namespace.
    Only the owner of that can mount a procfs for it, so the caller's /proc is bound instead, with
    what is mounted over parts of it, as bwrap(1) does.
    """
    reading = _Reading(proc=proc, user=user)
    for item in items:
        try:
            reading.take(item)
        except (_Fault, TypeError) as fault:
            faults.append(f"mounts: {fault}" if isinstance(fault, TypeError) else str(fault))
    faults.extend(reading.left_over())
    return tuple(
        Bind(source="/proc", target=one.target) if shared_pids and isinstance(one, Proc) else one
        for one in reading.operations
    )


def needs_empty_root(names: Container[str], *, user: bool) -> bool:
    """Return whether the sets of operations among `names` require an empty root."""
    if HOST_RO in names or THROWAWAY not in names:
        return HOST_RO in names
    from pyspaces.mounts import throwaway

    return throwaway.in_pieces(user=user)


def with_implied(
    operations: tuple[Operation, ...], *, empty_root: bool, proc: bool
) -> tuple[Operation, ...]:
    """Add a /proc for a new pid namespace, and a /dev if the root was bound without devices.

    proc: whether a new pid namespace gets a new /proc.
    """
    added = list(operations)
    for index, operation in enumerate(operations):
        if isinstance(operation, Bind) and _is_root(operation) and not operation.dev:
            # Without it, not even /dev/null can be opened. A later --dev takes precedence.
            if not any(later.target.rstrip("/") == "/dev" for later in operations[index:]):
                added.insert(index + 1, Dev())
            break
    if proc and not any(isinstance(one, Proc) and one.target == "/proc" for one in added):
        # After everything that covers the root, and after the rest has become read-only; but on an
        # empty root its directory must be created before that.
        after = [
            index + 1
            for index, one in enumerate(added)
            if _is_root(one) and not (empty_root and isinstance(one, ReadOnly))
        ]
        added.insert(max(after, default=0), Proc())
    return tuple(added)


def _is_root(operation: Operation) -> bool:
    return not operation.target.strip("/")


class _Reading:
    """The operations read so far, and the modifiers that wait for the next one."""

    def __init__(self, *, proc: bool, user: bool) -> None:
        self.operations: list[Operation] = []
        self._proc = proc
        self._user = user
        self._waiting: dict[str, Any] = {}

    def take(self, item: Any) -> None:
        if isinstance(item, dict):
            item = Operation.from_data(item)
        if isinstance(item, Operation):
            for fault in item.type_faults():
                raise TypeError(f"{type(item).__name__}: {fault}")
            self.operations.append(item)
        else:
            name, *words = _texts(item)
            self._take_words(name.replace("_", "-"), words)

    def _take_words(self, name: str, words: list[str]) -> None:
        if name in (SIZE, PERMS, SOURCE, NO_EXEC):
            self._keep(name, words)
        elif name == MOUNT:
            self._take_value(words)
        elif name in (HOST_RO, THROWAWAY) and not words:
            self._take_set(name)
        else:
            self._take_operation(name, words)

    def _take_set(self, name: str) -> None:
        if name == HOST_RO:
            from pyspaces.mounts import sets

            self.operations += sets.host_ro(proc=self._proc)
        else:
            from pyspaces.mounts import throwaway

            self.operations += throwaway.operations(proc=self._proc, user=self._user)

    def _take_operation(self, name: str, words: list[str]) -> None:
        from pyspaces.mounts.table import OPERATIONS  # with all of them: a set loads less

        waiting, self._waiting = self._waiting, {}
        if name not in OPERATIONS:
            known = ", ".join(OPERATIONS)
            raise _Fault(f"mounts: {name!r} is not an operation: choose from {known}")
        kind, fields, modifiers, fixed = OPERATIONS[name]
        if len(words) != len(fields):
            raise _Fault(f"{name}: requires {len(fields)} words, but got {len(words)}")
        for modifier in waiting:
            if modifier not in modifiers:
                raise _Fault(f"{modifier}: does not apply to --{name}, the next option")
        if SOURCE in modifiers:
            waiting["lower"] = waiting.pop(SOURCE, ())
        try:
            values = {field: _value(field, word) for field, word in zip(fields, words, strict=True)}
        except _Fault as fault:
            raise _Fault(f"{name}: {fault}") from None
        if NO_EXEC in waiting:
            waiting["no_exec"] = waiting.pop(NO_EXEC)
        more = {field: value for field, value in waiting.items() if value is not None}
        self.operations.append(kind(**values, **more, **fixed))

    def _take_value(self, words: list[str]) -> None:
        """Take the value of --mount=."""
        from pyspaces.mounts import grammar

        waiting, self._waiting = self._waiting, {}
        for modifier in waiting:
            raise _Fault(f"{modifier}: does not apply to --mount=, which has an option for it")
        if len(words) != 1:
            raise _Fault(f"mount: requires one word, but got {len(words)}")
        try:
            self.operations += grammar.operations_of(words[0], _value)
        except (grammar.Wrong, _Fault) as fault:
            raise _Fault(f"mount: {fault}") from None

    def _keep(self, name: str, words: list[str]) -> None:
        if name == NO_EXEC and not words:
            words = [""]
        if len(words) != 1:
            raise _Fault(f"{name}: requires one word, but got {len(words)}")
        if name == SOURCE:
            self._waiting[SOURCE] = (*self._waiting.get(SOURCE, ()), words[0])
            return
        if name in self._waiting:
            raise _Fault(f"{name}: given twice for the next operation")
        # An invalid modifier is remembered too, so that it is reported only once.
        self._waiting[name] = None
        self._waiting[name] = _value(name, words[0])

    def left_over(self) -> list[str]:
        """Return what is wrong at the end: modifiers without an operation."""
        return [f"{name}: no operation follows" for name in self._waiting]


def _texts(item: object) -> list[str]:
    """Return the words of an operation, which may be texts, paths and descriptors, as texts."""
    if not isinstance(item, list | tuple) or not item:
        raise TypeError(f"an operation is a list of its words, and one is {told(item)}")
    texts = []
    for word in item:
        text = os.fspath(word) if isinstance(word, os.PathLike) else word
        if isinstance(text, int) and not isinstance(text, bool) and 0 <= text < 1 << 31:
            text = str(text)
        if not isinstance(text, str):
            raise TypeError(f"the words of an operation are texts, and one is {told(text)}")
        texts.append(text)
    return texts


def _value(field: str, text: str) -> str | int:
    """Return the value of a field for a word. Raises _Fault."""
    if field == NO_EXEC:
        return True
    if field == "fd":
        if not _is_number(text) or len(text) > 9:
            raise _Fault(f"{text!r} is not the number of a descriptor")
        return int(text)
    if field == SIZE:
        from pyspaces.sizes import size_of

        try:
            return size_of(text)
        except ValueError as error:
            raise _Fault(f"size: {error}") from None
    if field == PERMS:
        if not text or len(text) > 5 or text.strip("01234567"):
            raise _Fault(f"perms: {text!r} is not a mode: octal digits, such as 0755")
        return int(text, 8)
    # As a target, `.` is the path of the caller's working directory.
    return os.getcwd() if field == "target" and text == "." else text


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdecimal()
