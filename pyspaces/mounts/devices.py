"""Operations for what is special: a /dev of its own, and paths that nobody may read.

Plain data, made in the parent; what ends in `_inner` runs in the child.
"""

from __future__ import annotations

import os
import stat

from pyspaces.kernel import constants
from pyspaces.kernel.libc import KernelError
from pyspaces.mounts.operation import Operation
from pyspaces.mounts.tree import NO_SUID, READ_ONLY
from pyspaces.pattern import matches

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

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
_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
_PLACE = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
_PLAIN = constants.MS_NOSUID | constants.MS_NODEV


class Dev(Operation):
    """A small /dev: null zero full random urandom tty, terminals and shared memory of its own.

    With a console where the caller has a terminal, which is then that.
    """

    target: str = "/dev"

    def describe(self) -> str:
        """Say it in words."""
        return f"make a new /dev on {self.target}"

    def find_inner(self, tree: Tree) -> tuple[int, ...]:
        """Open what comes from outside."""
        found = [descriptor for name in _NODES for descriptor in tree.source_inner(f"/dev/{name}")]
        terminal = _terminal()
        return (*found, *tree.source_inner(terminal, optional=True)) if terminal else tuple(found)

    def apply_inner(self, tree: Tree, found: tuple[int, ...]) -> None:
        """Do it."""
        # By its descriptor: what leads to the target may be somebody's who renames it meanwhile.
        folder = tree.fresh_inner(self.target, "tmpfs", constants.MS_NOSUID, "mode=0755")
        for name, source in zip((*_NODES, "console"), found, strict=False):
            os.close(os.open(name, _NEW_FILE, 0o444, dir_fd=folder))
            tree.attach_inner(source, os.open(name, _PLACE, dir_fd=folder), NO_SUID)
        # A devpts of its own: terminals of the host are neither seen nor numbered here. Without
        # gid=5, which is mapped only for root.
        data = "newinstance,ptmxmode=0666,mode=0620"
        self._fresh_inner(tree, folder, "pts", "devpts", constants.MS_NOEXEC, data)
        self._fresh_inner(tree, folder, "shm", "tmpfs", constants.MS_NODEV, "mode=1777")
        for name, text in _LINKS:
            os.symlink(text, name, dir_fd=folder)
        os.close(folder)

    def _fresh_inner(
        self, tree: Tree, folder: int, name: str, kind: str, flags: int, data: str
    ) -> None:
        os.mkdir(name, 0o755, dir_fd=folder)
        point, path = os.open(name, _PLACE, dir_fd=folder), f"{self.target.rstrip('/')}/{name}"
        os.close(tree.fresh_on_inner(point, path, kind, constants.MS_NOSUID | flags, data))


class Mask(Operation):
    """What `target` names cannot be read: a file is /dev/null, a folder empty and read-only.

    In its parts `*` is any text and `?` any one character, as in a shell. What is missing stays so.
    """

    def describe(self) -> str:
        """Say it in words."""
        return f"mask {self.target}"

    def faults(self) -> Iterator[str]:
        """Yield what is wrong, a line each."""
        yield from super().faults()
        if not self.target.strip("/"):
            yield f"{self.target!r}: the root cannot be masked"

    def find_inner(self, tree: Tree) -> tuple[int, ...]:
        """Open what comes from outside."""
        return tree.source_inner("/dev/null")

    def prepare_inner(self, tree: Tree, found: tuple[int, ...]) -> tuple[int, ...]:
        """Make what is attached later, out of sight."""
        return found  # there may be many to mask, or none

    def apply_inner(self, tree: Tree, found: tuple[int, ...]) -> None:
        """Do it."""
        for path in _glob_inner(tree, self.target):
            there = tree.look_inner(path)
            if there is None:
                continue
            if stat.S_ISDIR(os.fstat(there).st_mode):
                flags = _PLAIN | constants.MS_RDONLY
                data = "mode=0555,nr_inodes=1"
                os.close(tree.fresh_on_inner(there, path, "tmpfs", flags, data))
            else:
                source = tree.copy_inner(os.dup(found[0]))
                tree.attach_inner(source, there, READ_ONLY | NO_SUID)
                os.close(source)


def _glob_inner(tree: Tree, pattern: str) -> list[str]:
    """Return the paths that a pattern may mean, as they read inside."""
    paths = [""]
    for part in pattern.split("/"):
        if not part:
            continue
        if "*" in part or "?" in part:
            paths = [f"{path}/{name}" for path in paths for name in _names_inner(tree, path, part)]
        else:
            paths = [f"{path}/{part}" for path in paths]
    return paths


def _names_inner(tree: Tree, path: str, pattern: str) -> list[str]:
    """Return what fits in a folder; nothing in one that cannot be listed, by the command either."""
    try:
        folder = tree.look_inner(path or "/", os.O_RDONLY | os.O_DIRECTORY)
    except KernelError:
        return []
    if folder is None:
        return []
    try:
        names = os.listdir(folder)
    finally:
        os.close(folder)
    hidden = pattern.startswith(".")
    return sorted(
        name for name in names if matches(name, pattern) and (hidden or not name.startswith("."))
    )


def _terminal() -> str | None:
    for descriptor in (0, 1, 2):
        try:
            return os.ttyname(descriptor)
        except OSError:
            continue
    return None
