"""Hints for ports that could not be opened, and for names of hosts.

Runs in the parent, after a failure only. Must not know how a hint is shown.
"""

from __future__ import annotations

from errno import EACCES, EADDRNOTAVAIL, ENOENT, ENOTDIR

from pyspaces.errors import NETWORK
from pyspaces.features.network.naming import COVER, HOSTS, RESOLV
from pyspaces.hints.case import after
from pyspaces.kernel import constants, procfs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from pyspaces.hints.case import Case

_LEAST = "net.ipv4.ip_unprivileged_port_start"


@after(EACCES, calls=("bind",), codes=(NETWORK.code,))
def low_port(case: Case) -> Iterator[str]:
    """ip(7): a port below a limit takes CAP_NET_BIND_SERVICE."""
    if procfs.has_capability(constants.CAP_NET_BIND_SERVICE):
        return
    least, port = procfs.sysctl(_LEAST), _end_of(case)[1]
    if least is not None and least.isdecimal() and 0 < port < int(least):
        yield f"a user may listen only on ports from {least} on; as root: sysctl {_LEAST}={port}"


@after(EADDRNOTAVAIL, calls=("bind",), codes=(NETWORK.code,))
def no_such_address(case: Case) -> Iterator[str]:
    """bind(2), EADDRNOTAVAIL: the address of no interface."""
    yield f"no interface of this host has the address {_end_of(case)[0]}"


@after(ENOENT, ENOTDIR)
def no_file_of_hosts(case: Case) -> Iterator[str]:
    """Ask for the file that is covered by another: none is created in a directory of the host."""
    path = case.report.path
    if case.report.stage != COVER.title or path not in (HOSTS, RESOLV):
        return
    cure = f"add --ro-bind {path} {path}" if case.from_empty else "create an empty one there"
    yield f"the root has no file {path}: {cure}"


def _end_of(case: Case) -> tuple[str, int]:
    address, _, port = case.report.path.partition("/")[0].rpartition(":")
    return address, int(port)
