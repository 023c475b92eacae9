"""Find the namespaces that open descriptors of processes keep alive, including sockets.

Runs in any process, and changes nothing. Not on the launch path.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
from typing import NamedTuple, TypeVar

from pyspaces.kernel import constants, libc, nsfs
from pyspaces.kernel.libc import KernelError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Iterator, Sequence

# So many descriptors of each process are searched first: a process with a million of them does not
# hide those of others.
_FIRST = 256
# Observation (6.18): reading a descriptor takes 4 us, and asking a socket 9 us more.
_SOCKET = 2
_T = TypeVar("_T")


class Place(NamedTuple):
    """A descriptor of a namespace, or of a socket in one."""

    pid: int
    number: int
    is_socket: bool

    def __str__(self) -> str:
        """Return its path; marked for a socket, since that path does not lead to the namespace."""
        path = f"/proc/{self.pid}/fd/{self.number}"
        return f"socket:{path}" if self.is_socket else path

    def open(self) -> int | None:
        """Return a descriptor of the namespace; None if it is not held here any more."""
        if not self.is_socket:
            return nsfs.open_safely(f"/proc/{self.pid}/fd/{self.number}")
        with contextlib.suppress(KernelError), _closing(nsfs.pidfd_open(self.pid)) as pidfd:
            return _namespace_of_socket(pidfd, self.number)
        return None


class Search:
    """A search of the descriptors of processes.

    links: the types to search for, with their names in /proc/PID/ns. sockets: whether to ask
    sockets for their network namespaces. limit: the maximum number of descriptors to search; None
    for all. found: the places that hold each namespace, by (link, inode). unsearched: the number of
    descriptors beyond the limit.
    """

    def __init__(self, links: Container[str], *, sockets: bool, limit: int | None) -> None:
        self.found: dict[tuple[str, int], list[Place]] = {}
        self.unsearched = 0
        self._links = links
        self._sockets = sockets
        self._left = limit
        self._asked: set[str] = set()

    def walk(self, pids: Iterable[int]) -> None:
        """Search the descriptors of each process; those that cannot be read are ignored."""
        more: list[tuple[int, list[str]]] = []
        for pid in pids:
            with contextlib.suppress(OSError), _closing(_open_directory(pid)) as directory:
                names = os.listdir(directory)
                self._look(pid, directory, names[:_FIRST])
                if len(names) > _FIRST:
                    more.append((pid, names[_FIRST:]))
        for pid, names in more:
            with contextlib.suppress(OSError), _closing(_open_directory(pid)) as directory:
                self._look(pid, directory, names)

    def _look(self, pid: int, directory: int, names: Sequence[str]) -> None:
        sockets: list[tuple[str, int]] = []
        for name in self._within_limit(names):
            try:
                link = os.readlink(name, dir_fd=directory)
            except OSError:  # closed meanwhile
                continue
            # For a file, this is its path, which begins with a slash; proc_pid_fd(5).
            kind, _, rest = link.partition(":")
            if kind == "socket":
                sockets.append((link, int(name)))
            elif kind in self._links and rest[1:-1].isdecimal():
                place = Place(pid, int(name), is_socket=False)
                self.found.setdefault((kind, int(rest[1:-1])), []).append(place)
        if self._sockets and sockets:
            self._ask(pid, sockets)

    def _ask(self, pid: int, sockets: Sequence[tuple[str, int]]) -> None:
        """Ask each socket once; many processes share those of a parent."""
        new = self._within_limit([pair for pair in sockets if pair[0] not in self._asked], _SOCKET)
        if not new:
            return
        # KernelError: we may not trace the process, or the kernel is older than 5.6.
        with contextlib.suppress(KernelError), _closing(nsfs.pidfd_open(pid)) as pidfd:
            for link, number in new:
                namespace = _namespace_of_socket(pidfd, number)
                self._asked.add(link)
                if namespace is not None:
                    inode = os.fstat(namespace).st_ino
                    os.close(namespace)
                    place = Place(pid, number, is_socket=True)
                    self.found.setdefault(("net", inode), []).append(place)

    def _within_limit(self, items: Sequence[_T], cost: int = 1) -> Sequence[_T]:
        """Return the first of `items`, as many as the limit allows. cost: of each item."""
        if self._left is None:
            return items
        allowed = items[: self._left // cost]
        self.unsearched += len(items) - len(allowed)
        self._left -= len(allowed) * cost
        return allowed


@contextlib.contextmanager
def _closing(descriptor: int) -> Iterator[int]:
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _open_directory(pid: int) -> int:
    return os.open(f"/proc/{pid}/fd", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)


def _namespace_of_socket(pidfd: int, number: int) -> int | None:
    """Return a descriptor of the network namespace of a socket of another process.

    Returns None without CAP_NET_ADMIN in that namespace, which SIOCGSKNS requires, and if the
    descriptor has been closed. Raises KernelError if this process may not trace the other one:
    pidfd_getfd(2) requires PTRACE_MODE_ATTACH. Opening /proc/PID/fd/N of a socket fails with ENXIO.
    """
    try:
        copy = libc.call("pidfd_getfd", constants.SYS_pidfd_getfd, pidfd, number, 0)
    except KernelError as error:
        if error.errno in (errno.EBADF, errno.ESRCH):  # closed, or ended
            return None
        raise
    try:
        # Danger: the owner may have replaced it by something else, such as a device, which would
        # get our ioctl 0x894C, whatever that means to it.
        if not stat.S_ISSOCK(os.fstat(copy).st_mode):
            return None
        return fcntl.ioctl(copy, constants.SIOCGSKNS)
    except OSError:
        return None
    finally:
        os.close(copy)
