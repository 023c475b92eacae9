"""Try to get from a network into the namespaces of the network itself, or of another command.

    python intruder.py PID...

Each PID is a process there. Prints as JSON, for each of them and each way, the name of the error,
or what was possible. The interfaces of this command are as before in the end.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import json
import os
import socket
import struct
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

NEWUSER, NEWNET = 0x10000000, 0x40000000
ATTACH, DETACH = 16, 17
NEWLINK, DELLINK, GETLINK, SETLINK, NEWNSID = 16, 17, 18, 19, 88
IFNAME, LINKINFO, NET_NS_PID, NET_NS_FD, TARGET_NETNSID, LINK_NETNSID = 3, 18, 19, 28, 46, 37
_libc = ctypes.CDLL(None, use_errno=True)
_netlink = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0)


def call(name: str, *arguments: int) -> None:
    if getattr(_libc, name)(*map(ctypes.c_long, arguments)) == -1:
        raise OSError(ctypes.get_errno(), name)


def attribute(kind: int, value: bytes) -> bytes:
    return struct.pack("=HH", 4 + len(value), kind) + value + bytes(-len(value) % 4)


def number(kind: int, value: int) -> bytes:
    return attribute(kind, struct.pack("=i", value))


def ask(kind: int, body: bytes, *, index: int = 0, flags: int = 0) -> None:
    """Send a request by every destination; raise OSError if the kernel refuses."""
    data = struct.pack("=BxHiII", 0, 0, index, 0, 0) + body
    head = struct.pack("=IHHII", 16 + len(data), kind, 5 | flags, 1, 0)
    _netlink.sendto(head + data, (0, 0))
    answer = _netlink.recv(1 << 16)
    _, told, *_ = struct.unpack_from("=IHHII", answer)
    if told == 2 and (failed := struct.unpack_from("=i", answer, 16)[0]):
        raise OSError(-failed, "netlink")


def join(pid: int, link: str, flag: int) -> None:
    descriptor = os.open(f"/proc/{pid}/ns/{link}", os.O_RDONLY)
    if os.fork() == 0:  # what succeeds must not help the next one
        try:
            call("setns", descriptor, flag)
            os._exit(0)
        except OSError as error:
            os._exit(error.errno or 1)
    if failed := os.waitstatus_to_exitcode(os.wait()[1]):
        raise OSError(failed, "setns")


def trace(pid: int) -> None:
    call("ptrace", ATTACH, pid, 0, 0)
    os.waitpid(pid, 0)
    call("ptrace", DETACH, pid, 0, 0)


def give_away(pid: int) -> None:
    """Move the own interface into the network namespace of a process."""
    ask(SETLINK, number(NET_NS_PID, pid), index=socket.if_nametoindex("eth0"))


def give_by_descriptor(pid: int) -> None:
    descriptor = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY)
    ask(SETLINK, number(NET_NS_FD, descriptor), index=socket.if_nametoindex("eth0"))


def connect(pid: int) -> None:
    """Create a pair of interfaces with one end there."""
    peer = struct.pack("=BxHiII", 0, 0, 0, 0, 0) + attribute(IFNAME, b"evil0\0")
    peer += number(NET_NS_PID, pid)
    info = attribute(1, b"veth\0") + attribute(2, attribute(1, peer))
    ask(NEWLINK, attribute(IFNAME, b"evil1\0") + attribute(LINKINFO, info), flags=0x600)


def by_id(kind: int, *, index: int, flags: int = 0) -> Callable[[int], None]:
    """Reach for an interface at the other end of the own one, whose namespace has the id 0."""

    def reach(pid: int) -> None:
        del pid
        ask(kind, number(TARGET_NETNSID, 0), index=index, flags=flags)

    return reach


def create_there(pid: int) -> None:
    del pid
    info = attribute(LINKINFO, attribute(1, b"bridge\0"))
    ask(NEWLINK, number(TARGET_NETNSID, 0) + attribute(IFNAME, b"evil\0") + info, flags=0x600)


def read_memory(pid: int) -> None:
    os.close(os.open(f"/proc/{pid}/mem", os.O_RDWR))


WAYS: dict[str, Callable[[int], None]] = {
    "join user": lambda pid: join(pid, "user", NEWUSER),
    "join net": lambda pid: join(pid, "net", NEWNET),
    "trace": trace,
    "memory": read_memory,
    "give away": give_away,
    "give by descriptor": give_by_descriptor,
    "connect": connect,
    "look": by_id(GETLINK, index=1),
    "remove": by_id(DELLINK, index=2),
    "change": by_id(SETLINK, index=2),
    "create": create_there,
}


def tried(way: Callable[[int], None], pid: int) -> str:
    try:
        way(pid)
    except OSError as error:
        return errno.errorcode[error.errno or errno.EIO]
    return "possible"


if __name__ == "__main__":
    with contextlib.closing(_netlink):
        found = {
            name: [tried(way, int(word)) for word in sys.argv[1:]] for name, way in WAYS.items()
        }
    print(json.dumps(found))
