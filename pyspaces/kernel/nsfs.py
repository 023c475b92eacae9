"""Namespace files and pidfds: which there are, how they hang together, and who still lives.

Runs in any process. Must not know options.
"""

from __future__ import annotations

import _struct as struct  # what `struct` hands on, without a file to load
import fcntl
import os
import select
import sys

from pyspaces.kernel import constants, libc
from pyspaces.kernel.libc import KernelError

_LINKS = (
    *("cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts"),
    *("pid_for_children", "time_for_children"),
)


def link_names() -> frozenset[str]:
    """Return the names in /proc/self/ns, which are the namespace types of this kernel."""
    try:
        return frozenset(os.listdir("/proc/self/ns"))
    except PermissionError:
        # A process that is not dumpable may look for names there, but not list them.
        return frozenset(name for name in _LINKS if os.path.lexists(f"/proc/self/ns/{name}"))
    except OSError as error:
        raise KernelError(error.errno or 0, "open", [], "/proc/self/ns") from None


def pidfd_open(pid: int) -> int:
    """Return a close-on-exec descriptor that stands for process `pid`: pidfd_open(2)."""
    try:
        return os.pidfd_open(pid)
    except OSError as error:
        raise KernelError(error.errno or 0, "pidfd_open", [pid]) from None


def pidfd_send_signal(pidfd: int, number: int, mark: int) -> None:
    """Send a signal whose si_errno is `mark`, as sigqueue(3) sends one: pidfd_send_signal(2)."""
    head = struct.pack("iii", number, mark, constants.SI_QUEUE)
    data = head.ljust(constants.SIGINFO_SIZE, b"\0")
    libc.call("pidfd_send_signal", constants.SYS_pidfd_send_signal, pidfd, number, data, 0)


def open_file(path: str) -> int:
    """Return a close-on-exec descriptor of a namespace file. Raises KernelError naming it.

    A path may lead to anything; at a FIFO nothing waits.
    """
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise KernelError(error.errno or 0, "open", [], path) from None


def open_safely(path: str) -> int | None:
    """Return a close-on-exec descriptor of the namespace at `path`; None where there is none.

    Danger: what others hold may be another thing at any moment, such as a device that begins to
    act when it is opened, through an O_PATH descriptor of somebody who may not open it. So it is
    looked at before it is opened.
    """
    try:
        plain = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        if os.fstat(plain).st_dev != os.stat("/proc/self/ns/user").st_dev:
            return None
        return os.open(f"/proc/self/fd/{plain}", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    finally:
        os.close(plain)


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


def inode(path: str) -> int:
    """Return the number of the namespace behind `path`. Raises KernelError naming it."""
    try:
        return os.stat(path).st_ino
    except OSError as error:
        raise KernelError(error.errno or 0, "stat", [], path) from None


def inode_or_none(path: str) -> int | None:
    """Return the number of the namespace behind `path`; None where it is not shown."""
    try:
        return inode(path)
    except KernelError:
        return None


def wait_for_either(first: int, second: int) -> None:
    """Wait until one of two descriptors can be read, or its other side has gone."""
    poller = select.poll()
    poller.register(first, select.POLLIN)
    poller.register(second, select.POLLIN)
    poller.poll()


def is_readable(descriptor: int) -> bool:
    """Tell whether a descriptor has something to read now."""
    poller = select.poll()
    poller.register(descriptor, select.POLLIN)
    return any(events & select.POLLIN for _, events in poller.poll(0))


def has_ended(pidfd: int, *, timeout: float | None = 0) -> bool:
    """Wait up to `timeout` seconds (None: for ever) for the process behind `pidfd` to end.

    A pidfd becomes readable when the last thread of its process has ended, reaped or not.
    """
    poller = select.poll()
    poller.register(pidfd, select.POLLIN)
    return bool(poller.poll(None if timeout is None else max(0, timeout * 1000)))


def inode_of(link: str) -> int:
    """Return 4026531836 for `pid:[4026531836]`, as readlink(2) in /proc/PID/ns answers."""
    return int(link[link.index("[") + 1 : -1])


def owner(descriptor: int) -> int | None:
    """Return a descriptor of the user namespace that owns a namespace: ioctl_ns(2).

    None where it lies outside of this process's own user namespace (EPERM).
    """
    return _related(descriptor, constants.NS_GET_USERNS)


def parent(descriptor: int) -> int | None:
    """Return a descriptor of the parent of a user or pid namespace: ioctl_ns(2).

    None where it has none that this process may see (EPERM), or is of another type (EINVAL).
    """
    return _related(descriptor, constants.NS_GET_PARENT)


def clone_flag(descriptor: int) -> int | None:
    """Return the CLONE_NEW* bit of the namespace behind `descriptor`; None where it is none."""
    return _related(descriptor, constants.NS_GET_NSTYPE)


def owner_uid(descriptor: int) -> int | None:
    """Return the user who owns a user namespace; None where it cannot be known: ioctl_ns(2)."""
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
