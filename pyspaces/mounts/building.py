"""The operations of a plan, carried out on a tree in their order.

Made in the parent, before the clone; what ends in `_inner` runs in the child.
"""

from __future__ import annotations

import os

from pyspaces.mounts.failing import Doing

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pyspaces.mounts.operations import Operation
    from pyspaces.mounts.tree import Tree


class Building:
    """Operations, and the tree to which they are applied: found first, then mounted."""

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
                with Doing(operation.stage()):
                    opened.append(operation.find_inner(tree))
            for operation, found in zip(self._operations, opened, strict=True):
                with Doing(operation.stage()):
                    self._found.append(operation.prepare_inner(tree, found))
            tree.leave_scratch_inner()
        finally:
            os.umask(before)
            os.fchdir(here)
            os.close(here)

    def mount_inner(self, say: Callable[[str], None]) -> None:
        """Apply the operations to the root, which is the working directory, before and after.

        say: told each of them as it begins. Raises Refusal, with the operation.
        """
        self._tree.enter_inner()
        before = os.umask(0)
        try:
            for operation, found in zip(self._operations, self._found, strict=True):
                say(operation.describe())
                with Doing(operation.stage()):
                    operation.apply_inner(self._tree, found)
        finally:
            os.umask(before)
        self._tree.leave_inner()
        for descriptor in {fd for found in self._found for fd in found}:
            os.close(descriptor)
