"""The tree that a command will see, while it is built: mounts, each at its place inside.

Made in the parent, before the clone; everything that ends in `_inner` runs in the child. The new
root is attached over the old one, which stays the root of the process meanwhile: so sources are
found outside, and targets, resolved beneath the new root, can never lead there.
"""

from __future__ import annotations

import errno
import os
import stat

from pyspaces.errors import Refusal
from pyspaces.kernel import constants, libc, mountapi, procfs
from pyspaces.kernel.libc import KernelError
from pyspaces.mounts import classic
from pyspaces.mounts.failing import refused_making

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_PATH = os.O_PATH | os.O_CLOEXEC
_FOLDER = _PATH | os.O_DIRECTORY
READ_ONLY, NO_DEVICES = constants.MOUNT_ATTR_RDONLY, constants.MOUNT_ATTR_NODEV
NO_SUID = constants.MOUNT_ATTR_NOSUID


class Tree:
    """The new root while it is built, and what is ours in it: what operations act on.

    empty: whether the root itself is a fresh tmpfs, and so ours. keep: called with the target and
    a descriptor for each directory that holds changes which vanish.
    """

    def __init__(
        self, *, empty: bool = False, keep: Callable[[str, int], object] | None = None
    ) -> None:
        self._empty = empty
        self._ours: set[int] = set()
        self._scratch = -1
        self._made = 0
        self._keep = keep
        self._root = -1
        # Whether the kernel, and a filter before it, has mount_setattr(2).
        self._attributes = True

    # Before the root moves, and around the operations.

    def leave_scratch_inner(self) -> None:
        """Hide the scratch directory, once all that belongs in it has been made. Moves to it."""
        if self._scratch >= 0:
            # Nobody needs its place: there are copies of all that was made in it.
            os.fchdir(self._scratch)
            libc.umount(".", constants.MNT_DETACH)

    def enter_inner(self) -> None:
        """Take the working directory for the root to be."""
        self.begin_inner(os.open(".", _FOLDER))
        if self._empty:
            self._ours.add(os.fstat(self._root).st_dev)

    def leave_inner(self) -> None:
        """Make what is the root to be by now the working directory, and release everything."""
        os.fchdir(self._root)
        self.end_inner()
        if self._scratch >= 0:
            os.close(self._scratch)

    def begin_inner(self, root: int) -> None:
        """Let what is not an operation change the root to be, which is open as `root`."""
        self._root = root

    def end_inner(self) -> None:
        """Close it."""
        os.close(self._root)

    # For operations that look for something outside.

    def source_inner(self, path: str, *, optional: bool = False) -> tuple[int, ...]:
        """Open `path`; nothing where it may be missing and is."""
        try:
            return (os.open(path, _PATH),)
        except OSError as error:
            if optional and error.errno in (errno.ENOENT, errno.ENOTDIR):
                return ()
            raise Refusal(number=error.errno or 0, what="source", path=path) from None

    def copy_inner(self, descriptor: int) -> int:
        """Return a copy of the mounts behind a descriptor, which is closed."""
        copy = mountapi.open_tree(descriptor)
        os.close(descriptor)
        return copy

    def scratch_inner(self) -> int:
        """Return a folder of ours that nobody will see: a descriptor of a tmpfs over the old root.

        What is mounted over "/" is reached by "/..", and by no other path.
        """
        if self._scratch < 0:
            flags = constants.MS_NOSUID | constants.MS_NODEV
            libc.mount("tmpfs", "/", "tmpfs", flags, "mode=0700")
            self._scratch = os.open("/..", _FOLDER)
        return self._scratch

    def hidden_inner(self, kind: str, flags: int, data: str) -> int:
        """Mount a file system of type `kind` in the scratch folder; return its root."""
        name = self.scratch_name()
        os.mkdir(name, 0o700, dir_fd=self.scratch_inner())
        os.chdir(f"/proc/self/fd/{self._scratch}/{name}")
        libc.mount(kind, ".", kind, flags, data)
        return os.open(name, _FOLDER, dir_fd=self._scratch)

    def keep_inner(self, target: str, upper: int) -> None:
        """Let the launcher know the folder that holds the changes of an overlay on `target`."""
        if self._keep:
            self._keep(target, upper)

    @property
    def is_compared(self) -> bool:
        """Whether the folders with changes will be looked at from outside."""
        return self._keep is not None

    def scratch_name(self) -> str:
        """Return a name that is free in the scratch folder."""
        self._made += 1
        return str(self._made)

    # For operations that change something inside.

    def point_inner(self, target: str, *, folder: bool, perms: int = 0o777) -> int:
        """Return the mount point `target`, which is made where it is missing and we may.

        folder: whether it has to be a folder, or a file. perms: the mode of what will be seen
        there. The caller closes the descriptor.
        """
        descriptor = self.look_inner(target)
        if descriptor is None:
            self.make_inner(target, folder=folder, mode=0o755 if folder else 0o444, perms=perms)
            descriptor = self.look_inner(target)
            assert descriptor is not None
        if stat.S_ISDIR(os.fstat(descriptor).st_mode) != folder:
            os.close(descriptor)
            there, wanted = ("file", "folder") if folder else ("folder", "file")
            raise Refusal(f"is a {there}, and what belongs there a {wanted}", path=target)
        if target.strip("/") and _same_place(descriptor, self._root):
            # Once covered, such a path leads elsewhere: an operation that looks again would act on
            # something that the caller did not mean.
            os.close(descriptor)
            raise Refusal("leads to the root directory; as a target, that is /", path=target)
        return descriptor

    def look_inner(self, target: str, flags: int = os.O_PATH) -> int | None:
        """Open `target` as it reads inside, links and all; None where it is missing."""
        try:
            return libc.openat2(self._root, target, flags, constants.RESOLVE_IN_ROOT)
        except KernelError as error:
            if error.errno in (errno.ENOENT, errno.ENOTDIR):
                return None
            raise

    def make_inner(self, target: str, *, folder: bool, mode: int, perms: int | None = None) -> None:
        """Make `target`, a folder or an empty file, and the folders above it.

        perms: as for `parent_inner`; None for `mode`.
        """
        parent, name = self.parent_inner(target, mode if perms is None else perms)
        try:
            if folder:
                os.mkdir(name, mode, dir_fd=parent)
            else:
                flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
                os.close(os.open(name, flags, mode, dir_fd=parent))
        except OSError as error:
            raise refused_making(error, target, parent) from None
        finally:
            os.close(parent)

    def parent_inner(self, target: str, perms: int = 0o777) -> tuple[int, str]:
        """Return the folder that `target` lies in, and its name there; make folders that miss.

        Only in what is ours: what was bound from the host stays as it is. perms: the mode of what
        is made there: the folders are closed to group or others where that is, as with bwrap(1).
        The caller closes the descriptor.
        """
        mode = 0o755 & ~sum(bits for bits in (0o070, 0o007) if not perms & bits)
        *names, last = [name for name in target.split("/") if name]
        folder, path = os.open(".", _FOLDER, dir_fd=self._root), ""
        for name in names:
            path += "/" + name
            below = self.look_inner(path, os.O_PATH | os.O_DIRECTORY)
            if below is None:
                self._check_ours(folder, target)
                try:
                    os.mkdir(name, mode, dir_fd=folder)
                except OSError as error:
                    raise refused_making(error, path, folder) from None
                below = self.look_inner(path, os.O_PATH | os.O_DIRECTORY)
                assert below is not None
            os.close(folder)
            folder = below
        self._check_ours(folder, target)
        return folder, last

    def _check_ours(self, folder: int, target: str) -> None:
        if os.fstat(folder).st_dev not in self._ours:
            os.close(folder)
            raise Refusal(
                "it would have to be created in a directory of the host, which is left as it is",
                number=errno.ENOENT,
                path=target,
            )

    def is_ours(self, descriptor: int) -> bool:
        """Tell whether a file or folder lies on what this launch has made."""
        return os.fstat(descriptor).st_dev in self._ours

    def bind_inner(self, source: int, target: str, attributes: int = 0) -> None:
        """Attach a copy of mounts to `target`, and set `attributes` on all of them."""
        folder = stat.S_ISDIR(os.fstat(source).st_mode)
        self.attach_inner(source, self.point_inner(target, folder=folder), attributes)

    def attach_inner(self, source: int, point: int, attributes: int = 0) -> None:
        """Attach a copy of mounts to what `point` is open on, and close that.

        Nothing is looked up by its path a second time: it may lead elsewhere by then.
        """
        try:
            attributes = self._set_inner(source, attributes)
            mountapi.move_mount(source, point)
        finally:
            os.close(point)
        self._follow_root_inner()
        if attributes:
            self.restrict_inner(source, attributes, recursive=True)

    def fresh_inner(self, target: str, kind: str, flags: int, data: str = "") -> int:
        """Mount a new file system of type `kind` on the folder `target`; return its root.

        The caller closes the descriptor.
        """
        return self.fresh_on_inner(self.point_inner(target, folder=True), target, kind, flags, data)

    def fresh_on_inner(self, point: int, target: str, kind: str, flags: int, data: str = "") -> int:
        """Do the same on what `point` is open on, and close that. target: for an error."""
        try:
            # Of these flags, MS_* and MOUNT_ATTR_* have the same bits.
            top = mountapi.fresh(kind, flags, data)
            mountapi.move_mount(top, point)
        except KernelError as error:
            raise Refusal(number=error.errno or 0, what="mount", path=target) from error
        finally:
            os.close(point)
        self._follow_root_inner()
        if kind == "tmpfs":
            self.own_inner(top)
        return top

    def own_inner(self, top: int) -> None:
        """Take the file system of `top` for ours: things may be made in it."""
        self._ours.add(os.fstat(top).st_dev)

    def top_inner(self, target: str) -> int:
        """Return what is there at `target` now."""
        return libc.openat2(self._root, target, os.O_PATH, constants.RESOLVE_IN_ROOT)

    def _follow_root_inner(self) -> None:
        """Go on with what was mounted over the root itself, if that is what happened.

        From the root to be, ".." leads to the topmost mount at its place: to itself where nothing
        covers it.
        """
        top = os.open("..", _FOLDER, dir_fd=self._root)
        if _same_place(top, self._root):
            os.close(top)
        else:
            os.close(self._root)
            self._root = top

    def _set_inner(self, copy: int, attributes: int) -> int:
        """Set attributes of mounts that are attached nowhere; return those still to be set."""
        if attributes and self._attributes:
            try:
                mountapi.mount_setattr(copy, attributes, recursive=True)
            except KernelError as error:
                if error.errno != errno.ENOSYS:
                    raise
                self._attributes = False
            else:
                return 0
        return attributes

    def restrict_inner(self, top: int, attributes: int, *, recursive: bool) -> None:
        """Set attributes of the mount behind `top`, and, if asked, of every one beneath it."""
        if self._attributes:
            try:
                mountapi.mount_setattr(top, attributes, recursive=recursive)
            except KernelError as error:
                if error.errno != errno.ENOSYS:
                    raise
                self._attributes = False
            else:
                return
        classic.remount_inner(top, attributes)
        if recursive:
            for number, path in classic.beneath(top):
                classic.remount_beneath_inner(top, path, number, attributes)


def _same_place(one: int, other: int) -> bool:
    """Tell whether two descriptors are of one file or directory on one mount."""
    return os.path.samestat(os.fstat(one), os.fstat(other)) and (
        procfs.mount_number(one) == procfs.mount_number(other)
    )
