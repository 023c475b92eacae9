"""Operations that make something new inside, or change what is there.

Plain data, made in the parent; what ends in `_inner` runs in the child.
"""

from __future__ import annotations

import os
import stat

from pyspaces.errors import Refusal
from pyspaces.kernel import constants, mountinfo
from pyspaces.mounts import classic
from pyspaces.mounts.operation import Operation, mode_faults, path_faults
from pyspaces.mounts.tree import READ_ONLY

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import ClassVar

    from pyspaces.mounts.tree import Tree

_PLAIN = constants.MS_NOSUID | constants.MS_NODEV
_PROC_ROOT_INO = 1  # linux/proc_fs.h


class Tmpfs(Operation):
    """An empty file system in memory.

    size: at most so many bytes; None for the kernel's rule, half of the memory. perms: the mode of
    the folder itself.
    """

    size: int | None = None
    perms: int = 0o755

    def describe(self) -> str:
        """Say it in words."""
        size = "" if self.size is None else f" of {self.size} bytes"
        return f"mount a tmpfs{size} on {self.target}, mode {self.perms:04o}"

    def faults(self) -> Iterator[str]:
        """Yield what is wrong, a line each."""
        yield from super().faults()
        yield from mode_faults(self.perms)
        if self.size is not None and self.size < 1:
            yield f"size: {self.size}: is not a number of bytes"

    def apply_inner(self, tree: Tree, found: tuple[int, ...]) -> None:
        """Do it."""
        size = "" if self.size is None else f",size={self.size}"
        point = tree.point_inner(self.target, folder=True, perms=self.perms)
        data = f"mode={self.perms:o}{size}"
        os.close(tree.fresh_on_inner(point, self.target, "tmpfs", _PLAIN, data))


class _Fresh(Operation):
    """A file system of the kernel, which shows what belongs to the new namespaces."""

    _type: ClassVar[str] = ""

    def describe(self) -> str:
        return f"mount a new {self._type} on {self.target}"

    def apply_inner(self, tree: Tree, found: tuple[int, ...]) -> None:
        os.close(tree.fresh_inner(self.target, self._type, _PLAIN | constants.MS_NOEXEC))


class Proc(_Fresh):
    """A procfs, of the command's pid namespace: proc(5)."""

    target: str = "/proc"
    _type = "proc"

    def describe(self) -> str:
        """Say it in words."""
        where = "" if self.target == "/proc" else f" on {self.target}"
        return f"mount a new /proc{where}"


class Sysfs(_Fresh):
    """A sysfs, of the command's network namespace, which has to be a new one: sysfs(5)."""

    target: str = "/sys"
    _type = "sysfs"


class Mqueue(_Fresh):
    """The POSIX message queues of the command's IPC namespace: mq_overview(7)."""

    target: str = "/dev/mqueue"
    _type = "mqueue"


class Dir(Operation):
    """A folder, made where it is missing. perms: its mode if it is made."""

    perms: int = 0o755

    def describe(self) -> str:
        """Say it in words."""
        return f"create the directory {self.target}, mode {self.perms:04o}"

    def faults(self) -> Iterator[str]:
        """Yield what is wrong, a line each."""
        yield from super().faults()
        yield from mode_faults(self.perms)

    def apply_inner(self, tree: Tree, found: tuple[int, ...]) -> None:
        """Do it."""
        there = tree.look_inner(self.target)
        if there is None:
            tree.make_inner(self.target, folder=True, mode=self.perms)
            return
        is_folder = stat.S_ISDIR(os.fstat(there).st_mode)
        os.close(there)
        if not is_folder:
            raise Refusal("exists, and is not a directory", path=self.target)


class Symlink(Operation):
    """A symbolic link at `target` that says `text`; one that is there and says the same is fine."""

    text: str

    def describe(self) -> str:
        """Say it in words."""
        return f"make the symbolic link {self.target} to {self.text}"

    def faults(self) -> Iterator[str]:
        """Yield what is wrong, a line each."""
        yield from path_faults("text", self.text)
        yield from super().faults()
        if not self.target.strip("/"):
            yield f"{self.target!r}: the root cannot be a symbolic link"

    def apply_inner(self, tree: Tree, found: tuple[int, ...]) -> None:
        """Do it."""
        there = tree.look_inner(self.target, os.O_PATH | os.O_NOFOLLOW)
        if there is not None:
            try:
                same = os.readlink("", dir_fd=there) == self.text
            except OSError:
                same = False
            os.close(there)
            if same:
                return
            raise Refusal("something else is there already", path=self.target)
        parent, name = tree.parent_inner(self.target)
        os.symlink(self.text, name, dir_fd=parent)
        os.close(parent)


class RemountRo(Operation):
    """The mount at `target` becomes read-only; those beneath it stay as they are."""

    def describe(self) -> str:
        """Say it in words."""
        return f"make the mount {self.target} read-only"

    def apply_inner(self, tree: Tree, found: tuple[int, ...]) -> None:
        """Do it."""
        top = tree.top_inner(self.target)
        tree.restrict_inner(top, READ_ONLY, recursive=False)
        os.close(top)


class ReadOnly(Operation):
    """Everything at `target`, and on every mount beneath it, becomes read-only.

    Of the whole tree /proc itself stays as it was: whoever starts something in namespaces has to
    write there, to /proc/PID/uid_map first of all.
    """

    target: str = "/"

    def describe(self) -> str:
        """Say it in words."""
        return f"make everything in {self.target} read-only"

    def apply_inner(self, tree: Tree, found: tuple[int, ...]) -> None:
        """Do it."""
        top = tree.top_inner(self.target)
        proc = None if self.target.strip("/") else _writable_proc_inner(tree)
        tree.restrict_inner(top, READ_ONLY, recursive=True)
        os.close(top)
        if proc is not None:
            # Not locked, for it was set in this namespace: mount_namespaces(7).
            classic.remount_inner(proc, 0, cleared=READ_ONLY)
            os.close(proc)


def _writable_proc_inner(tree: Tree) -> int | None:
    """Return the procfs on /proc, where it can be written to; None where that is not so."""
    there = tree.look_inner("/proc")
    if there is None:
        return None
    whole = os.fstat(there).st_ino == _PROC_ROOT_INO
    read_only = os.fstatvfs(there).f_flag & os.ST_RDONLY
    if whole and not read_only and mountinfo.kind_of(there) == "proc":
        return there
    os.close(there)
    return None


class Chmod(Operation):
    """The mode of something that this launch has made."""

    perms: int

    def describe(self) -> str:
        """Say it in words."""
        return f"set the mode of {self.target} to {self.perms:04o}"

    def faults(self) -> Iterator[str]:
        """Yield what is wrong, a line each."""
        yield from super().faults()
        yield from mode_faults(self.perms)

    def apply_inner(self, tree: Tree, found: tuple[int, ...]) -> None:
        """Do it."""
        there = tree.top_inner(self.target)
        if not tree.is_ours(there):
            raise Refusal("belongs to the host, and is not changed", path=self.target)
        # The old root's /proc: chmod(2) takes no O_PATH descriptor.
        os.chmod(f"/proc/self/fd/{there}", self.perms)
        os.close(there)
