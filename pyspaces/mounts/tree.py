"""The tree that a command will see, while it is built.

Created in the parent, before the clone; functions ending in `_inner` run in the child. The new
root is attached over the old one, which remains the root of the process until the end: so sources
are found outside, and targets, which are resolved beneath the new root, can never lead there.
"""

from __future__ import annotations

import errno
import os
import stat

from pyspaces.errors import NOT_CREATED, Refusal
from pyspaces.kernel import constants, mountapi, mountinfo
from pyspaces.kernel.libc import KernelError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_PATH = os.O_PATH | os.O_CLOEXEC
_DIRECTORY = _PATH | os.O_DIRECTORY
# Of these, MS_* and MOUNT_ATTR_* have the same bits.
READ_ONLY, NO_DEVICES = constants.MOUNT_ATTR_RDONLY, constants.MOUNT_ATTR_NODEV
NO_SUID = constants.MOUNT_ATTR_NOSUID
NO_EXEC = constants.MS_NOEXEC  # the bit of MOUNT_ATTR_NOEXEC, too
PLAIN = NO_DEVICES | NO_SUID
# As far as remounts are concerned, MS_* and ST_* (of statvfs(3)) have the same bits.
_KEPT = PLAIN | READ_ONLY | constants.MS_NOEXEC


