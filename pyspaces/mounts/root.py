"""Change the root directory: pivot_root(2), mount_namespaces(7).

Runs in the child, in a mount namespace whose mounts do not propagate to the outside. In three
steps, so that mounts in the new root are made while the old one can still be reached: attach,
mount, change.
"""

from __future__ import annotations

import errno
import os

from pyspaces.errors import Refusal
from pyspaces.kernel import constants, libc, mountapi, nsfs
from pyspaces.kernel.libc import KernelError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

_PLACE = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC


def attach_inner(root: str) -> None:
    """Make the directory `root` a mount point and the working directory. Raises KernelError.

    Mounts below it are included: in a user namespace they are locked together, and a bind without
    them fails with EINVAL (mount_namespaces(7)).
    """
    try:
        os.chdir(root)
    except OSError as error:
        raise KernelError(error.errno or 0, "chdir", [], root) from None
    # Over the old root, which every namespace has: a mount over `root` would not work if that is
    # the old root itself. "/.." leads to what is mounted over "/", and "/" does not.
    mountapi.mount(".", "/", None, constants.MS_BIND | constants.MS_REC)
    os.chdir("/..")


def attach_empty_inner() -> None:
    """Mount an empty tmpfs for the new root, and change to it. Raises KernelError."""
    mountapi.mount("tmpfs", "/", "tmpfs", constants.MS_NOSUID | constants.MS_NODEV, "mode=0755")
    os.chdir("/..")


def change_inner() -> None:
    """Make the working directory the root, and detach the old root. Raises KernelError.

    pivot_root(2), "pivot_root(\".\", \".\")": the old root, and whatever was mounted over it, is
    then mounted over the new one, and ".." of the root leads there. chroot(2) alone would leave it
    mounted, and a process with CAP_SYS_CHROOT could walk back.
    """
    with _Layers() as layers:
        mountapi.pivot_root(".", ".")
        # Each call detaches the topmost mount only. Their number is not known: an operation on "/"
        # adds one, and so may a link that leads there.
        while layers.is_covered_inner():
            mountapi.umount(".", constants.MNT_DETACH)
        os.chdir("/")
        layers.check_is_first_inner()


class _Layers:
    """The mounts at the root, identified by their mount ids."""

    def __init__(self) -> None:
        # Of the old root's /proc; for kernels whose statx(2) has no mount id.
        self._fdinfo = -1
        self._namespace = -1

    def __enter__(self) -> _Layers:
        if mountapi.mount_id(constants.AT_FDCWD, b"/") is None:
            self._fdinfo = os.open("/proc/self/fdinfo", os.O_RDONLY | os.O_DIRECTORY)
        self._namespace = nsfs.pidfd_open(os.getpid())
        return self

    def __exit__(self, *error: object) -> None:
        for descriptor in (self._fdinfo, self._namespace):
            if descriptor >= 0:
                os.close(descriptor)

    def is_covered_inner(self) -> bool:
        """Return whether something is mounted over the root: then "/.." is another mount than "/".

        Comparing inodes would not do: a bind of "/" on "/" has that of the old root.
        """
        return self._mount_at("/") != self._mount_at("/..")

    def check_is_first_inner(self) -> None:
        """Raise Refusal if this root is not that of the whole mount namespace.

        It is not if the launcher itself was in a chroot: what is outside of that is still mounted,
        and a process with CAP_SYS_CHROOT could reach it. setns(2) into a mount namespace, even its
        own, moves a process to the first root of it.
        """
        before = self._mount_at("/")
        try:
            libc.setns(self._namespace, constants.CLONE_NEWNS)
        except KernelError as error:
            # It cannot be tried without CAP_SYS_CHROOT (EPERM), under a filter, or with a pidfd
            # before Linux 5.8 (EINVAL); and nothing covers the root.
            if error.errno in (errno.EPERM, errno.EINVAL, errno.ENOSYS):
                return
            raise
        if self._mount_at("/") != before:
            raise Refusal("the launcher is in a chroot, and files outside of it could be reached")

    def _mount_at(self, path: str) -> int:
        if (number := mountapi.mount_id(constants.AT_FDCWD, os.fsencode(path))) is not None:
            return number
        descriptor = os.open(path, _PLACE)
        try:
            fdinfo = self._fdinfo if self._fdinfo >= 0 else None
            return mountapi.mount_number(descriptor, fdinfo)
        finally:
            os.close(descriptor)


def find_workdir_inner(before: str | None, variables: Mapping[bytes, bytes]) -> None:
    """Change to the directory `before` if it exists inside, else to $HOME, else to /.

    before: the path of the working directory outside; None if it has none. variables: the
    environment of the command.
    """
    for path in (os.fsencode(before or ""), variables.get(b"HOME", b"")):
        # A relative path has no meaning here: the working directory is an arbitrary one.
        if path.startswith(b"/"):
            try:
                os.chdir(path)
            except OSError:
                continue
            return
    os.chdir("/")
