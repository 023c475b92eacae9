"""Interfaces, addresses and routes of a network namespace: rtnetlink(7), veth(4).

Runs in any process. Off the launch path: loaded for networks of several commands, and for bridges
of the host. A socket acts
on the network namespace in which it was made, wherever it is used: one process can hold one of each
of several namespaces. Every request names the kernel as its destination. The kernel then asks for
the rights of the process that sends, and not for those of the one that has made the socket as well
(__netlink_ns_capable(), since Linux 3.15). The owner of two user namespaces side by side has every
right in both, and is the only one to have them: nobody inside of either can connect the two.
"""

from __future__ import annotations

import _socket
import errno
import os
import struct

from pyspaces.kernel import constants
from pyspaces.kernel.libc import KernelError
from pyspaces.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

# struct nlmsghdr, struct ifinfomsg, struct ifaddrmsg, struct rtmsg, struct rtattr.
_NLMSGHDR = struct.Struct("=IHHII")
_IFINFOMSG = struct.Struct("=BxHiII")
_IFADDRMSG = struct.Struct("=BBBBi")
_RTMSG = struct.Struct("=BBBBBBBBI")
_RTATTR = struct.Struct("=HH")
_ERROR = struct.Struct("=i")
# linux/netlink.h
_DONE, _FAILED = 3, 2
_REQUEST, _ACK, _ROOT_MATCH = 0x1, 0x4, 0x300
_EXCLUSIVE, _CREATE = 0x200, 0x400
_INTERRUPTED, _CAPPED, _HAS_TEXT = 0x10, 0x100, 0x200
_SOL_NETLINK, _CAP_ACK, _EXT_ACK = 270, 10, 11
_TEXT = 1
_TYPE_MASK = 0x3FFF
# linux/rtnetlink.h
_NEWLINK, _DELLINK, _GETLINK, _SETLINK = 16, 17, 18, 19
_NEWADDR, _GETADDR, _NEWROUTE = 20, 22, 24
_TABLE_MAIN, _PROTOCOL_STATIC, _SCOPE_UNIVERSE, _UNICAST = 254, 4, 0, 1
_RTA_GATEWAY, _RTA_OUT, _RTA_DST = 5, 4, 1
# linux/if_link.h, linux/veth.h, linux/if_addr.h
_ADDRESS, _IFNAME, _MASTER, _LINKINFO = 1, 3, 10, 18
_IFALIAS, _NET_NS_FD, _EXT_MASK = 20, 28, 29
_KIND, _DATA, _PEER = 1, 2, 1
_SKIP_STATISTICS = 8
_IFA_ADDRESS, _IFA_LOCAL, _IFA_F_NODAD = 1, 2, 2
_LARGEST_ANSWER = 1 << 16
_LONGEST_ALIAS = 255
_LOOPBACK = 1  # LOOPBACK_IFINDEX of net/flow.h
# How often a list that changed while it was read is read again.
_TRIES = 100


class Link(Record):
    """An interface.

    master: the index of the bridge that it is a port of, 0 for none. alias: its text, which the
    kernel does not read: ip-link(8). kind: such as `bridge`; empty for a device.
    """

    index: int
    name: str
    up: bool
    master: int = 0
    alias: str = ""
    kind: str = ""


def socket() -> int:
    """Return a close-on-exec netlink socket of the network namespace of this thread."""
    kind = _socket.SOCK_RAW | _socket.SOCK_CLOEXEC
    try:
        opened = _socket.socket(_socket.AF_NETLINK, kind, constants.NETLINK_ROUTE)
    except OSError as error:
        raise KernelError(error.errno or 0, "socket", ["AF_NETLINK"]) from None
    return opened.detach()