class Tree:
    """The new root while it is built: what operations act on.

    empty: whether the root itself is a new tmpfs. creates: whether missing targets are created in
    directories of the host, too. keep: called with the target and a descriptor of
    each directory with changes that are discarded at the end; None if nobody compares them. root: a
    descriptor of the root while the tree is built.
    """

    def __init__(
        self,
        *,
        empty: bool = False,
        creates: bool = False,
        keep: Callable[[str, int], object] | None = None,
        root: int = -1,
    ) -> None:
        self.keep = keep
        self.root = root
        # Of its mount; None if the kernel does not tell.
        self._number = mountapi.mount_id(root) if root >= 0 else None
        self._empty, self._creates = empty, creates
        # The devices of the file systems that this launch has created: there, files may be created.
        self._ours: set[int] = set()
        # What it has created elsewhere, by device and inode.
        self._created: set[tuple[int, int]] = set()
        self._scratch = -1
        self._made = 0
        # Whether the kernel, and a filter before it, has mount_setattr(2).
        self._attributes = True

    # Before the root changes, and around the operations.

    def leave_scratch_inner(self) -> None:
        """Hide the scratch directory, once everything in it has been created; changes to it."""
        if self._scratch >= 0:
            # Nothing needs its place: there are copies of everything in it.
            os.fchdir(self._scratch)
            mountapi.umount(".", constants.MNT_DETACH)

    def enter_inner(self) -> None:
        """Make the working directory the root of the tree."""
        self.root = os.open(".", _DIRECTORY)
        self._number = mountapi.mount_id(self.root)
        if self._empty:
            self.own_inner(self.root)

    def leave_inner(self) -> None:
        """Make the root of the tree the working directory, and close all descriptors."""
        os.fchdir(self.root)
        os.close(self.root)
        if self._scratch >= 0:
            os.close(self._scratch)

    # For operations that look for something outside.

    def source_inner(self, path: str, *, optional: bool = False) -> tuple[int, ...]:
        """Open `path`. Returns an empty tuple if it is optional and missing."""
        try:
            return (os.open(path, _PATH),)
        except OSError as error:
            if optional and error.errno in (errno.ENOENT, errno.ENOTDIR):
                return ()
            raise Refusal(number=error.errno or 0, what="source", path=path) from None

    def copy_inner(self, descriptor: int) -> int:
        """Return a copy of the mounts at `descriptor`, which is closed."""
        copy = mountapi.open_tree(descriptor)
        os.close(descriptor)
        return copy

    def scratch_inner(self) -> int:
        """Return a descriptor of a hidden directory: a tmpfs over the old root.

        What is mounted over "/" is reached by "/..", and by no other path.
        """
        if self._scratch < 0:
            mountapi.mount("tmpfs", "/", "tmpfs", PLAIN, "mode=0700")
            self._scratch = os.open("/..", _DIRECTORY)
        return self._scratch

    def hidden_inner(self, kind: str, flags: int, data: str) -> int:
        """Mount a file system of type `kind` in the scratch directory; return its root."""
        name = self.scratch_name()
        os.mkdir(name, 0o700, dir_fd=self.scratch_inner())
        os.chdir(f"/proc/self/fd/{self._scratch}/{name}")
        mountapi.mount(kind, ".", kind, flags, data)
        return os.open(name, _DIRECTORY, dir_fd=self._scratch)

    def scratch_name(self) -> str:
        """Return an unused name in the scratch directory."""
        self._made += 1
        return str(self._made)

    # For operations that change something inside.

    def look_inner(self, target: str, flags: int = os.O_PATH) -> int | None:
        """Open `target` as it is resolved inside, including links; None if it is missing."""
        try:
            return self.top_inner(target, flags)
        except KernelError as error:
            if error.errno in (errno.ENOENT, errno.ENOTDIR):
                return None
            raise

    def top_inner(self, target: str, flags: int = os.O_PATH) -> int:
        """Open `target` as it is resolved inside. Raises KernelError if it is missing."""
        return mountapi.openat2(self.root, target, flags, constants.RESOLVE_IN_ROOT)

    def point_inner(self, target: str, *, directory: bool, perms: int = 0o777) -> int:
        """Return a descriptor of the mount point `target`, which is created if it is missing.

        directory: whether it must be a directory, or a file. perms: the mode of what will be
        mounted there. The caller closes the descriptor.
        """
        descriptor = self.look_inner(target)
        if descriptor is None:
            mode = 0o755 if directory else 0o444
            self.make_inner(target, directory=directory, mode=mode, perms=perms)
            descriptor = self.top_inner(target)
        if stat.S_ISDIR(os.fstat(descriptor).st_mode) != directory:
            os.close(descriptor)
            found, wanted = ("file", "directory") if directory else ("directory", "file")
            raise Refusal(f"is a {found}, not a {wanted}", path=target)
        if target.strip("/") and _same_place(descriptor, self.root):
            # Once covered, such a path leads elsewhere: an operation that looks again would act on
            # something that the caller did not mean.
            os.close(descriptor)
            raise Refusal("leads to the root directory; as a target, that is /", path=target)
        return descriptor

    def make_inner(self, target: str, *, directory: bool, mode: int, perms: int) -> None:
        """Create `target`, a directory or an empty file, and the directories above it.

        perms: as for `parent_inner`.
        """
        parent, name = self.parent_inner(target, perms)
        try:
            _make(parent, name, target, mode, directory=directory)
            if self._creates:
                made = os.open(name, _PATH | os.O_NOFOLLOW, dir_fd=parent)
                self._created.add(_identity(made))
                os.close(made)
        finally:
            os.close(parent)

    def parent_inner(self, target: str, perms: int = 0o777) -> tuple[int, str]:
        """Return the directory of `target` and its name there; create missing directories.

        In file systems that this launch has created; in those of the host only if that is allowed.
        perms: the mode of what is created there: directories are closed to group and others if that
        is, as with bwrap(1). The caller closes the descriptor.
        """
        mode = 0o755 & ~sum(bits for bits in (0o070, 0o007) if not perms & bits)
        *names, last = [name for name in target.split("/") if name]
        directory, path = os.open(".", _DIRECTORY, dir_fd=self.root), ""
        for name in names:
            path += "/" + name
            below = self.look_inner(path, _DIRECTORY)
            if below is None:
                self._check_ours(directory, target)
                _make(directory, name, path, mode, directory=True)
                below = self.top_inner(path, _DIRECTORY)
            os.close(directory)
            directory = below
        self._check_ours(directory, target)
        return directory, last

    def _check_ours(self, directory: int, target: str) -> None:
        if not (self._creates or self.is_ours(directory)):
            os.close(directory)
            raise Refusal(
                NOT_CREATED,
                number=errno.ENOENT,
                path=target,
            )

    def is_ours(self, descriptor: int) -> bool:
        """Return whether a file, or the file system that it is on, was created by this launch."""
        device, inode = _identity(descriptor)
        return device in self._ours or (device, inode) in self._created

    def own_inner(self, top: int) -> None:
        """Allow files to be created on the file system of `top`."""
        self._ours.add(os.fstat(top).st_dev)

    def bind_inner(self, source: int, target: str, attributes: int = 0) -> None:
        """Attach a copy of mounts to `target`, and set `attributes` on all of them."""
        directory = stat.S_ISDIR(os.fstat(source).st_mode)
        self.attach_inner(source, self.point_inner(target, directory=directory), attributes)

    def cover_inner(self, point: int, source: int, attributes: int) -> None:
        """Attach a copy of what is at `source` to `point`, which is closed; `source` is not."""
        copy = mountapi.open_tree(source)
        self.attach_inner(copy, point, attributes)
        os.close(copy)

    def hide_inner(self, point: int, path: str, null: int) -> None:
        """Cover `point`, which is closed, by an empty read-only directory, or by `null` if a file.

        path: for an error. null: a descriptor of /dev/null.
        """
        if stat.S_ISDIR(os.fstat(point).st_mode):
            data = "mode=0555,nr_inodes=1"
            os.close(self.fresh_inner(point, path, "tmpfs", PLAIN | READ_ONLY, data))
        else:
            self.cover_inner(point, null, READ_ONLY | NO_SUID)

    def attach_inner(self, source: int, point: int, attributes: int = 0) -> None:
        """Attach a copy of mounts to the place that `point` is open on, and close `point`.

        Nothing is looked up by its path a second time: it may lead elsewhere by then.
        """
        try:
            # While they are attached nowhere, if the kernel can.
            done = not attributes or self._set_inner(source, attributes, recursive=True)
            mountapi.move_mount(source, point)
        finally:
            os.close(point)
        self._follow_root_inner()
        if not done:
            self.restrict_inner(source, attributes, recursive=True)

    def fresh_inner(self, point: int, target: str, kind: str, flags: int, data: str = "") -> int:
        """Mount a new file system of type `kind` on `point`, which is closed; return its root.

        target: the path of `point`, for an error. The caller closes the descriptor.
        """
        try:
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

    def _follow_root_inner(self) -> None:
        """Continue with what was mounted over the root itself, if that happened.

        From the root of the tree, ".." leads to the topmost mount at its place, which is the root
        itself if nothing covers it.
        """
        if self._number is not None and mountapi.mount_id(self.root, b"..") == self._number:
            return  # by one call: this is asked for each of 20 mounts
        top = os.open("..", _DIRECTORY, dir_fd=self.root)
        if _same_place(top, self.root):
            os.close(top)
        else:
            os.close(self.root)
            self.root = top
            self._number = mountapi.mount_id(top)

    def _set_inner(self, top: int, attributes: int, *, recursive: bool) -> bool:
        """Set attributes with mount_setattr(2); return False if there is no such call."""
        if self._attributes:
            try:
                mountapi.mount_setattr(top, attributes, recursive=recursive)
            except KernelError as error:
                if error.errno != errno.ENOSYS:
                    raise
                self._attributes = False
        return self._attributes

    def restrict_inner(self, top: int, attributes: int, *, recursive: bool) -> None:
        """Set attributes of the mount at `top`. recursive: and of every mount beneath it."""
        if self._set_inner(top, attributes, recursive=recursive):
            return
        remount_inner(top, attributes)
        if recursive:
            for number, path in _beneath(top):
                _remount_beneath_inner(top, path, number, attributes)


