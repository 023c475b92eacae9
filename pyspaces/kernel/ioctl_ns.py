"""Types, owners and parents of namespaces: ioctl_ns(2).

Runs in any process. Must not know options.
"""

from __future__ import annotations

import fcntl
import sys

from pyspaces.kernel import constants


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


def _related(descriptor: int, request: int) -> int | None:
    try:
        return fcntl.ioctl(descriptor, request)
    except OSError:
        return None
