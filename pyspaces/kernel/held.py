"""Which namespaces the open descriptors of processes hold, sockets among them.

Runs in any process; looks, and changes nothing. Must not know what it is asked for. Not on the
launch path.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat

from pyspaces.kernel import constants, libc, nsfs
from pyspaces.kernel.libc import KernelError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Sequence

# So many descriptors of each process are looked at before more are of any: one process with a
# million of them hides nobody else's.
_FIRST = 256
# Observation (6.18): to look at a descriptor takes 4 us, to ask a socket 9 us more.
_SOCKET = 2


class Place:
    """A descriptor that holds a namespace: itself one of it, or a socket that lives there."""

    __slots__ = ("is_socket", "number", "pid")

    def __init__(self, pid: int, number: int, *, is_socket: bool) -> None:
        self.pid = pid
        self.number = number
        self.is_socket = is_socket

    def __str__(self) -> str:
        """Return its path; one of a socket leads to no namespace, and so looks different."""
        path = f"/proc/{self.pid}/fd/{self.number}"
        return f"socket:{path}" if self.is_socket else path

    def open(self) -> int | None:
        """Return a descriptor of the namespace; None where it is not held here any more."""
        if not self.is_socket:
            return nsfs.open_safely(f"/proc/{self.pid}/fd/{self.number}")
        try:
            pidfd = nsfs.pidfd_open(self.pid)
        except KernelError:
            return None
        try:
            return _namespace_of_socket(pidfd, self.number)
        except KernelError:
            return None
        finally:
            os.close(pidfd)


class Search:
    """A walk over the descriptors of processes.

    links: the names of types that are looked for, as /proc/PID/ns has them. sockets: whether
    sockets are asked for their network namespaces. limit: how many descriptors are looked at; None
    for all. found: where each namespace is held, by (link, inode). unsearched: how many
    descriptors were left, since there were more than the limit.
    """

    def __init__(self, links: Container[str], *, sockets: bool, limit: int | None) -> None:
        self.found: dict[tuple[str, int], list[Place]] = {}
        self.unsearched = 0
        self._links = links
        self._sockets = sockets
        self._left = limit
        self._asked: set[str] = set()

    def walk(self, pids: Iterable[int]) -> None:
        """Look at the descriptors of each process; what cannot be read has none."""
        more: list[tuple[int, list[str]]] = []
        for pid in pids:
            try:
                folder = _open_folder(pid)
            except OSError:
                continue
            try:
                names = os.listdir(folder)
                self._look(pid, folder, names[:_FIRST])
                if len(names) > _FIRST:
                    more.append((pid, names[_FIRST:]))
            except OSError:  # it has gone
                continue
            finally:
                os.close(folder)
        for pid, names in more:
            try:
                folder = _open_folder(pid)
            except OSError:
                continue
            try:
                self._look(pid, folder, names)
            finally:
                os.close(folder)

    def _look(self, pid: int, folder: int, names: Sequence[str]) -> None:
        if self._left is not None and len(names) > self._left:
            self.unsearched += len(names) - self._left
            names = names[: self._left]
        if self._left is not None:
            self._left -= len(names)
        sockets: list[tuple[str, int]] = []
        for name in names:
            try:
                link = os.readlink(name, dir_fd=folder)
            except OSError:  # closed meanwhile
                continue
            # A file has its path here, which begins with a slash; proc_pid_fd(5).
            kind, _, rest = link.partition(":")
            if kind == "socket":
                sockets.append((link, int(name)))
            elif kind in self._links and rest[1:-1].isdecimal():
                place = Place(pid, int(name), is_socket=False)
                self.found.setdefault((kind, int(rest[1:-1])), []).append(place)
        if self._sockets and sockets:
            self._ask(pid, sockets)

    def _ask(self, pid: int, sockets: Sequence[tuple[str, int]]) -> None:
        """Ask each socket that no other process was asked for; many share those of a parent."""
        new = [(link, number) for link, number in sockets if link not in self._asked]
        if self._left is not None:
            self.unsearched += max(0, len(new) - self._left // _SOCKET)
            new = new[: self._left // _SOCKET]
            self._left -= len(new) * _SOCKET
        if not new:
            return
        try:
            pidfd = nsfs.pidfd_open(pid)
        except KernelError:
            return
        try:
            for link, number in new:
                namespace = _namespace_of_socket(pidfd, number)
                self._asked.add(link)
                if namespace is not None:
                    inode = os.fstat(namespace).st_ino
                    os.close(namespace)
                    place = Place(pid, number, is_socket=True)
                    self.found.setdefault(("net", inode), []).append(place)
        except KernelError:  # a process that we may not trace, or a kernel before 5.6
            return
        finally:
            os.close(pidfd)


def _open_folder(pid: int) -> int:
    return os.open(f"/proc/{pid}/fd", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)


def _namespace_of_socket(pidfd: int, number: int) -> int | None:
    """Return a descriptor of the network namespace that a socket of another process lives in.

    SIOCGSKNS needs CAP_NET_ADMIN over that namespace; without, and where the descriptor is closed
    by now, None. Raises KernelError where the process may not be asked: pidfd_getfd(2), which needs
    PTRACE_MODE_ATTACH. /proc/PID/fd/N is no way to a socket: open(2) of it gives ENXIO.
    """
    try:
        copy = libc.call("pidfd_getfd", constants.SYS_pidfd_getfd, pidfd, number, 0)
    except KernelError as error:
        if error.errno in (errno.EBADF, errno.ESRCH):  # closed, or ended
            return None
        raise
    try:
        # Danger: the owner may have put anything else there by now, a device for one, and it would
        # be ours to tell it what 0x894C means to it.
        if not stat.S_ISSOCK(os.fstat(copy).st_mode):
            return None
        return fcntl.ioctl(copy, constants.SIOCGSKNS)
    except OSError:
        return None
    finally:
        os.close(copy)