def _make(parent: int, name: str, path: str, mode: int, *, directory: bool) -> None:
    """Create `name` in `parent`. path: its path inside, for an error. Raises Refusal."""
    try:
        if directory:
            os.mkdir(name, mode, dir_fd=parent)
        else:
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
            os.close(os.open(name, flags, mode, dir_fd=parent))
    except FileExistsError:
        if stat.S_ISLNK(os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode):
            raise Refusal("is a symbolic link that leads nowhere inside", path=path) from None
        raise Refusal(number=errno.ENOTDIR, path=path) from None
    except OSError as error:
        raise Refusal(number=error.errno or 0, path=path) from None


def _identity(descriptor: int) -> tuple[int, int]:
    status = os.fstat(descriptor)
    return status.st_dev, status.st_ino


def _same_place(one: int, other: int) -> bool:
    """Return whether two descriptors refer to the same file on the same mount."""
    return os.path.samestat(os.fstat(one), os.fstat(other)) and (
        mountapi.mount_number(one) == mountapi.mount_number(other)
    )


# Mount attributes by mount(2), which takes paths, for kernels before Linux 5.12.


def remount_inner(mount: int, attributes: int, *, cleared: int = 0) -> None:
    """Set `attributes` of one mount, and clear those in `cleared`, with mount(2).

    In a user namespace, the flags that a mount had outside are locked, and a remount without one of
    them fails with EPERM: mount_namespaces(7). The kernel keeps those of access times by itself.
    """
    # MOUNT_ATTR_RDONLY, _NOSUID, _NODEV and MS_* of these names are the same bits.
    flags = constants.MS_REMOUNT | constants.MS_BIND | attributes
    flags |= os.fstatvfs(mount).f_flag & _KEPT & ~cleared
    # /proc is still that of the old root
    mountapi.mount(None, f"/proc/self/fd/{mount}", None, flags)


def _remount_beneath_inner(top: int, path: str, number: int, attributes: int) -> None:
    """Set attributes of the mount `number`, which is at `path` below `top`.

    A covered mount has no path: nobody can reach it, and it is left as it is.
    """
    try:
        below = mountapi.openat2(top, path, os.O_PATH, constants.RESOLVE_IN_ROOT)
    except KernelError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR):
            return
        raise
    if mountapi.mount_number(below) == number:
        remount_inner(below, attributes)
    os.close(below)


def _beneath(top: int) -> list[tuple[int, str]]:
    """Return the number, and the path below `top`, of each mount beneath the one at `top`."""
    rows = {row.number: row for row in mountinfo.mounts()}
    first = mountapi.mount_number(top)
    prefix = rows[first].point.rstrip("/")
    return [
        (number, row.point.removeprefix(prefix))
        for number, row in rows.items()
        if first in mountinfo.line_of(rows, number)[1:]
    ]
