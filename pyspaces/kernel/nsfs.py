"""Namespace files and pidfds, and ends of processes.

Runs in any process. Must not know options.
"""

from __future__ import annotations

import os
from select import POLLIN, poll

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
        # A process that is not dumpable can look up names there, but not list them.
        return frozenset(name for name in _LINKS if os.path.lexists(f"/proc/self/ns/{name}"))
    except OSError as error:
        raise KernelError(error.errno or 0, "open", [], "/proc/self/ns") from None


def pidfd_open(pid: int) -> int:
    """Return a close-on-exec pidfd of process `pid`: pidfd_open(2). Raises KernelError."""
    try:
        return os.pidfd_open(pid)
    except OSError as error:
        raise KernelError(error.errno or 0, "pidfd_open", [pid]) from None


def pidfd_send_signal(pidfd: int, number: int, mark: int) -> None:
    """Send a signal with si_errno `mark`, like sigqueue(3): pidfd_send_signal(2)."""
    head = libc.words(number, mark, constants.SI_QUEUE, size=4)
    data = head.ljust(constants.SIGINFO_SIZE, b"\0")
    libc.call("pidfd_send_signal", constants.SYS_pidfd_send_signal, pidfd, number, data, 0)


def open_file(path: str) -> int:
    """Return a close-on-exec descriptor of a namespace file. Raises KernelError naming it.

    The path may lead to any file; opening a FIFO does not block.
    """
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise KernelError(error.errno or 0, "open", [], path) from None


def open_safely(path: str) -> int | None:
    """Return a close-on-exec descriptor of the namespace at `path`; None if it is not one.

    Danger: what other users hold may be replaced at any moment, for example by an O_PATH descriptor
    of a device that starts something when it is opened, and that they may not open themselves. So
    its type is checked before it is opened.
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
    """Return whether two paths lead to the same namespace. Raises KernelError naming a path."""
    return os.path.samestat(_status(one), _status(other))


def _status(path: str) -> os.stat_result:
    try:
        return os.stat(path)
    except OSError as error:
        raise KernelError(error.errno or 0, "stat", [], path) from None


def inode_or_none(path: str) -> int | None:
    """Return the inode number of the namespace at `path`; None if it cannot be read."""
    try:
        return _status(path).st_ino
    except KernelError:
        return None


def _poll(descriptors: tuple[int, ...], milliseconds: float | None) -> list[tuple[int, int]]:
    poller = poll()
    for descriptor in descriptors:
        poller.register(descriptor, POLLIN)
    return poller.poll(milliseconds)


def wait_for_either(first: int, second: int) -> dict[int, int]:
    """Wait until one of two descriptors is readable, or its other end is closed.

    Returns what poll(2) says of each that is.
    """
    return dict(_poll((first, second), None))


def is_readable(descriptor: int) -> bool:
    """Return whether there is something to read from a descriptor now."""
    return any(events & POLLIN for _, events in _poll((descriptor,), 0))


def wait_for(descriptor: int, timeout: float | None) -> bool:
    """Wait up to `timeout` seconds (None: forever) until something can be read, or the end."""
    milliseconds = None if timeout is None else max(0, timeout * 1000)
    return bool(_poll((descriptor,), milliseconds))


def has_ended(pidfd: int, *, timeout: float | None = 0) -> bool:
    """Wait up to `timeout` seconds (None: forever) for a process to end; return whether it has.

    A pidfd becomes readable when the last thread of its process has ended, reaped or not.
    """
    return wait_for(pidfd, timeout)


def reap(pid: int) -> None:
    """Wait for a child whose status does not matter.

    If SIGCHLD is ignored, the kernel reaps it, and returns ECHILD once it has ended.
    """
    try:
        os.waitpid(pid, 0)
    except ChildProcessError:
        return


def kill_and_reap(pid: int) -> None:
    """End a child that nobody else knows of; one that is reaped already is no error."""
    try:
        os.kill(pid, constants.SIGKILL)
    except ProcessLookupError:  # by something that reaps all children of this process
        return
    reap(pid)


def reap_by_pidfd(pidfd: int) -> None:
    """Wait for a child whose status does not matter, and for no other that has its number by now.

    One that somebody else has reaped is no error.
    """
    try:
        os.waitid(os.P_PIDFD, pidfd, os.WEXITED)
    except ChildProcessError:
        return


def inode_of(link: str) -> int:
    """Return 4026531836 for `pid:[4026531836]`, the text of a link in /proc/PID/ns."""
    return int(link[link.index("[") + 1 : -1])
