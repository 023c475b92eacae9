"""Overlays: directories on top of each other, with the changes stored separately or discarded.

Plain data, created in the parent; functions ending in `_inner` run in the child. The rules are in
Documentation/filesystems/overlayfs.rst of the kernel.
"""

from __future__ import annotations

import errno
import os

from pyspaces.errors import Refusal
from pyspaces.kernel import constants, mountinfo, nsfs
from pyspaces.kernel.libc import KernelError
from pyspaces.mounts.operation import Operation
from pyspaces.mounts.tree import PLAIN

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pyspaces.mounts.tree import Tree


class _Layers(Operation):
    """lower: directories outside, the lowest first; a higher one hides files of lower ones."""

    lower: tuple[str, ...]

    def _layers(self) -> str:
        return " over ".join(reversed(self.lower)) or "nothing"

    def faults(self) -> Iterator[str]:
        yield from super().faults()
        if not self.lower:
            yield "requires a layer: add --overlay-src"

    def find_inner(self, tree: Tree) -> tuple[int, ...]:
        return tuple(fd for path in self.lower for fd in tree.source_inner(path))

    def apply_inner(self, tree: Tree, found: tuple[int, ...]) -> None:
        tree.bind_inner(found[0], self.target)


class Overlay(_Layers):
    """Mount an overlay whose changes are stored in the directory `upper` outside.

    work: an empty directory on the same file system, for the kernel. lower: as in TmpOverlay.
    """

    upper: str
    work: str

    def describe(self) -> str:
        return f"lay {self.upper} over {self._layers()} on {self.target}"

    def find_inner(self, tree: Tree) -> tuple[int, ...]:
        upper, work = (tree.source_inner(path)[0] for path in (self.upper, self.work))
        return (*super().find_inner(tree), upper, work)

    def prepare_inner(self, tree: Tree, found: tuple[int, ...]) -> tuple[int, ...]:
        *lower, upper, work = found
        if os.fstat(upper).st_dev != os.fstat(work).st_dev:
            raise Refusal(
                "is not on the same file system as the directory for changes", path=self.work
            )
        if os.path.sameopenfile(upper, work):
            raise Refusal("cannot be the directory for changes as well", path=self.work)
        return (_mounted_inner(tree, lower, upper, work),)


class TmpOverlay(_Layers):
    """Mount an overlay whose changes are stored in memory and discarded at the end.

    size: the limit of the changes, in bytes. lower: directories outside, the lowest first; a higher
    one hides files of lower ones.
    """

    size: int | None = None

    def describe(self) -> str:
        size = "" if self.size is None else f", up to {self.size} bytes"
        return f"lay changes in memory{size} over {self._layers()} on {self.target}"

    def prepare_inner(self, tree: Tree, found: tuple[int, ...]) -> tuple[int, ...]:
        size = "" if self.size is None else f",size={self.size}"
        # A tmpfs for each, so that filling one does not fill the others.
        place = tree.hidden_inner("tmpfs", PLAIN, f"mode=0700{size}")
        upper, work = (_new_directory(place, name) for name in ("upper", "work"))
        # The directory that is seen has the owner and the mode of the one that it covers.
        _copy_owner_and_mode(place, "upper", os.fstat(found[-1]))
        if tree.keep:
            tree.keep(self.target, upper)
        copy = _mounted_inner(tree, found, upper, work)
        os.close(place)
        return (copy,)

    def apply_inner(self, tree: Tree, found: tuple[int, ...]) -> None:
        super().apply_inner(tree, found)
        tree.own_inner(found[0])


class RoOverlay(_Layers):
    """Mount a read-only overlay of two or more directories. lower: as in TmpOverlay."""

    def describe(self) -> str:
        return f"lay {self._layers()} on {self.target}, read-only"

    def faults(self) -> Iterator[str]:
        yield from super().faults()
        if len(self.lower) == 1:
            yield "requires two layers or more: add --overlay-src"

    def prepare_inner(self, tree: Tree, found: tuple[int, ...]) -> tuple[int, ...]:
        return (_mounted_inner(tree, found, None, None),)


def _new_directory(parent: int, name: str) -> int:
    os.mkdir(name, 0o755, dir_fd=parent)
    return os.open(name, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=parent)


def _copy_owner_and_mode(parent: int, name: str, like: os.stat_result) -> None:
    """Give a directory the mode of another, and its owner if that is mapped inside."""
    try:
        os.chown(name, like.st_uid, like.st_gid, dir_fd=parent)
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.EINVAL):
            raise
    os.chmod(name, like.st_mode & 0o7777, dir_fd=parent)


def _mounted_inner(tree: Tree, lower: Sequence[int], upper: int | None, work: int | None) -> int:
    """Mount a hidden overlay, close its layers, and return a copy that can be attached."""
    options = ["lowerdir=" + ":".join(f"/proc/self/fd/{fd}" for fd in reversed(lower))]
    if upper is not None:
        options += [f"upperdir=/proc/self/fd/{upper}", f"workdir=/proc/self/fd/{work}"]
    # overlayfs marks deleted directories with attributes trusted.*, which only root of the host may
    # write; in a user namespace it uses user.* instead, since Linux 5.11.
    if nsfs.inode_of(os.readlink("/proc/self/ns/user")) != constants.PROC_USER_INIT_INO:
        options.append("userxattr")
    elif tree.keep:
        # The directory with the changes is then complete: no file without its content, and no
        # renamed directory that is only a reference. With userxattr it always is.
        options += ["redirect_dir=off", "metacopy=off"]
    # If programs cannot be executed outside, they cannot be executed inside.
    flags = os.fstatvfs(lower[-1]).f_flag & constants.MS_NOEXEC | PLAIN
    try:
        mounted = tree.hidden_inner("overlay", flags, ",".join(options))
    except KernelError as error:
        raise Refusal(
            _why_not(lower, upper, error), number=error.errno or 0, what="mount", path="overlay"
        ) from error
    for descriptor in (*lower, *(fd for fd in (upper, work) if fd is not None)):
        os.close(descriptor)
    return tree.copy_inner(mounted)


def _why_not(lower: Sequence[int], upper: int | None, error: KernelError) -> str:
    """Explain EINVAL, which is all that mount(2) says about impossible overlays."""
    if error.errno != errno.EINVAL:
        return ""
    if upper is not None and mountinfo.kind_of(upper) == "overlay":
        return "the directory for changes is on an overlay, which overlayfs does not allow"
    if any(mountinfo.kind_of(fd) == "overlay" for fd in lower):
        return "a layer is on an overlay, and overlayfs can be stacked two levels deep at most"
    return ""
