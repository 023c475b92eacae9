"""Overlays: folders laid over each other, with the changes kept apart or thrown away.

Plain data, made in the parent; what ends in `_inner` runs in the child. The rules are those of
Documentation/filesystems/overlayfs.rst of the kernel.
"""

from __future__ import annotations

import errno
import os

from pyspaces.errors import Refusal
from pyspaces.kernel import constants, mountinfo, nsfs
from pyspaces.kernel.libc import KernelError
from pyspaces.mounts.operation import Operation, path_faults

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pyspaces.mounts.tree import Tree

_PLAIN = constants.MS_NOSUID | constants.MS_NODEV
_FOLDER = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC


class _Layers(Operation):
    """lower: folders of outside, the lowest first; a file that several have is the last one's."""

    lower: tuple[str, ...]

    def _layers(self) -> str:
        return " over ".join(reversed(self.lower)) or "nothing"

    def faults(self) -> Iterator[str]:
        for path in self.lower:
            yield from path_faults("source", path)
        if not self.lower:
            yield "requires a layer: add --overlay-src"
        yield from super().faults()

    def find_inner(self, tree: Tree) -> tuple[int, ...]:
        return tuple(fd for path in self.lower for fd in tree.source_inner(path))

    def apply_inner(self, tree: Tree, found: tuple[int, ...]) -> None:
        tree.bind_inner(found[0], self.target)


class Overlay(_Layers):
    """An overlay whose changes are kept in the folder `upper` of outside.

    work: an empty folder on the same file system, for the kernel's use. lower: as in TmpOverlay.
    """

    upper: str
    work: str

    def describe(self) -> str:
        """Say it in words."""
        return f"lay {self.upper} over {self._layers()} on {self.target}"

    def faults(self) -> Iterator[str]:
        """Yield what is wrong, a line each."""
        yield from super().faults()
        for path in (self.upper, self.work):
            yield from path_faults("source", path)

    def find_inner(self, tree: Tree) -> tuple[int, ...]:
        """Open what comes from outside."""
        upper, work = (tree.source_inner(path)[0] for path in (self.upper, self.work))
        return (*super().find_inner(tree), upper, work)

    def prepare_inner(self, tree: Tree, found: tuple[int, ...]) -> tuple[int, ...]:
        """Make what is attached later, out of sight."""
        *lower, upper, work = found
        if os.fstat(upper).st_dev != os.fstat(work).st_dev:
            raise Refusal(
                "is not on the same file system as the directory for changes", path=self.work
            )
        return (_mounted_inner(tree, lower, upper, work),)


class TmpOverlay(_Layers):
    """An overlay whose changes are kept in memory, and vanish. size: of the changes, in bytes.

    lower: folders of outside, the lowest first; a file that several have is the last one's.
    """

    size: int | None = None

    def describe(self) -> str:
        """Say it in words."""
        size = "" if self.size is None else f", up to {self.size} bytes"
        return f"lay changes in memory{size} over {self._layers()} on {self.target}"

    def prepare_inner(self, tree: Tree, found: tuple[int, ...]) -> tuple[int, ...]:
        """Make what is attached later, out of sight."""
        size = "" if self.size is None else f",size={self.size}"
        # A tmpfs for each, so that one that is full fills no other.
        flags = constants.MS_NOSUID | constants.MS_NODEV
        place = tree.hidden_inner("tmpfs", flags, f"mode=0700{size}")
        upper, work = (_new_folder(place, name) for name in ("upper", "work"))
        # The folder that is seen has the owner and the mode of the one that it lies over.
        _dress(place, "upper", os.fstat(found[-1]))
        tree.keep_inner(self.target, upper)
        copy = _mounted_inner(tree, found, upper, work)
        os.close(place)
        return (copy,)

    def apply_inner(self, tree: Tree, found: tuple[int, ...]) -> None:
        """Do it."""
        super().apply_inner(tree, found)
        # A copy of mounts, or what it is made of, is on the file system that is mounted now.
        tree.own_inner(found[0])


class RoOverlay(_Layers):
    """An overlay that cannot be changed, of two folders or more. lower: as in TmpOverlay."""

    def describe(self) -> str:
        """Say it in words."""
        return f"lay {self._layers()} on {self.target}, read-only"

    def faults(self) -> Iterator[str]:
        """Yield what is wrong, a line each."""
        yield from super().faults()
        if len(self.lower) == 1:
            yield "requires two layers or more: add --overlay-src"

    def prepare_inner(self, tree: Tree, found: tuple[int, ...]) -> tuple[int, ...]:
        """Make what is attached later, out of sight."""
        return (_mounted_inner(tree, found, None, None),)


def _new_folder(parent: int, name: str) -> int:
    os.mkdir(name, 0o755, dir_fd=parent)
    return os.open(name, _FOLDER, dir_fd=parent)


def _dress(parent: int, name: str, like: os.stat_result) -> None:
    """Give a folder the owner, where that is one that exists inside, and the mode of another."""
    try:
        os.chown(name, like.st_uid, like.st_gid, dir_fd=parent)
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.EINVAL):
            raise
    os.chmod(name, like.st_mode & 0o7777, dir_fd=parent)


def _mounted_inner(tree: Tree, lower: Sequence[int], upper: int | None, work: int | None) -> int:
    """Mount an overlay out of sight, close what it is made of, and return what can be attached."""
    options = ["lowerdir=" + ":".join(f"/proc/self/fd/{fd}" for fd in reversed(lower))]
    if upper is not None:
        options += [f"upperdir=/proc/self/fd/{upper}", f"workdir=/proc/self/fd/{work}"]
    # What overlayfs notes of deleted folders it keeps in attributes trusted.*, which only root of
    # the host may write; in a user namespace user.* have to do, since Linux 5.11.
    if nsfs.inode_of(os.readlink("/proc/self/ns/user")) != constants.PROC_USER_INIT_INO:
        options.append("userxattr")
    elif tree.is_compared:
        # What is in the folder for changes is then whole: no file without its content, nor a
        # renamed folder that is a mere reference. With userxattr that is so anyway.
        options += ["redirect_dir=off", "metacopy=off"]
    # As what is bound; and where programs cannot be executed outside, they cannot inside.
    flags = os.fstatvfs(lower[-1]).f_flag & constants.MS_NOEXEC | _PLAIN
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
    """Explain EINVAL, which is all that mount(2) says of overlays that cannot be."""
    if error.errno != errno.EINVAL:
        return ""
    if upper is not None and mountinfo.kind_of(upper) == "overlay":
        return "the directory for changes is on an overlay, which overlayfs does not allow"
    if any(mountinfo.kind_of(fd) == "overlay" for fd in lower):
        return "a layer is on an overlay, and overlayfs can be stacked two levels deep at most"
    return ""
