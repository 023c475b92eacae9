"""The operation for a new /dev.

Plain data, created in the parent; functions ending in `_inner` run in the child.
"""

from __future__ import annotations

import os

from pyspaces.kernel import constants
from pyspaces.mounts.operation import Operation
from pyspaces.mounts.tree import NO_SUID

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyspaces.mounts.tree import Tree

_NODES = ("null", "zero", "full", "random", "urandom", "tty")
_LINKS = (
    ("ptmx", "pts/ptmx"),
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("core", "/proc/kcore"),
)
_FILE_SYSTEMS = (
    # A new devpts: terminals of the host are neither seen nor numbered here. Without gid=5, which
    # is mapped only for root.
    ("pts", "devpts", NO_SUID | constants.MS_NOEXEC, "newinstance,ptmxmode=0666,mode=0620"),
    ("shm", "tmpfs", NO_SUID | constants.MS_NODEV, "mode=1777"),
)
_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
_PLACE = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC


class Dev(Operation):
    """Set up a minimal /dev: null, zero, full, random, urandom, tty, with its own pts and shm.

    If the caller has a terminal, that becomes /dev/console.
    """

    target: str = "/dev"

    def describe(self) -> str:
        return f"make a new /dev on {self.target}"

    def find_inner(self, tree: Tree) -> tuple[int, ...]:
        found = [descriptor for name in _NODES for descriptor in tree.source_inner(f"/dev/{name}")]
        terminal = _terminal()
        return (*found, *tree.source_inner(terminal, optional=True)) if terminal else tuple(found)

    def apply_inner(self, tree: Tree, found: tuple[int, ...]) -> None:
        # By its descriptor: somebody may own what leads to the target, and rename it meanwhile.
        point = tree.point_inner(self.target, directory=True)
        top = tree.fresh_inner(point, self.target, "tmpfs", NO_SUID, "mode=0755")
        for name, source in zip((*_NODES, "console"), found, strict=False):
            os.close(os.open(name, _NEW_FILE, 0o444, dir_fd=top))
            tree.attach_inner(source, os.open(name, _PLACE, dir_fd=top), NO_SUID)
        for name, kind, flags, data in _FILE_SYSTEMS:
            os.mkdir(name, 0o755, dir_fd=top)
            point, path = os.open(name, _PLACE, dir_fd=top), f"{self.target.rstrip('/')}/{name}"
            os.close(tree.fresh_inner(point, path, kind, flags, data))
        for name, text in _LINKS:
            os.symlink(text, name, dir_fd=top)
        os.close(top)


def _terminal() -> str | None:
    for descriptor in (0, 1, 2):
        try:
            return os.ttyname(descriptor)
        except OSError:
            continue
    return None