class Interfaces:
    """The interfaces of one network namespace. Every method raises KernelError.

    Its `call` is what was to be done, its `filename` the name of the interface, and `arguments` has
    the reason in the kernel's words if the kernel gave one.
    """

    def __init__(self, descriptor: int) -> None:
        """Take a socket that `socket` has returned in that namespace, and own it."""
        self._socket = _socket.socket(
            _socket.AF_NETLINK, _socket.SOCK_RAW, constants.NETLINK_ROUTE, fileno=descriptor
        )
        self._sequence = 0
        for option in (_CAP_ACK, _EXT_ACK):
            try:
                self._socket.setsockopt(_SOL_NETLINK, option, 1)
            except OSError:  # a kernel before 4.12 gives no text
                continue

    def fileno(self) -> int:
        """Return the descriptor of the socket."""
        return self._socket.fileno()

    def close(self) -> None:
        """Close the socket; more than once is fine."""
        self._socket.close()

    def links(self) -> list[Link]:
        """Return the interfaces, in the order of their indices."""
        body = _IFINFOMSG.pack(0, 0, 0, 0, 0) + _number(_EXT_MASK, _SKIP_STATISTICS)
        rows = (_link_of(answer) for answer in self._list(_GETLINK, body, "list the interfaces"))
        return sorted(rows, key=lambda link: link.index)

    def addresses(self) -> list[tuple[int, str, int]]:
        """Return the IP addresses: (index of the interface, address, length of the prefix)."""
        body = _IFADDRMSG.pack(_socket.AF_UNSPEC, 0, 0, 0, 0)
        found = []
        for answer in self._list(_GETADDR, body, "list the addresses"):
            family, bits, _, _, index = _IFADDRMSG.unpack_from(answer)
            attributes = _attributes(answer, _IFADDRMSG.size)
            # IPv6 has the second one only if there is a peer.
            local = attributes.get(_IFA_LOCAL) or attributes.get(_IFA_ADDRESS)
            if family in (_socket.AF_INET, _socket.AF_INET6) and local:
                found.append((index, _socket.inet_ntop(family, local), bits))
        return found

    def index(self, name: str) -> int:
        """Return the index of an interface. ENODEV if there is none of that name."""
        for link in self.links():
            if link.name == name:
                return link.index
        raise KernelError(errno.ENODEV, "find the interface", [], name)

    def check_rights(self) -> None:
        """Raise EPERM if this process cannot change the interfaces. Changes nothing.

        Any change takes CAP_NET_ADMIN in the user namespace that owns this network namespace.
        """
        body = _IFINFOMSG.pack(0, 0, _LOOPBACK, 0, 0)
        self._ask(_SETLINK, 0, body, "change the interface", "lo")

    def create_bridge(self, name: str) -> None:
        """Create a bridge, and bring it up. EEXIST if there is an interface of that name."""
        body = _up(0) + _text(_IFNAME, name) + _nest(_LINKINFO, _text(_KIND, "bridge"))
        self._ask(_NEWLINK, _CREATE | _EXCLUSIVE, body, "create the bridge", name)

    def create_veth(
        self, name: str, *, master: int, network: int, peer: str, peer_mac: bytes, mac: bytes = b""
    ) -> None:
        """Create two connected interfaces, and bring up the one here: veth(4).

        name: of the one here, which becomes a port of the bridge with the index `master`. network:
        a descriptor of the network namespace that gets the other one, called `peer`, with the
        hardware address `peer_mac`. mac: that of the one here, if it matters. EEXIST if there is an
        interface of that name here or there.
        """
        # Not up yet: it is not connected until the other one is there (ENOTCONN of veth_open()).
        other = _IFINFOMSG.pack(0, 0, 0, 0, 0) + _text(_IFNAME, peer)
        other += _number(_NET_NS_FD, network) + _attribute(_ADDRESS, peer_mac)
        info = _text(_KIND, "veth") + _nest(_DATA, _attribute(_PEER, other))
        body = _up(0) + _text(_IFNAME, name) + _number(_MASTER, master)
        body += (_attribute(_ADDRESS, mac) if mac else b"") + _nest(_LINKINFO, info)
        self._ask(_NEWLINK, _CREATE | _EXCLUSIVE, body, "create the interface", name)

    def set_alias(self, name: str, alias: str) -> None:
        """Set the text of an interface, of up to 255 bytes."""
        if len(os.fsencode(alias)) > _LONGEST_ALIAS:
            raise KernelError(errno.E2BIG, "describe the interface", [], name)
        body = _IFINFOMSG.pack(0, 0, 0, 0, 0) + _text(_IFNAME, name)
        body += _attribute(_IFALIAS, os.fsencode(alias))
        self._ask(_SETLINK, 0, body, "describe the interface", name)

    def bring_up(self, name: str) -> None:
        """Bring an interface up."""
        self._ask(_SETLINK, 0, _up(0) + _text(_IFNAME, name), "bring up the interface", name)

    def disconnect(self, name: str, new_name: str) -> None:
        """Bring an interface down, take it off its bridge, and give it another name.

        That takes 0.3 ms, and `remove` 16 (Linux 6.18), which waits until no processor uses it.
        """
        # By its index: a name in a request is the new one.
        index, what = self.index(name), "disconnect the interface"
        off = _IFINFOMSG.pack(0, 0, index, 0, constants.IFF_UP) + _number(_MASTER, 0)
        self._ask(_SETLINK, 0, off, what, name)
        # Before Linux 6.2, only one that is down can be renamed.
        body = _IFINFOMSG.pack(0, 0, index, 0, 0) + _text(_IFNAME, new_name)
        self._ask(_SETLINK, 0, body, what, name)

    def remove(self, name: str) -> None:
        """Remove an interface, and the one that it is connected with."""
        body = _IFINFOMSG.pack(0, 0, 0, 0, 0) + _text(_IFNAME, name)
        self._ask(_DELLINK, 0, body, "remove the interface", name)

    def add_address(self, name: str, address: str, bits: int) -> None:
        """Give an interface an IP address; the network of the `bits` of its prefix is there.

        An IPv6 address can be used at once, as an IPv4 one: nobody is asked whether it is in use,
        which takes a second or more (RFC 4862, 5.4).
        """
        family, number = _number_of(address)
        flags = _IFA_F_NODAD if family == _socket.AF_INET6 else 0
        body = _IFADDRMSG.pack(family, bits, flags, 0, self.index(name))
        body += _attribute(_IFA_LOCAL, number) + _attribute(_IFA_ADDRESS, number)
        self._ask(_NEWADDR, _CREATE | _EXCLUSIVE, body, "add the address", address)

    def add_route(
        self, gateway: str, *, target: str = "", bits: int = 0, through: str = ""
    ) -> None:
        """Add a route to an IP network, by default to all others, through a neighbour.

        target, bits: the first address of that network, and the length of its prefix. through: the
        name of the interface, which an address of one link alone needs.
        """
        family, number = _number_of(gateway)
        body = _RTMSG.pack(
            *(family, bits, 0, 0),
            *(_TABLE_MAIN, _PROTOCOL_STATIC, _SCOPE_UNIVERSE, _UNICAST, 0),
        )
        if bits:
            body += _attribute(_RTA_DST, _number_of(target)[1])
        body += _attribute(_RTA_GATEWAY, number)
        body += _number(_RTA_OUT, self.index(through)) if through else b""
        self._ask(_NEWROUTE, _CREATE | _EXCLUSIVE, body, "add the route", gateway)

    def _ask(self, kind: int, flags: int, body: bytes, what: str, name: str) -> None:
        """Send a request, and wait until it is carried out."""
        number = self._send(kind, flags | _ACK, body, what, name)
        for answer, told, _, _content in self._hear(what, name):
            if told == number and answer == _FAILED:
                return

    def _list(self, kind: int, body: bytes, what: str) -> list[bytes]:
        """Return what a request for a list is answered with, without headers.

        A list that has changed on the way may lack what was there all the time: it is read again.
        """
        for _ in range(_TRIES):
            found, whole = [], True
            number = self._send(kind, _ROOT_MATCH, body, what, "")
            for answer, told, flags, data in self._hear(what, ""):
                if told != number:
                    continue
                whole = whole and not flags & _INTERRUPTED
                if answer == _DONE:
                    break
                found.append(data)
            if whole:
                return found
        raise KernelError(errno.EAGAIN, what)

    def _send(self, kind: int, flags: int, body: bytes, what: str, name: str) -> int:
        self._sequence += 1
        size = _NLMSGHDR.size + len(body)
        header = _NLMSGHDR.pack(size, kind, flags | _REQUEST, self._sequence, 0)
        try:
            # With a destination: see above.
            self._socket.sendto(header + body, (0, 0))
        except OSError as error:
            raise KernelError(error.errno or 0, what, [], name or None) from None
        return self._sequence

    def _hear(self, what: str, name: str) -> Iterator[tuple[int, int, int, bytes]]:
        """Yield (type, sequence number, flags, content) of what the kernel answers."""
        while True:
            try:
                data = self._socket.recv(_LARGEST_ANSWER)
            except OSError as error:
                raise KernelError(error.errno or 0, what, [], name or None) from None
            at = 0
            while at + _NLMSGHDR.size <= len(data):
                size, kind, flags, number, _ = _NLMSGHDR.unpack_from(data, at)
                content = data[at + _NLMSGHDR.size : at + size]
                if kind == _FAILED and number == self._sequence:
                    _check(content, flags, what, name)
                yield kind, number, flags, content
                at += max(_NLMSGHDR.size, (size + 3) & ~3)


