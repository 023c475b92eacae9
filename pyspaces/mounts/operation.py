"""The base class of all operations on the tree of a command.

Operations are plain data, created in the parent; functions ending in `_inner` run in the child.
"""

from __future__ import annotations

from pyspaces.errors import Stage
from pyspaces.kernel.libc import c_string_fault
from pyspaces.record import Record, told

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Any, Self

    from pyspaces.mounts.tree import Tree

# The limit of an int in C.
_LARGEST_DESCRIPTOR = 2**31 - 1
# Modifiers, words which belong to the next operation. SOURCE sets its field `lower`.
SIZE, PERMS, SOURCE, NO_EXEC = "size", "perms", "overlay-src", "noexec"
# The operations by name, as plain data has it.
KINDS: dict[str, type[Operation]] = {}


class Operation(Record):
    """One operation on the tree.

    target: a path inside; absolute and without `..`. Fields with the same name have the same
    meaning, and the same rules, in every operation: `source` and `lower` are paths outside, `fd` is
    a descriptor of the caller, which the operation closes, and `perms` is a mode.
    """

    target: str

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if not cls.__name__.startswith("_"):
            KINDS[cls.__name__] = cls

    def to_data(self, *, whole: bool = True) -> dict[str, Any]:
        """Return the operation as plain data, with its class as `kind`."""
        return {"kind": type(self).__name__, **super().to_data(whole=whole)}

    @classmethod
    def from_data(cls, data: Any) -> Self:
        """Rebuild an operation. Raises TypeError if `data` is not one."""
        if cls is not Operation:
            return super().from_data(data)
        if not isinstance(data, dict):
            raise TypeError(f"an operation has to be a dict with its kind, and is {told(data)}")
        rest = dict(data)
        kind = rest.pop("kind", None)
        if not isinstance(kind, str) or kind not in KINDS:
            shown = repr(kind) if isinstance(kind, str) else told(kind)
            raise TypeError(f"{shown} is not an operation: choose from {', '.join(KINDS)}")
        return KINDS[kind].from_data(rest)  # type: ignore[return-value]

    def describe(self) -> str:
        """Return what the operation does, in words that fit after `cannot`."""
        raise NotImplementedError

    def stage(self) -> Stage:
        """Return the operation as a stage of the launch."""
        return Stage(self.describe(), f"mount-{type(self).__name__.lower()}")

    def faults(self) -> Iterator[str]:
        """Yield what is wrong with the fields, a line each."""
        for name in ("source", "lower", "upper", "work", "text", "target"):
            value = getattr(self, name, ())
            for path in (value,) if isinstance(value, str) else value:
                yield from _path_faults(name if name in ("text", "target") else "source", path)
        if not self.target.startswith("/"):
            yield f"{self.target!r}: a target is a path inside, and begins with /"
        if ".." in self.target.split("/"):
            yield f"{self.target!r}: a target cannot contain .., which could lead out of the root"
        perms = getattr(self, "perms", 0)
        if not 0 <= perms <= 0o7777:
            yield f"perms: {perms:o}: is not a mode; the largest is 7777"

    def find_inner(self, tree: Tree) -> tuple[int, ...]:
        """Open what comes from outside, before anything is mounted."""
        return ()

    def prepare_inner(self, tree: Tree, found: tuple[int, ...]) -> tuple[int, ...]:
        """Turn the result of `find_inner` into what can be attached, before the root changes."""
        return tuple(tree.copy_inner(descriptor) for descriptor in found)

    def apply_inner(self, tree: Tree, found: tuple[int, ...]) -> None:
        """Carry out the operation. found: the result of `prepare_inner`."""
        raise NotImplementedError


def _path_faults(what: str, path: str) -> Iterator[str]:
    if not path:
        yield f"{what}: a path cannot be empty"
    elif fault := c_string_fault(path):
        yield f"{what}: {path!r}: {fault}"


def faults_of(operations: Iterable[Operation]) -> Iterator[str]:
    """Yield what is wrong with operations, one by one and together."""
    used: set[int] = set()
    for operation in operations:
        if wrong := [f"{type(operation).__name__}: {fault}" for fault in operation.type_faults()]:
            yield from wrong
            continue
        for fault in operation.faults():
            yield f"{operation.describe()}: {fault}"
        descriptor = getattr(operation, "fd", None)
        if descriptor is None:
            continue
        if not 0 <= descriptor <= _LARGEST_DESCRIPTOR:
            yield f"{operation.describe()}: fd: {descriptor}: is not a descriptor"
        if descriptor in used:
            yield f"{operation.describe()}: another operation uses the same descriptor"
        used.add(descriptor)
