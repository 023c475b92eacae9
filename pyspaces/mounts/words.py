"""Operations as people write them: the words of a command line, in the order in which they stand.

Pure but for the caller's working directory; runs in the parent. The words are those of bwrap(1).
"""

from __future__ import annotations

import os

from pyspaces.mounts import sets
from pyspaces.mounts.binds import Bind, BindData, BindFd, File
from pyspaces.mounts.devices import Dev, Mask
from pyspaces.mounts.operation import Operation
from pyspaces.mounts.overlays import Overlay, RoOverlay, TmpOverlay
from pyspaces.mounts.places import (
    Chmod,
    Dir,
    Mqueue,
    Proc,
    ReadOnly,
    RemountRo,
    Symlink,
    Sysfs,
    Tmpfs,
)
from pyspaces.record import told

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from typing import Any

    Maker = Callable[..., Operation]

SIZE, PERMS, SOURCE = "size", "perms", "overlay-src"
_LOWER = "lower"
HOST_RO, THROWAWAY = "host-ro", "throwaway"
_FACTORS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}


class _Fault(ValueError):
    """One word that cannot be meant."""


def operations_from(
    items: Iterable[Any],
    faults: list[str],
    *,
    proc: bool = False,
    user: bool = False,
    shared_pids: bool = False,
) -> tuple[Operation, ...]:
    """Return the operations of `items`; what is wrong with them is added to `faults`.

    items: operations, or lists of words such as ["ro-bind", "/usr", "/usr"], or an operation's own
    plain data. proc: whether the command's pid namespace is to have a /proc of its own. user:
    whether a new user namespace owns the mounts. shared_pids: whether the command stays in the
    caller's pid namespace. Nobody but its owner may mount a procfs of that, and the caller's /proc
    is one already: that is bound, with what is mounted over parts of it, as bwrap(1) does.
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


def needs_empty_root(items: Iterable[Any], *, user: bool) -> bool:
    """Tell whether one of the sets among `items` is made for an empty root."""
    names = {
        str(item[0]).replace("_", "-")
        for item in items
        if isinstance(item, list | tuple) and len(item) == 1 and isinstance(item[0], str)
    }
    return HOST_RO in names or (THROWAWAY in names and sets.in_pieces(user=user))


def with_what_follows(
    operations: tuple[Operation, ...], *, empty_root: bool, proc: bool
) -> tuple[Operation, ...]:
    """Add what the operations call for: a /proc, and a /dev where one was bound without devices.

    proc: whether the command's pid namespace is to have a /proc of its own.
    """
    added = list(operations)
    for index, operation in enumerate(operations):
        if isinstance(operation, Bind) and _is_root(operation) and not operation.dev:
            # Without it not even /dev/null can be opened. Who says --dev later, has said where.
            if not any(later.target.rstrip("/") == "/dev" for later in operations[index:]):
                added.insert(index + 1, Dev())
            break
    if proc and not any(isinstance(one, Proc) and one.target == "/proc" for one in added):
        # Over whatever covers the root; and, as it belongs to the new namespace, after the rest
        # has become read-only, but on an empty root its folder has to be made before.
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
    """One walk over the items: the modifiers wait here for the operation that they belong to."""

    def __init__(self, *, proc: bool, user: bool) -> None:
        self.operations: list[Operation] = []
        self._proc = proc
        self._user = user
        self._waiting: dict[str, Any] = {}

    def take(self, item: Any) -> None:
        if isinstance(item, Operation):
            self._append(item)
        elif isinstance(item, dict):
            self._append(Operation.from_data(item))
        else:
            name, *words = _texts(item)
            self._take_words(name.replace("_", "-"), words)

    def _append(self, operation: Operation) -> None:
        """Take an operation as a program made it."""
        for fault in operation.type_faults():
            raise TypeError(f"{type(operation).__name__}: {fault}")
        self.operations.append(operation)

    def _take_words(self, name: str, words: list[str]) -> None:
        if name in (SIZE, PERMS, SOURCE):
            self._keep(name, words)
            return
        if name in (HOST_RO, THROWAWAY) and not words:
            if name == HOST_RO:
                self.operations += sets.host_ro(proc=self._proc)
            else:
                self.operations += sets.throwaway(proc=self._proc, user=self._user)
            return
        waiting, self._waiting = self._waiting, {}
        if name not in _MAKERS:
            raise _Fault(f"mounts: {name!r} is not an operation: choose from {', '.join(_MAKERS)}")
        count, taken, maker = _MAKERS[name]
        if len(words) != count:
            raise _Fault(f"{name}: takes {count} words, and here are {len(words)}")
        for modifier in waiting:
            if modifier not in taken:
                word = SOURCE if modifier == _LOWER else modifier
                raise _Fault(f"{word}: does not apply to --{name}, the next option")
        try:
            known = {modifier: value for modifier, value in waiting.items() if value is not None}
            self.operations.append(maker(*words, **known))
        except _Fault as fault:
            raise _Fault(f"{name}: {fault}") from None

    def _keep(self, name: str, words: list[str]) -> None:
        if len(words) != 1:
            raise _Fault(f"{name}: takes one word, and here are {len(words)}")
        if name == SOURCE:
            self._waiting[_LOWER] = (*self._waiting.get(_LOWER, ()), words[0])
            return
        if name in self._waiting:
            raise _Fault(f"{name}: is given twice for the operation that follows")
        # A word that is wrong waits as well: it is one fault, and not two.
        self._waiting[name] = None
        self._waiting[name] = _size(words[0]) if name == SIZE else _mode(words[0])

    def left_over(self) -> list[str]:
        """Return what is wrong at the end: modifiers of nothing."""
        names = (SOURCE if name == _LOWER else name for name in self._waiting)
        return [f"{name}: no operation follows that it could be about" for name in names]


def _texts(item: object) -> list[str]:
    """Return the words of an operation: texts, paths and numbers of descriptors."""
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


def _size(text: str) -> int:
    number, suffix = text.rstrip("kKmMgG"), text[len(text.rstrip("kKmMgG")) :].lower()
    if not (number.isascii() and number.isdecimal()) or suffix not in _FACTORS or len(number) > 18:
        raise _Fault(f"size: {text!r} is not a size: a number of bytes, or as 512K, 512M, 2G")
    return int(number) * _FACTORS[suffix]


def _mode(text: str) -> int:
    if not text or len(text) > 5 or text.strip("01234567"):
        raise _Fault(f"perms: {text!r} is not a mode: octal digits, such as 0755")
    return int(text, 8)


def _descriptor(text: str) -> int:
    if not (text.isascii() and text.isdecimal()) or len(text) > 9:
        raise _Fault(f"{text!r} is not the number of a descriptor")
    return int(text)


def _target(text: str) -> str:
    """Return a target; `.` is the caller's working directory, at the same path inside."""
    return os.getcwd() if text == "." else text


