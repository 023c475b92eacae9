"""A fresh procfs for a new pid namespace: pid_namespaces(7), proc(5).

Runs in the child.
"""

from __future__ import annotations

from pyspaces.kernel import constants, libc
from pyspaces.mounts import propagation

_FLAGS = constants.MS_NOSUID | constants.MS_NODEV | constants.MS_NOEXEC


def mount_inner(target: str) -> None:
    """Mount a procfs that shows the caller's pid namespace on `target`. Raises KernelError.

    In a user namespace the kernel wants a procfs that is already mounted and has nothing mounted
    over parts of it (mount_too_revealing() in fs/namespace.c), else EPERM.
    """
    # With `propagation shared` it would else be mounted over the host's /proc as well (seen as
    # root under a shared /).
    propagation.set_private_inner(target)
    libc.mount("proc", target, "proc", _FLAGS)
