"""Names of hosts inside: /etc/resolv.conf and /etc/hosts, each covered by a file of the launch.

Pure, but for what ends in _inner, which runs in the child. The files of the host stay as they are:
what covers them is in the command's mount namespace only.
"""

from __future__ import annotations

import errno
import os
import stat

from pyspaces.errors import Refusal
from pyspaces.feature import NETWORK, Feature, Part, Step, many
from pyspaces.kernel import constants, mountapi
from pyspaces.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import ClassVar

    from pyspaces.feature import Given
    from pyspaces.launch.inner.steps import Context
    from pyspaces.plan import Plan

RESOLV, HOSTS = "/etc/resolv.conf", "/etc/hosts"
NONE = "none"
_MOST_SERVERS = 3  # MAXNS of resolv.h: the C library asks no more
_MOST_HOSTS = 1000
_LARGEST = 1 << 20  # bytes of a file that are read
_FLAGS = constants.MS_NOSUID | constants.MS_NODEV | constants.MS_NOEXEC


class Host(Record):
    """A line of /etc/hosts. address: without brackets."""

    name: str
    address: str


class Naming(Part):
    """Names of hosts. servers: the name servers, in their order; empty for those of the file.

    hosts: further lines of /etc/hosts. forward: whether name servers on the host's loopback are
    replaced by the address at which the program that leads out answers for them.
    """

    servers: tuple[str, ...] = ()
    hosts: tuple[Host, ...] = ()
    forward: bool = False

    _nested: ClassVar = {"hosts": Host}

    def faults(self, plan: Plan) -> Iterator[str]:
        from pyspaces.features.network.ports import family_of

        if len(self.servers) > _MOST_SERVERS:
            yield f"dns: {len(self.servers)} addresses, and the C library asks {_MOST_SERVERS}"
        yield from (
            f"dns: {one!r} is not an IP address" for one in self.servers if not family_of(one)
        )
        if len(self.hosts) > _MOST_HOSTS:
            yield f"add-host: {len(self.hosts)} names, and a launch takes {_MOST_HOSTS}"
        for one in self.hosts:
            if not family_of(one.address):
                yield f"add-host: {one.address!r} is not an IP address"
            if not _is_name(one.name):
                yield f"add-host: {one.name[:60]!r} is not a host name"
        if self.hosts and plan.holds("between") and plan.between.network:
            yield "add-host: cannot be combined with --net=NETWORK, which has its own /etc/hosts"
        if plan.mounts.propagation not in ("private", "slave"):
            yield f"propagation: {plan.mounts.propagation}: what covers /etc would be seen outside"
        if self.forward and not plan.holds("uplink"):
            yield "dns: nothing leads out that could forward it"


def _is_name(text: str) -> bool:
    from pyspaces.features.network.hosts import is_name

    return is_name(text.lower())


def host_of(text: str) -> Host:
    """Read NAME=ADDRESS. Raises ValueError."""
    from pyspaces.features.network.ports import family_of

    name, equals, address = text.partition("=")
    bare = address[1:-1] if address[:1] == "[" and address[-1:] == "]" else address
    if not equals or not _is_name(name):
        raise ValueError(f"{text[:60]!r} is not of the form NAME=ADDRESS")
    if not family_of(bare):
        raise ValueError(f"{text[:60]!r}: {address!r} is not an IP address")
    return Host(name=name, address=bare)


def _read(given: Given, plan: Plan) -> Naming:
    servers = given.words("dns")
    if NONE in servers and len(servers) > 1:
        given.faults.append("dns: none cannot be combined with an address")
    leads = isinstance(given.values.get("net"), str)
    return Naming(
        servers=tuple(one for one in servers if one != NONE),
        hosts=given.each("add_host", host_of),
        forward=leads and not servers and plan.has("mount"),
    )


def _cover_inner(context: Context) -> None:
    naming = context.plan.naming
    if naming.servers:
        _replace_inner(RESOLV, lambda found: resolv(found, naming.servers))
    elif naming.forward:
        assert context.uplink
        forwarder = context.uplink.forwarder
        try:
            _replace_inner(RESOLV, lambda found: forwarding(found, forwarder))
        except Refusal as error:
            if error.errno != errno.ENOENT:  # this root has none, and asks nobody
                raise
    if naming.hosts:
        _replace_inner(HOSTS, lambda found: hosts(found, naming.hosts))


def resolv(found: bytes, servers: Iterable[str]) -> bytes:
    """Return a resolv.conf with these name servers, and all else that is in `found`."""
    rest = [line for line in found.splitlines() if line.split()[:1] != [b"nameserver"]]
    return b"".join(line + b"\n" for line in [*_servers(servers), *rest])


def forwarding(found: bytes, forwarder: str | None) -> bytes | None:
    """Return a resolv.conf without name servers on the loopback; None if it has none there.

    forwarder: what replaces them; None if it is enough to leave them out.
    """
    servers = servers_of(found)
    left = [forwarder if is_loopback(one) else one for one in servers]
    if servers and left == servers:
        return None
    # Without any, the C library asks 127.0.0.1.
    return resolv(found, dict.fromkeys(one for one in left or [forwarder] if one))


