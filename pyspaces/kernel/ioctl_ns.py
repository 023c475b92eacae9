"""Types, owners and parents of namespaces: ioctl_ns(2).

Runs in any process. Must not know options.
"""

from __future__ import annotations

import errno
import fcntl
import os
import sys

from pyspaces.kernel import constants, nsfs


def owner(descriptor: int) -> int | None:
    """Return a descriptor of the user namespace that owns a namespace.

    None if that is outside of this process's own user namespace (EPERM).
    """
    return _related(descriptor, constants.NS_GET_USERNS)


def parent(descriptor: int) -> int | None:
    """Return a descriptor of the parent of a user or pid namespace.

    None if this process may not see the parent (EPERM), or for other types (EINVAL).
    """
    return _related(descriptor, constants.NS_GET_PARENT)


def clone_flag(descriptor: int) -> int | None:
    """Return the CLONE_NEW* bit of a namespace; None if `descriptor` is not one."""
    return _related(descriptor, constants.NS_GET_NSTYPE)


def owner_uid(descriptor: int) -> int | None:
    """Return the user id of the owner of a user namespace, or None."""
    try:
        answer: bytes = fcntl.ioctl(descriptor, constants.NS_GET_OWNER_UID, bytes(4))
    except OSError:
        return None
    return int.from_bytes(answer, sys.byteorder)


def holds(descriptor: int, process: int) -> bool:
    """Return whether a process, even one that has ended, is in a pid namespace or one beneath.

    process: its number as this process counts, and as /proc does. Before Linux 6.11 that takes the
    right to look into the process, which for one that has ended few but root have.
    """
    try:
        return fcntl.ioctl(descriptor, constants.NS_GET_TGID_IN_PIDNS, process) > 0
    except OSError as error:
        if error.errno == errno.ESRCH:
            return False
    return nsfs.inode_or_none(f"/proc/{process}/ns/pid") == os.fstat(descriptor).st_ino


def _related(descriptor: int, request: int) -> int | None:
    try:
        return fcntl.ioctl(descriptor, request)
    except OSError:
        return None
