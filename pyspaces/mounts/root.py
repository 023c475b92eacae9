"""Another directory as the root: pivot_root(2), mount_namespaces(7).

Runs in the child, in a mount namespace whose mounts pass nothing on to the outside. In three acts,
so that what belongs into the new root is mounted while the old one can still be reached: attach,
mount, change.
"""

from __future__ import annotations

import os

from pyspaces.kernel import constants, libc
from pyspaces.kernel.libc import KernelError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping


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


def change_inner(*, covers: int = 0) -> None:
    """Make the working directory the root, and put the old root out of reach. Raises KernelError.

    covers: how many mounts lie over the old root, beneath the new one; they go with it.

    pivot_root(2), "pivot_root(\\".\\", \\".\\")": both roots are then stacked on one place, the old
    one on top, and unmounting takes it away. chroot(2) alone would leave it mounted, and a process
    with CAP_SYS_CHROOT could walk back.
    """
    libc.pivot_root(".", ".")
    # Each call takes the topmost away, and only that.
    for _ in range(1 + covers):
        libc.umount(".", constants.MNT_DETACH)
    os.chdir("/")


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
