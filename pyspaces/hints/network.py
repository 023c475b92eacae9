"""Hints for ports that could not be opened.

Runs in the parent, after a failure only. Must not know how a hint is shown.
"""

from __future__ import annotations

import errno

from pyspaces.errors import NETWORK
from pyspaces.kernel import constants, procfs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyspaces.hints.case import Case

_LEAST = "net.ipv4.ip_unprivileged_port_start"


def low_port(case: Case) -> str | None:
    """ip(7): a port below a limit takes CAP_NET_BIND_SERVICE."""
    if not _is_refusal(case, errno.EACCES) or procfs.has_capability(constants.CAP_NET_BIND_SERVICE):
        return None
    least, port = procfs.sysctl(_LEAST), _end_of(case)[1]
    if least is None or not least.isdecimal() or not 0 < port < int(least):
        return None
    return f"a user may listen only on ports from {least} on; as root: sysctl {_LEAST}={port}"


def no_such_address(case: Case) -> str | None:
    """bind(2), EADDRNOTAVAIL: the address of no interface."""
    if not _is_refusal(case, errno.EADDRNOTAVAIL):
        return None
    return f"no interface of this host has the address {_end_of(case)[0]}"


def _is_refusal(case: Case, number: int) -> bool:
    report = case.report
    return (report.code, report.call, report.errno) == (NETWORK.code, "bind", number)


def _end_of(case: Case) -> tuple[str, int]:
    address, _, port = case.report.path.partition("/")[0].rpartition(":")
    return address, int(port)
