"""The bridges of the host: which there are, and whether this process may use them.

Runs in the parent, and in `pyspaces check`. Changes nothing.
"""

from __future__ import annotations

import errno

from pyspaces.errors import SpaceError
from pyspaces.kernel.libc import KernelError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyspaces.kernel.rtnetlink import Interfaces

_KIND = "bridge"


def check_rights(host: Interfaces, bridge: str) -> None:
    """Raise SpaceError with the cure if this process cannot change the host's interfaces."""
    try:
        host.check_rights()
    except KernelError as error:
        if error.errno != errno.EPERM:
            raise
        raise SpaceError(
            f"veth: {bridge}: connecting with a bridge of the host takes CAP_NET_ADMIN there",
            hint="run this as root; or, without root, use --net=user to reach the host's network,"
            " or a network of several commands: pyspaces network create",
        ) from None


def names(host: Interfaces) -> list[str]:
    """Return the names of the bridges of the host."""
    return [link.name for link in host.links() if link.kind == _KIND]


def index_of(host: Interfaces, name: str) -> int:
    """Return the index of a bridge of the host. Raises SpaceError if there is none."""
    found = next((link for link in host.links() if link.name == name), None)
    if found and found.kind == _KIND:
        return found.index
    why = "is an interface of this host, and not a bridge" if found else "no bridge has this name"
    raise SpaceError(
        f"veth: {name}: {why}",
        details=[f"bridges: {', '.join(names(host)) or 'none'}"],
        hint=f"create one: ip link add {name} up type bridge" if not found else None,
    )
