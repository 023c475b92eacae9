"""Mount a new procfs for a new pid namespace: pid_namespaces(7), proc(5).

Runs in the child.
"""

from __future__ import annotations

import os

from pyspaces.errors import Refusal
from pyspaces.kernel import constants, mountapi
from pyspaces.kernel.libc import KernelError
from pyspaces.mounts import propagation

_FLAGS = constants.MS_NOSUID | constants.MS_NODEV | constants.MS_NOEXEC


def mount_inner(root: str | None) -> None:
    """Mount a procfs for this process's pid namespace on /proc. Raises KernelError.

    root: the directory that will be the root, which is the working directory now; the target is its
    subdirectory proc. None if the root does not change. In a user namespace, the kernel requires a
    mounted procfs without mounts over parts of it (mount_too_revealing() in fs/namespace.c), else
    EPERM; so this comes before the old root is detached.
    """
    if root is None:
        # With `propagation shared` it would otherwise be mounted over the host's /proc as well
        # (seen as root with a shared /).
        propagation.set_private_inner("/proc")
        mountapi.mount("proc", "/proc", "proc", _FLAGS)
        return
    opened: list[int] = []
    try:
        opened.append(os.open(".", os.O_PATH | os.O_CLOEXEC))
        # A link in the new root cannot lead out of it.
        flags = os.O_PATH | os.O_DIRECTORY
        opened.append(mountapi.openat2(opened[0], "proc", flags, constants.RESOLVE_IN_ROOT))
        if os.path.samestat(*map(os.fstat, opened)):
            raise Refusal("is a link to the root directory", path=os.path.join(root, "proc"))
        os.fchdir(opened[1])
        mountapi.mount("proc", ".", "proc", _FLAGS)
        os.fchdir(opened[0])
    except KernelError as error:
        error.filename = os.path.join(root, "proc")
        raise
    finally:
        for descriptor in opened:
            os.close(descriptor)
