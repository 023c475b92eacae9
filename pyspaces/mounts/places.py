"""Operations that create something inside, or change what is there.

Plain data, created in the parent; functions ending in `_inner` run in the child.
"""

from __future__ import annotations

import errno
import os
import stat

from pyspaces.errors import Refusal
from pyspaces.kernel import constants, mountinfo
from pyspaces.kernel.libc import KernelError
from pyspaces.mounts.operation import Operation
from pyspaces.mounts.tree import PLAIN, READ_ONLY, remount_inner

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import ClassVar

    from pyspaces.mounts.tree import Tree


class Tmpfs(Operation):
    """Mount a tmpfs.

    size: its limit in bytes; None for the kernel's default, half of the memory. perms: the mode of
    its root directory. no_exec: let no file be executed.
    """

    size: int | None = None
    perms: int = 0o755
    no_exec: bool = False

    def describe(self) -> str:
        size = "" if self.size is None else f" of {self.size} bytes"
        nothing = ", with nothing to execute" * self.no_exec
        return f"mount a tmpfs{size} on {self.target}, mode {self.perms:04o}{nothing}"

    def faults(self) -> Iterator[str]:
        yield from super().faults()
        if self.size is not None and self.size < 1:
            yield f"size: {self.size}: is not a number of bytes"

    def apply_inner(self, tree: Tree, found: tuple[int, ...]) -> None:
        size = "" if self.size is None else f",size={self.size}"
        point = tree.point_inner(self.target, directory=True, perms=self.perms)
        data = f"mode={self.perms:o}{size}"
        flags = PLAIN | constants.MS_NOEXEC * self.no_exec
        os.close(tree.fresh_inner(point, self.target, "tmpfs", flags, data))


class _Fresh(Operation):
    """A file system that shows the state of the new namespaces."""

    _type: ClassVar[str] = ""

    def describe(self) -> str:
        return f"mount a new {self._type} on {self.target}"

    def apply_inner(self, tree: Tree, found: tuple[int, ...]) -> None:
        point = tree.point_inner(self.target, directory=True)
        flags = PLAIN | constants.MS_NOEXEC
        os.close(tree.fresh_inner(point, self.target, self._type, flags))


class Proc(_Fresh):
    """Mount a procfs for the command's pid namespace: proc(5)."""

    target: str = "/proc"
    _type = "proc"

    def describe(self) -> str:
        where = "" if self.target == "/proc" else f" on {self.target}"
        return f"mount a new /proc{where}"


class Sysfs(_Fresh):
    """Mount a sysfs for the command's network namespace, which must be new: sysfs(5)."""

    target: str = "/sys"
    _type = "sysfs"


class Mqueue(_Fresh):
    """Mount the POSIX message queues of the command's IPC namespace: mq_overview(7)."""

    target: str = "/dev/mqueue"
    _type = "mqueue"


class Dir(Operation):
    """Create a directory if it is missing. perms: its mode."""

    perms: int = 0o755

    def describe(self) -> str:
        return f"create the directory {self.target}, mode {self.perms:04o}"

    def apply_inner(self, tree: Tree, found: tuple[int, ...]) -> None:
        there = tree.look_inner(self.target)
        if there is None:
            tree.make_inner(self.target, directory=True, mode=self.perms, perms=self.perms)
            return
        is_directory = stat.S_ISDIR(os.fstat(there).st_mode)
        os.close(there)
        if not is_directory:
            raise Refusal("exists, and is not a directory", path=self.target)


class Symlink(Operation):
    """Create a symbolic link to `text` at `target`, unless there is the same link already."""

    text: str

    def describe(self) -> str:
        return f"create the symbolic link {self.target} to {self.text}"

    def faults(self) -> Iterator[str]:
        yield from super().faults()
        if not self.target.strip("/"):
            yield f"{self.target!r}: the root cannot be a symbolic link"

    def apply_inner(self, tree: Tree, found: tuple[int, ...]) -> None:
        there = tree.look_inner(self.target, os.O_PATH | os.O_NOFOLLOW)
        if there is not None:
            try:
                same = os.readlink("", dir_fd=there) == self.text
            except OSError:
                same = False
            os.close(there)
            if same:
                return
            raise Refusal("exists, and is not this link", path=self.target)
        parent, name = tree.parent_inner(self.target)
        os.symlink(self.text, name, dir_fd=parent)
        os.close(parent)


class RemountRo(Operation):
    """Make the mount at `target` read-only, but not those below it."""

    def describe(self) -> str:
        return f"make the mount {self.target} read-only"

    def apply_inner(self, tree: Tree, found: tuple[int, ...]) -> None:
        top = tree.top_inner(self.target)
        try:
            tree.restrict_inner(top, READ_ONLY, recursive=False)
        except KernelError as error:
            # fs/namespace.c, do_mount_setattr(): only the root of a mount has attributes.
            if error.errno == errno.EINVAL:
                raise Refusal("is not a mount point", path=self.target) from error
            raise
        os.close(top)


class ReadOnly(Operation):
    """Make everything at `target` read-only, including the mounts below it.

    If `target` is the root, /proc remains writable: creating namespaces requires writing to
    /proc/PID/uid_map.
    """

    target: str = "/"

    def describe(self) -> str:
        return f"make everything in {self.target} read-only"

    def apply_inner(self, tree: Tree, found: tuple[int, ...]) -> None:
        top = tree.top_inner(self.target)
        proc = None if self.target.strip("/") else _writable_proc_inner(tree)
        tree.restrict_inner(top, READ_ONLY, recursive=True)
        os.close(top)
        if proc is not None:
            # The flag is not locked, because it was set in this namespace: mount_namespaces(7).
            remount_inner(proc, 0, cleared=READ_ONLY)
            os.close(proc)


def _writable_proc_inner(tree: Tree) -> int | None:
    """Return a descriptor of /proc if it is a whole, writable procfs, else None."""
    there = tree.look_inner("/proc")
    if there is None:
        return None
    whole = os.fstat(there).st_ino == constants.PROC_ROOT_INO
    read_only = os.fstatvfs(there).f_flag & os.ST_RDONLY
    if whole and not read_only and mountinfo.kind_of(there) == "proc":
        return there
    os.close(there)
    return None


class Chmod(Operation):
    """Set the mode of something that this launch has created."""

    perms: int

    def describe(self) -> str:
        return f"set the mode of {self.target} to {self.perms:04o}"

    def apply_inner(self, tree: Tree, found: tuple[int, ...]) -> None:
        there = tree.top_inner(self.target)
        if not tree.is_ours(there):
            raise Refusal("belongs to the host, and is not changed", path=self.target)
        # /proc of the old root: chmod(2) does not take O_PATH descriptors.
        os.chmod(f"/proc/self/fd/{there}", self.perms)
        os.close(there)