def _check(content: bytes, flags: int, what: str, name: str) -> None:
    """Raise KernelError if an answer says that a request has failed."""
    (number,) = _ERROR.unpack_from(content)
    if not number:
        return
    reason: list[object] = []
    # An int, and the header of the request, which is all that is repeated of it: NETLINK_CAP_ACK.
    at = _ERROR.size + _NLMSGHDR.size
    if flags & _HAS_TEXT and flags & _CAPPED and (text := _attributes(content, at).get(_TEXT)):
        reason = [_as_text(text)]
    raise KernelError(-number, what, reason, name or None)


def _link_of(answer: bytes) -> Link:
    _, _, index, flags, _ = _IFINFOMSG.unpack_from(answer)
    found = _attributes(answer, _IFINFOMSG.size)
    master = found.get(_MASTER)
    info = _attributes(found.get(_LINKINFO, b""), 0)
    return Link(
        index=index,
        name=_as_text(found.get(_IFNAME, b"")),
        up=bool(flags & constants.IFF_UP),
        master=struct.unpack("=I", master)[0] if master else 0,
        alias=_as_text(found.get(_IFALIAS, b"")),
        kind=_as_text(info.get(_KIND, b"")),
    )


def _attributes(data: bytes, at: int) -> dict[int, bytes]:
    """Return the attributes of a message by their type; `at` is where they begin."""
    found = {}
    while at + _RTATTR.size <= len(data):
        size, kind = _RTATTR.unpack_from(data, at)
        found[kind & _TYPE_MASK] = data[at + _RTATTR.size : at + size]
        at += max(_RTATTR.size, (size + 3) & ~3)
    return found


def _number_of(address: str) -> tuple[int, bytes]:
    """Return the family of an IP address, and its bytes."""
    family = _socket.AF_INET6 if ":" in address else _socket.AF_INET
    return family, _socket.inet_pton(family, address)


def _as_text(data: bytes) -> str:
    return os.fsdecode(data.rstrip(b"\0"))


def _up(index: int) -> bytes:
    return _IFINFOMSG.pack(0, 0, index, constants.IFF_UP, constants.IFF_UP)


def _attribute(kind: int, value: bytes) -> bytes:
    padding = bytes(-len(value) % 4)
    return _RTATTR.pack(_RTATTR.size + len(value), kind) + value + padding


_nest = _attribute


def _text(kind: int, value: str) -> bytes:
    return _attribute(kind, os.fsencode(value) + b"\0")


def _number(kind: int, value: int) -> bytes:
    return _attribute(kind, struct.pack("=I", value))