def _bind(**more: bool) -> Maker:
    return lambda source, target: Bind(source=source, target=_target(target), **more)


def _fd(kind: Maker, **fixed: bool) -> Maker:
    def make(descriptor: str, target: str, **more: Any) -> Operation:
        return kind(fd=_descriptor(descriptor), target=_target(target), **fixed, **more)

    return make


def _place(kind: Maker) -> Maker:
    return lambda target, **more: kind(target=_target(target), **more)


def _overlay(upper: str, work: str, target: str, lower: tuple[str, ...] = ()) -> Operation:
    return Overlay(lower=lower, upper=upper, work=work, target=_target(target))


def _layers(kind: Maker) -> Maker:
    def make(target: str, lower: tuple[str, ...] = (), **more: Any) -> Operation:
        return kind(target=_target(target), lower=lower, **more)

    return make


# Each word: how many words follow, which modifiers it takes, and what makes the operation.
_MAKERS: Mapping[str, tuple[int, tuple[str, ...], Maker]] = {
    "bind": (2, (), _bind()),
    "ro-bind": (2, (), _bind(read_only=True)),
    "dev-bind": (2, (), _bind(dev=True)),
    "bind-try": (2, (), _bind(optional=True)),
    "ro-bind-try": (2, (), _bind(read_only=True, optional=True)),
    "dev-bind-try": (2, (), _bind(dev=True, optional=True)),
    "bind-suid": (2, (), _bind(suid=True)),
    "bind-fd": (2, (), _fd(BindFd)),
    "ro-bind-fd": (2, (), _fd(BindFd, read_only=True)),
    "bind-data": (2, (PERMS,), _fd(BindData)),
    "ro-bind-data": (2, (PERMS,), _fd(BindData, read_only=True)),
    "file": (2, (PERMS,), _fd(File)),
    "tmpfs": (1, (SIZE, PERMS), _place(Tmpfs)),
    "proc": (1, (), _place(Proc)),
    "dev": (1, (), _place(Dev)),
    "sysfs": (1, (), _place(Sysfs)),
    "mqueue": (1, (), _place(Mqueue)),
    "dir": (1, (PERMS,), _place(Dir)),
    "symlink": (2, (), lambda text, target: Symlink(text=text, target=_target(target))),
    "remount-ro": (1, (), _place(RemountRo)),
    "read-only": (0, (), ReadOnly),
    "chmod": (2, (), lambda mode, target: Chmod(perms=_mode(mode), target=_target(target))),
    "mask": (1, (), _place(Mask)),
    "overlay": (3, (_LOWER,), _overlay),
    "tmp-overlay": (1, (_LOWER, SIZE), _layers(TmpOverlay)),
    "ro-overlay": (1, (_LOWER,), _layers(RoOverlay)),
}