def servers_of(found: bytes) -> list[str]:
    """Return the name servers of a resolv.conf."""
    words = [line.split() for line in found.splitlines()]
    return [
        line[1].decode("ascii", "replace")
        for line in words
        if line[:1] == [b"nameserver"] and line[1:]
    ]


def hosts(found: bytes, more: Iterable[Host]) -> bytes:
    """Return a file of hosts with further lines, which count before those that are there."""
    lines = b"".join(f"{one.address}\t{one.name}\n".encode() for one in more)
    return lines + found


def _servers(addresses: Iterable[str]) -> list[bytes]:
    return [b"nameserver " + one.encode() for one in addresses]


def is_loopback(address: str) -> bool:
    """Return whether an address is one of the host itself, whatever host that is."""
    return address.startswith("127.") or address in ("::1", "0.0.0.0", "::")  # noqa: S104 - the same


def _replace_inner(path: str, change: Callable[[bytes], bytes | None]) -> None:
    """Cover a file by one with other contents. Raises Refusal naming it.

    The mount covers what the path leads to; or the link itself, if that leads nowhere, as one to
    /run does in a sandbox.
    """
    try:
        point, is_readable = _opened_inner(path)
        text = change(_contents_inner(point) if is_readable else b"")
        if text is not None:
            mount = _file_inner(os.path.dirname(path), text)
            mountapi.move_mount(mount, point)
            os.close(mount)
        os.close(point)
    except OSError as error:
        raise Refusal(number=error.errno or 0, path=path) from error


def _opened_inner(path: str) -> tuple[int, bool]:
    """Open what is to be covered; return also whether it can be read.

    Once: what is read has to be what is covered. With two looks, the owner of the tree could let
    the first one find a file of his, and the second one a file of the host by a link in /proc.
    """
    try:
        return os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY), True
    except FileNotFoundError:
        return os.open(path, os.O_PATH | os.O_NOFOLLOW), False
    except OSError:
        return os.open(path, os.O_PATH), False


def _contents_inner(descriptor: int) -> bytes:
    """Return what is in a file; nothing if it is not one that could be read to its end."""
    found = b""
    if stat.S_ISREG(os.fstat(descriptor).st_mode):
        while (piece := os.read(descriptor, _LARGEST)) and len(found) < _LARGEST:
            found += piece
    return found if found.endswith(b"\n") or not found else found + b"\n"


def _file_inner(directory: str, text: bytes) -> int:
    """Return a detached mount of a new file.

    A mount can be copied from only where it is attached (before Linux 6.15). So the file system of
    the file is over `directory` for a moment, which nobody but us can see.
    """
    here = os.open(".", os.O_PATH | os.O_DIRECTORY)
    place = os.open(directory, os.O_PATH | os.O_DIRECTORY)
    top = mountapi.fresh("tmpfs", _FLAGS, "mode=0755,size=2m,nr_inodes=4")
    try:
        descriptor = os.open("file", os.O_CREAT | os.O_WRONLY, 0o644, dir_fd=top)
        os.fchmod(descriptor, 0o644)
        while text:
            text = text[os.write(descriptor, text) :]
        os.close(descriptor)
        mountapi.move_mount(top, place)
        file = os.open("file", os.O_PATH, dir_fd=top)
        mount = mountapi.open_tree(file)
        os.close(file)
        os.fchdir(top)
        mountapi.umount(".", constants.MNT_DETACH)
    finally:
        os.fchdir(here)
        for one in (here, place, top):
            os.close(one)
    return mount


def _parts(plan: Plan) -> Iterator[str]:
    for one in plan.naming.servers:
        yield f"ask the name server {one}"
    if plan.naming.forward:
        yield "ask the name servers on the host's loopback by a forwarder"
    for host in plan.naming.hosts:
        yield f"{host.name} is {host.address}"


COVER = Step(
    title="name the hosts",
    applies=lambda plan: bool(plan.naming.servers or plan.naming.hosts or plan.naming.forward),
    act=_cover_inner,
    parts=_parts,
)

FEATURE = Feature(
    name="naming",
    part=Naming,
    settings=(
        many(
            "dns",
            NETWORK,
            "ADDRESS|none",
            "ask this name server; none leaves resolv.conf as it is; repeatable",
            words=(NONE,),
            implies=("mount",),
        ),
        many(
            "add_host",
            NETWORK,
            "NAME=ADDRESS",
            "add a line to the command's /etc/hosts; repeatable",
            implies=("mount",),
        ),
    ),
    read=_read,
    also=("net",),
    needs=dict.fromkeys(Naming._fields, ("mount",)),
    options={"servers": "dns", "hosts": "add-host", "forward": ""},
    quiet=Naming._fields,
    no_equivalent=dict.fromkeys(Naming._fields, "unshare(1) leaves the files of names alone"),
)
