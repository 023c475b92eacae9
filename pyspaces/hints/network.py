"""Hints for ports that could not be opened.

Runs in the parent, after a failure only. Must not know how a hint is shown.
"""

from __future__ import annotations

from errno import EACCES, EADDRNOTAVAIL

from pyspaces.errors import NETWORK
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


def _end_of(case: Case) -> tuple[str, int]:
    address, _, port = case.report.path.partition("/")[0].rpartition(":")
    return address, int(port)
