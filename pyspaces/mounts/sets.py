"""The set of operations that shows the host's programs, which depends on what this host has.

Runs in the parent; changes nothing.
"""

from __future__ import annotations

import os

from pyspaces.mounts.binds import Bind
from pyspaces.mounts.devices import Dev
from pyspaces.mounts.places import Proc, Symlink, Tmpfs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyspaces.mounts.operation import Operation

_SHOWN = ("/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/etc")


def host_ro(*, proc: bool) -> tuple[Operation, ...]:
    """Return operations that show the host's programs and /etc read-only on an empty root.

    proc: whether the command has a new pid namespace, and so a new /proc.
    """
    made: list[Operation] = [Bind(source="/usr", target="/usr", read_only=True)]
    for path in _SHOWN:
        if os.path.islink(path):
            made.append(Symlink(text=os.readlink(path), target=path))
        elif os.path.isdir(path):
            made.append(Bind(source=path, target=path, read_only=True))
    made += _resolv_conf()
    made += [Dev(), proc_of_host(proc=proc), Tmpfs(target="/tmp", perms=0o1777)]  # noqa: S108 - inside
    return tuple(made)


def proc_of_host(*, proc: bool) -> Operation:
    """Return the operation for a new /proc, which requires a new pid namespace, or the host's.

    The host's is writable: creating user namespaces requires writing id maps there.
    """
    return Proc() if proc else Bind(source="/proc", target="/proc")


def _resolv_conf() -> list[Operation]:
    """Return the bind for /etc/resolv.conf if that is a link out of /etc and /usr, as to /run."""
    path = "/etc/resolv.conf"
    for _ in range(40):  # as many links as the kernel follows
        if not os.path.islink(path):
            return []
        path = os.path.normpath(os.path.join(os.path.dirname(path), os.readlink(path)))
        if not path.startswith(("/etc/", "/usr/")):
            source = os.path.realpath(path)
            return [Bind(source=source, target=path, read_only=True, optional=True)]
    return []
