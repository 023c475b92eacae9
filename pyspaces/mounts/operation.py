"""What all operations on the tree of a command have in common.

Plain data, made in the parent; what ends in `_inner` runs in the child.
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

# Of an int in C.
_LARGEST_DESCRIPTOR = 2**31 - 1
# By name, as in plain data.
KINDS: dict[str, type[Operation]] = {}


class Operation(Record):
    """One operation: what it is in words, and how it is carried out.

    target: where, inside; absolute and without `..`.
    """

    target: str

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if not cls.__name__.startswith("_"):
            KINDS[cls.__name__] = cls

    def to_data(self) -> dict[str, Any]:
        """Return the operation as plain data, its class as `kind`."""
        return {"kind": type(self).__name__, **super().to_data()}

    @classmethod
    def from_data(cls, data: Any) -> Self:
        """Rebuild an operation. Raises TypeError for what is none."""
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
        """Return what is done, in words that fit behind `cannot`."""
        raise NotImplementedError

    def stage(self) -> Stage:
        """Return the operation as a stage of the launch."""
        return Stage(self.describe(), f"mount-{type(self).__name__.lower()}")

    def faults(self) -> Iterator[str]:
        """Yield what is wrong, a line each."""
        yield from path_faults("target", self.target)
        if not self.target.startswith("/"):
            yield f"{self.target!r}: a target is a path inside, and begins with /"
        if ".." in self.target.split("/"):
            yield f"{self.target!r}: a target has no .. in it, which could lead outside the root"

    def descriptors(self) -> tuple[int, ...]:
        """Return the caller's descriptors that the operation uses up."""
        return ()

    def find_inner(self, tree: Tree) -> tuple[int, ...]:
        """Open what comes from outside, before anything is mounted. The tree closes it."""
        return ()

    def prepare_inner(self, tree: Tree, found: tuple[int, ...]) -> tuple[int, ...]:
        """Turn what `find_inner` returned into what can be attached, before the root moves."""
        return tuple(tree.copy_inner(descriptor) for descriptor in found)

    def apply_inner(self, tree: Tree, found: tuple[int, ...]) -> None:
        """Do it. found: what `prepare_inner` returned."""
        raise NotImplementedError


def path_faults(what: str, path: str) -> Iterator[str]:
    """Yield why `path` cannot be passed to the kernel."""
    if not path:
        yield f"{what}: a path cannot be empty"
    elif fault := c_string_fault(path):
        yield f"{what}: {path!r}: {fault}"


def mode_faults(perms: int) -> Iterator[str]:
    """Yield why `perms` are no permissions."""
    if not 0 <= perms <= 0o7777:
        yield f"perms: {perms:o}: is not a mode; the largest is 7777"


def faults_of(operations: Iterable[Operation]) -> Iterator[str]:
    """Yield what is wrong with operations, one by one and together."""
    used: set[int] = set()
    for operation in operations:
        if wrong := [f"{type(operation).__name__}: {fault}" for fault in operation.type_faults()]:
            yield from wrong
            continue
        for fault in operation.faults():
            yield f"{operation.describe()}: {fault}"
        for descriptor in operation.descriptors():
            if not 0 <= descriptor <= _LARGEST_DESCRIPTOR:
                yield f"{operation.describe()}: fd: {descriptor}: is not a descriptor"
            if descriptor in used:
                yield f"{operation.describe()}: the descriptor has been used by another operation"
            used.add(descriptor)
