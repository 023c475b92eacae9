"""Namespace files and pidfds: which there are, and whether a process still lives.

Runs in any process. Must not know options.
"""

from __future__ import annotations

import os
import select

from pyspaces.kernel.libc import KernelError


def link_names() -> frozenset[str]:
    """Return the names in /proc/self/ns, which are the namespace types of this kernel."""
    try:
        return frozenset(os.listdir("/proc/self/ns"))
    except OSError as error:
        raise KernelError(error.errno or 0, "open", [], "/proc/self/ns") from None


def pidfd_open(pid: int) -> int:
    """Return a close-on-exec descriptor that stands for process `pid`: pidfd_open(2)."""
    try:
        return os.pidfd_open(pid)
    except OSError as error:
        raise KernelError(error.errno or 0, "pidfd_open", [pid]) from None


def open_file(path: str) -> int:
    """Return a close-on-exec descriptor of a namespace file. Raises KernelError naming it."""
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise KernelError(error.errno or 0, "open", [], path) from None


def same_file(one: str, other: str) -> bool:
    """Tell whether two paths lead to one namespace. Raises KernelError naming the one missing."""
    identities = []
    for path in (one, other):
        try:
            status = os.stat(path)
        except OSError as error:
            raise KernelError(error.errno or 0, "stat", [], path) from None
        identities.append((status.st_dev, status.st_ino))
    return identities[0] == identities[1]


def wait_for_either(first: int, second: int) -> None:
    """Wait until one of two descriptors can be read, or its other side has gone."""
    poller = select.poll()
    poller.register(first, select.POLLIN)
    poller.register(second, select.POLLIN)
    poller.poll()


def has_ended(pidfd: int, *, timeout: float | None = 0) -> bool:
    """Wait up to `timeout` seconds (None: for ever) for the process behind `pidfd` to end.

    A pidfd becomes readable when the last thread of its process has ended, reaped or not.
    """
    poller = select.poll()
    poller.register(pidfd, select.POLLIN)
    return bool(poller.poll(None if timeout is None else max(0, timeout * 1000)))
