"""The operation for paths that nobody may read.

Plain data, created in the parent; functions ending in `_inner` run in the child.
"""

from __future__ import annotations

import os

from pyspaces.kernel.libc import KernelError
from pyspaces.mounts.operation import Operation
from pyspaces.pattern import matches

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from pyspaces.mounts.tree import Tree


class Mask(Operation):
    """Hide `target`: files read empty, directories appear empty.

    In its parts, `*` is any text and `?` any one character, as in a shell. Missing paths are
    ignored.
    """

    def describe(self) -> str:
        return f"mask {self.target}"

    def faults(self) -> Iterator[str]:
        yield from super().faults()
        if not self.target.strip("/"):
            yield f"{self.target!r}: the root cannot be masked"

    def find_inner(self, tree: Tree) -> tuple[int, ...]:
        return tree.source_inner("/dev/null")

    def prepare_inner(self, tree: Tree, found: tuple[int, ...]) -> tuple[int, ...]:
        return found  # copied for each path, of which there may be many, or none

    def apply_inner(self, tree: Tree, found: tuple[int, ...]) -> None:
        for path in _glob_inner(tree, self.target):
            if (there := tree.look_inner(path)) is not None:
                tree.hide_inner(there, path, found[0])


def _glob_inner(tree: Tree, pattern: str) -> list[str]:
    """Return the paths inside that may match a pattern."""
    paths = [""]
    for part in filter(None, pattern.split("/")):
        if "*" in part or "?" in part:
            paths = [f"{path}/{name}" for path in paths for name in _names_inner(tree, path, part)]
        else:
            paths = [f"{path}/{part}" for path in paths]
    return paths


def _names_inner(tree: Tree, path: str, pattern: str) -> list[str]:
    """Return the matching names in a directory; none if it cannot be listed."""
    try:
        directory = tree.top_inner(path or "/", os.O_RDONLY | os.O_DIRECTORY)
    except KernelError:
        return []
    try:
        names = os.listdir(directory)
    finally:
        os.close(directory)
    hidden = pattern.startswith(".")
    return sorted(
        name for name in names if matches(name, pattern) and (hidden or not name.startswith("."))
    )
