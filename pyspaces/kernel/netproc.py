"""The addresses of the network namespace of a process: /proc/PID/net, proc(5).

Runs in any process. Not on the launch path. Nothing is joined: whoever may see a process may read
these files of it, and it is the kernel that writes them, with numbers alone.
"""

from __future__ import annotations

import _socket
import os

from pyspaces.kernel import nsfs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

# Bytes of a file that are read: the one of IPv4 has every route as well.
_LARGEST = 1 << 24
_PIECE = 1 << 16
# Of ipv6_addr_scope() in net/ipv6/addrconf_core.c: IPV6_ADDR_LOOPBACK, IPV6_ADDR_LINKLOCAL.
_SCOPES = (0x10, 0x20)
_LOCAL = ["/32", "host", "LOCAL"]


def addresses(pid: int, inode: int) -> tuple[str, ...] | None:
    """Return the IP addresses in the network namespace `inode`, of which process `pid` is.

    Without those of the loopback, and those that each interface has for its own link. None if the
    process cannot be read, or is in another namespace by now.
    """
    try:
        # Of this process, even if another one gets its number.
        process = os.open(f"/proc/{pid}", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        found = [*_of_ipv4(_read(process, "net/fib_trie"))]
        found += sorted(_of_ipv6(_read(process, "net/if_inet6")))
        if nsfs.inode_of(os.readlink("ns/net", dir_fd=process)) != inode:
            return None
    except (OSError, ValueError):
        return None
    finally:
        os.close(process)
    return tuple(dict.fromkeys(found))


def _read(process: int, name: str) -> str:
    """Return a file of a process; empty without it, as if_inet6 is in a kernel without IPv6."""
    try:
        file = os.open(name, os.O_RDONLY | os.O_CLOEXEC, dir_fd=process)
    except FileNotFoundError:
        return ""
    found = bytearray()
    try:
        while len(found) < _LARGEST and (piece := os.read(file, _PIECE)):
            found += piece
    finally:
        os.close(file)
    return found.decode("ascii", "replace")


def _of_ipv4(text: str) -> Iterator[str]:
    """Yield the addresses to which the kernel has a route that ends at this host."""
    address = ""
    for line in text.splitlines():
        words = line.split()
        if words[:1] == ["|--"]:
            address = words[-1]
        elif words == _LOCAL and not address.startswith("127."):
            yield address


def _of_ipv6(text: str) -> Iterator[str]:
    for line in text.splitlines():
        number, _, _, scope, *_ = line.split()
        if int(scope, 16) not in _SCOPES:
            yield _socket.inet_ntop(_socket.AF_INET6, bytes.fromhex(number))
