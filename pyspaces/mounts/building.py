"""Carry out the operations of a plan on a tree, in their order.

Created in the parent, before the clone; functions ending in `_inner` run in the child.
"""

from __future__ import annotations

import os

from pyspaces.errors import Refusal
from pyspaces.kernel.libc import KernelError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pyspaces.mounts.operations import Operation
    from pyspaces.mounts.tree import Tree


class Building:
    """Operations, and the tree on which they are carried out."""

    def __init__(self, operations: Sequence[Operation], tree: Tree) -> None:
        self._operations = tuple(operations)
        self._tree = tree
        self._found: list[tuple[int, ...]] = []

    def find_inner(self) -> None:
        """Open what the operations take from outside. Raises Refusal, with the operation."""
        tree = self._tree
        here = os.open(".", os.O_PATH | os.O_CLOEXEC)
        before = os.umask(0)
        try:
            # First all paths are opened: the scratch directory, once there is one, is behind "/..".
            opened = []
            for operation in self._operations:
                with _ErrorsOf(operation):
                    opened.append(operation.find_inner(tree))
            for operation, found in zip(self._operations, opened, strict=True):
                with _ErrorsOf(operation):
                    self._found.append(operation.prepare_inner(tree, found))
            tree.leave_scratch_inner()
        finally:
            os.umask(before)
            os.fchdir(here)
            os.close(here)

    def mount_inner(self, say: Callable[[str], None]) -> None:
        """Apply the operations to the root, which is the working directory, before and after.

        say: called with the description of each operation. Raises Refusal, with the operation.
        """
        self._tree.enter_inner()
        before = os.umask(0)
        try:
            for operation, found in zip(self._operations, self._found, strict=True):
                say(operation.describe())
                with _ErrorsOf(operation):
                    operation.apply_inner(self._tree, found)
        finally:
            os.umask(before)
        self._tree.leave_inner()
        for descriptor in {fd for found in self._found for fd in found}:
            os.close(descriptor)


class _ErrorsOf:
    """Context that reports every error as one of its operation."""

    def __init__(self, operation: Operation) -> None:
        self._operation = operation

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if not isinstance(error, OSError):
            return
        refusal = error
        if not isinstance(refusal, Refusal):
            call = error.call if isinstance(error, KernelError) else ""
            path = None if error.filename is None else os.fsdecode(error.filename)
            refusal = Refusal(number=error.errno or 0, what=call, path=path)
        refusal.stage = self._operation.stage()
        if refusal is not error:
            raise refusal from error
