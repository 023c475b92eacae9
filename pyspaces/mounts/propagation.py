"""Propagation of mounts between the new mount namespace and its parent: mount_namespaces(7).

`set_inner` runs in the child.
"""

from __future__ import annotations

import errno

from pyspaces.kernel import constants, mountapi
from pyspaces.kernel.libc import KernelError

PRIVATE, UNCHANGED = "private", "unchanged"
_FLAGS = {
    PRIVATE: constants.MS_PRIVATE,
    "slave": constants.MS_SLAVE,
    "shared": constants.MS_SHARED,
}
WORDS = (*_FLAGS, UNCHANGED)
# With these, mounts inside do not appear outside.
INWARD = (PRIVATE, "slave")


def set_private_inner(target: str) -> None:
    """Make the mounts on `target` private; does nothing if that is not a mount point."""
    try:
        mountapi.mount(None, target, None, constants.MS_REC | constants.MS_PRIVATE)
    except KernelError as error:
        if error.errno != errno.EINVAL:
            raise


def set_inner(word: str) -> None:
    """Set the propagation of every mount in this namespace to `word`. Raises KernelError."""
    if word != UNCHANGED:
        mountapi.mount(None, "/", None, constants.MS_REC | _FLAGS[word])
