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
    from typing import Any

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
            opened = [_reporting_inner(one, one.find_inner, tree) for one in self._operations]
            for one, found in zip(self._operations, opened, strict=True):
                self._found.append(_reporting_inner(one, one.prepare_inner, tree, found))
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
                _reporting_inner(operation, operation.apply_inner, self._tree, found)
        finally:
            os.umask(before)
        self._tree.leave_inner()
        for descriptor in {fd for found in self._found for fd in found}:
            os.close(descriptor)


def _reporting_inner(operation: Operation, act: Callable[..., Any], *arguments: object) -> Any:
    """Return the result of `act`. Raises Refusal, as an error of the operation."""
    try:
        return act(*arguments)
    except Refusal as error:
        error.stage = operation.stage()
        raise
    except OSError as error:
        call = error.call if isinstance(error, KernelError) else ""
        path = None if error.filename is None else os.fsdecode(error.filename)
        refusal = Refusal(number=error.errno or 0, what=call, path=path)
        refusal.stage = operation.stage()
        raise refusal from error
