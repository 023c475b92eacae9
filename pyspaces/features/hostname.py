"""Host and domain name of a new UTS namespace: uts_namespaces(7).

`name_fault` is pure; what ends in _inner runs in the child.
"""

from __future__ import annotations

import os

from pyspaces.kernel import constants, libc


def name_fault(name: str) -> str | None:
    """Say what is wrong with a host or domain name; None where nothing is."""
    if not name:
        return "a name cannot be empty"
    if fault := libc.c_string_fault(name):
        return f"{name!r}: {fault}"
    size = len(os.fsencode(name))
    if size > constants.UTS_NAME_MAX:
        return f"{name}: has {size} bytes; the kernel takes {constants.UTS_NAME_MAX}"
    return None


def set_hostname_inner(name: str) -> None:
    """Set the host name. Raises KernelError."""
    libc.sethostname(name)


def set_domainname_inner(name: str) -> None:
    """Set the NIS domain name. Raises KernelError."""
    libc.setdomainname(name)
