"""A fresh procfs for a new pid namespace: pid_namespaces(7), proc(5).

Runs in the child.
"""

from __future__ import annotations

import os

from pyspaces.errors import Refusal
from pyspaces.kernel import constants, libc
from pyspaces.kernel.libc import KernelError
from pyspaces.mounts import propagation

_FLAGS = constants.MS_NOSUID | constants.MS_NODEV | constants.MS_NOEXEC


def mount_inner(root: str | None) -> None:
    """Mount a procfs that shows the caller's pid namespace on /proc. Raises KernelError.

    root: the directory that will be the root, and is the working directory now: the target is its
    own folder proc. None where the root stays as it is. In a user namespace the kernel wants a
    procfs that is already mounted and has nothing mounted over parts of it (mount_too_revealing()
    in fs/namespace.c), else EPERM; so this comes before the old root goes.
    """
    if root is None:
        # With `propagation shared` it would else be mounted over the host's /proc as well (seen as
        # root under a shared /).
        propagation.set_private_inner("/proc")
        libc.mount("proc", "/proc", "proc", _FLAGS)
        return
    opened: list[int] = []
    try:
        opened.append(os.open(".", os.O_PATH | os.O_CLOEXEC))
        # A link in the new root leads nowhere but into it.
        flags = os.O_PATH | os.O_DIRECTORY
        opened.append(libc.openat2(opened[0], "proc", flags, constants.RESOLVE_IN_ROOT))
        if os.path.samestat(*map(os.fstat, opened)):
            raise Refusal("is a link to the root directory", path=os.path.join(root, "proc"))
        os.fchdir(opened[1])
        libc.mount("proc", ".", "proc", _FLAGS)
        os.fchdir(opened[0])
    except Refusal:
        raise
    except KernelError as error:
        path = os.path.join(root, "proc")
        raise KernelError(error.errno or 0, error.call, error.arguments, path) from error
    finally:
        for descriptor in opened:
            os.close(descriptor)
