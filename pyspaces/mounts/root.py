"""Another directory as the root: pivot_root(2), mount_namespaces(7).

Runs in the child, in a mount namespace whose mounts pass nothing on to the outside. In three acts,
so that what belongs into the new root is mounted while the old one can still be reached: attach,
mount, change.
"""

from __future__ import annotations

import errno
import os

from pyspaces.errors import Refusal
from pyspaces.kernel import constants, libc, nsfs, procfs
from pyspaces.kernel.libc import KernelError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

_PLACE = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC


def attach_inner(root: str) -> None:
    """Make the directory `root` a mount point, and the working directory. Raises KernelError.

    With what is mounted beneath it: in a user namespace those mounts are locked together, and a
    bind without them is EINVAL (mount_namespaces(7)).
    """
    try:
        os.chdir(root)
    except OSError as error:
        raise KernelError(error.errno or 0, "chdir", [], root) from None
    # Over the old root, which every namespace has: a mount over `root` would not do where that is
    # the old root itself. "/.." leads to what is mounted over "/", and "/" does not.
    libc.mount(".", "/", None, constants.MS_BIND | constants.MS_REC)
    os.chdir("/..")


def attach_empty_inner() -> None:
    """Make an empty tmpfs the root to be, and the working directory. Raises KernelError."""
    libc.mount("tmpfs", "/", "tmpfs", constants.MS_NOSUID | constants.MS_NODEV, "mode=0755")
    os.chdir("/..")


def change_inner() -> None:
    """Make the working directory the root, with nothing of the old root left beneath it.

    pivot_root(2), "pivot_root(\".\", \".\")": the old root, and whatever was mounted over it on the
    way, then lies on the new one, where ".." of the root leads. chroot(2) alone would leave it
    mounted, and a process with CAP_SYS_CHROOT could walk back. Raises KernelError.
    """
    with _Layers() as layers:
        libc.pivot_root(".", ".")
        # Each call takes the topmost away, and only that. How many there are is not counted but
        # looked at: an operation on "/" leaves one more, and so may a link that leads there.
        while layers.is_covered_inner():
            libc.umount(".", constants.MNT_DETACH)
        os.chdir("/")
        layers.check_is_first_inner()


class _Layers:
    """What is at the place of the root, told by mount ids, which no two mounts share."""

    def __init__(self) -> None:
        # While the old root's /proc is there; and for kernels whose statx(2) tells no mount id.
        self._fdinfo = -1
        self._namespace = -1

    def __enter__(self) -> _Layers:
        root = os.open("/", _PLACE)
        if libc.mount_id(root) is None:
            self._fdinfo = os.open("/proc/self/fdinfo", os.O_RDONLY | os.O_DIRECTORY)
        os.close(root)
        self._namespace = nsfs.pidfd_open(os.getpid())
        return self

    def __exit__(self, *error: object) -> None:
        for descriptor in (self._fdinfo, self._namespace):
            if descriptor >= 0:
                os.close(descriptor)

    def is_covered_inner(self) -> bool:
        """Tell whether something is mounted over the root: "/" is the root, "/.." what covers it.

        Where nothing is, ".." of the root is the root itself. Its inode does not tell: a bind of
        "/" on "/" has that of the old root.
        """
        return self._mount_at("/") != self._mount_at("/..")

    def check_is_first_inner(self) -> None:
        """Raise Refusal where this root is not that of the whole mount namespace.

        That is so where the launcher itself was in a chroot: what lies outside of it is still
        mounted, and a process with CAP_SYS_CHROOT could walk there. setns(2) into a mount
        namespace, be it one's own, moves the root to the first one.
        """
        before = self._mount_at("/")
        try:
            libc.setns(self._namespace, constants.CLONE_NEWNS)
        except KernelError as error:
            # Without CAP_SYS_CHROOT (EPERM), under a filter, or, before Linux 5.8, by a pidfd
            # (EINVAL), it cannot be tried; and nothing lies over the root.
            if error.errno in (errno.EPERM, errno.EINVAL, errno.ENOSYS):
                return
            raise
        if self._mount_at("/") != before:
            raise Refusal("the launcher is in a chroot, whose outside would stay within reach")

    def _mount_at(self, path: str) -> int:
        descriptor = os.open(path, _PLACE)
        try:
            fdinfo = self._fdinfo if self._fdinfo >= 0 else None
            return procfs.mount_number(descriptor, fdinfo)
        finally:
            os.close(descriptor)


def find_workdir_inner(before: str | None, variables: Mapping[bytes, bytes]) -> None:
    """Change to `before` as it reads inside, else to $HOME, else to /.

    before: the working directory outside; None where it has no path.
    """
    for path in (os.fsencode(before or ""), variables.get(b"HOME", b"")):
        # A relative path says nothing here: it would be taken from whatever comes first.
        if path.startswith(b"/"):
            try:
                os.chdir(path)
            except OSError:
                continue
            return
    os.chdir("/")
