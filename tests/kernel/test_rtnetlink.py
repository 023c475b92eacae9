"""Interfaces, addresses and routes of two network namespaces side by side."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pyspaces.kernel import constants, libc, rtnetlink
from pyspaces.kernel.libc import KernelError
from pyspaces.kernel.rtnetlink import Interfaces

pytestmark = pytest.mark.needs("userns", "netns", "bridge")
MAC = bytes((2, 0, 0, 0, 0, 2))


class Space:
    """A child in a new user and network namespace, and what it has opened there."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair()
        owner = os.geteuid(), os.getegid()
        self.pid = os.fork()
        if self.pid == 0:
            try:
                _serve(theirs, owner)
            finally:
                os._exit(1)
        theirs.close()
        self.ours = ours
        _, found, _, _ = socket.recv_fds(ours, 1, 2)
        self.links, self.inet = Interfaces(found[0]), socket.socket(fileno=found[1])

    def network(self) -> int:
        return fcntl.ioctl(self.links.fileno(), constants.SIOCGSKNS)

    def close(self) -> None:
        for one in (self.links, self.inet, self.ours):
            one.close()
        os.waitpid(self.pid, 0)


def _serve(theirs: socket.socket, owner: tuple[int, int]) -> None:
    libc.unshare(constants.CLONE_NEWUSER | constants.CLONE_NEWNET)
    Path("/proc/self/setgroups").write_text("deny")
    for name, number in zip(("uid_map", "gid_map"), owner, strict=True):
        Path(f"/proc/self/{name}").write_text(f"0 {number} 1")
    with socket.socket() as inet:
        socket.send_fds(theirs, [b"."], [rtnetlink.socket(), inet.fileno()])
    # What this process has of pytest's is closed when the other end is.
    theirs.recv(1)


@pytest.fixture
def spaces() -> Iterator[tuple[Space, Space]]:
    with contextlib.closing(Space()) as one, contextlib.closing(Space()) as other:
        # The second child holds an end of the first one's.
        try:
            yield one, other
        finally:
            for space in (one, other):
                space.ours.shutdown(socket.SHUT_RDWR)


def connect(one: Space, other: Space, name: str = "port") -> None:
    master, network = one.links.index("bridge"), other.network()
    try:
        one.links.create_veth(name, master=master, network=network, peer="eth0", peer_mac=MAC)
    finally:
        os.close(network)


def _accept(listening: socket.socket) -> None:
    listening.accept()[0].close()


def fails(act: Callable[[], object]) -> KernelError:
    with pytest.raises(KernelError) as caught:
        act()
    return caught.value


def test_a_bridge_is_created_with_an_address(spaces: tuple[Space, Space]) -> None:
    links = spaces[0].links
    links.bring_up("lo")
    links.create_bridge("bridge")
    links.add_address("bridge", "10.1.2.1", 24)
    assert [(link.name, link.up) for link in links.links()] == [("lo", True), ("bridge", True)]
    assert (links.index("bridge"), "10.1.2.1", 24) in links.addresses()


def test_two_namespaces_side_by_side_are_connected(spaces: tuple[Space, Space]) -> None:
    one, other = spaces
    one.links.create_bridge("bridge")
    one.links.add_address("bridge", "10.1.2.1", 24)
    connect(one, other)
    one.links.set_alias("port", "12 34 web")
    port = one.links.links()[-1]
    assert (port.name, port.alias, port.up) == ("port", "12 34 web", True)
    assert port.master == one.links.index("bridge")
    other.links.bring_up("eth0")
    other.links.add_address("eth0", "10.1.2.2", 24)
    other.links.add_route("10.1.2.1")
    one.inet.settimeout(60)
    one.inet.bind(("10.1.2.1", 80))
    one.inet.listen()
    thread = threading.Thread(target=_accept, args=(one.inet,))
    thread.start()
    other.inet.settimeout(60)
    try:
        other.inet.connect(("10.1.2.1", 80))
    finally:
        thread.join()
    assert other.inet.getsockname()[0] == "10.1.2.2"


def test_what_is_removed_is_gone_on_both_sides(spaces: tuple[Space, Space]) -> None:
    one, other = spaces
    one.links.create_bridge("bridge")
    connect(one, other)
    assert len(other.links.links()) == 2
    one.links.remove("port")
    assert [link.name for link in other.links.links()] == ["lo"]
    assert [link.name for link in one.links.links()] == ["lo", "bridge"]


def test_what_is_disconnected_leaves_its_name(spaces: tuple[Space, Space]) -> None:
    one, other = spaces
    one.links.create_bridge("bridge")
    connect(one, other)
    one.links.disconnect("port", "gone")
    gone = one.links.links()[-1]
    assert (gone.name, gone.master, gone.up) == ("gone", 0, False)
    with contextlib.closing(Space()) as third:
        connect(one, third)
        third.ours.shutdown(socket.SHUT_RDWR)


def test_a_list_of_many_interfaces_is_whole(spaces: tuple[Space, Space]) -> None:
    links = spaces[0].links
    names = [f"bridge{number}" for number in range(30)]  # more than the kernel sends at once
    for name in names:
        links.create_bridge(name)
    assert [link.name for link in links.links()] == ["lo", *names]


def test_what_the_kernel_refuses_is_told(spaces: tuple[Space, Space]) -> None:
    one, other = spaces
    one.links.create_bridge("bridge")
    again = fails(lambda: one.links.create_bridge("bridge"))
    assert (again.errno, again.call) == (errno.EEXIST, "create the bridge")
    assert again.filename == "bridge"
    connect(one, other)
    assert fails(lambda: connect(one, other)).errno == errno.EEXIST
    assert fails(lambda: one.links.remove("none")).errno == errno.ENODEV
    assert fails(lambda: one.links.add_address("none", "10.0.0.1", 8)).errno == errno.ENODEV
    assert fails(lambda: one.links.set_alias("port", "x" * 256)).errno == errno.E2BIG
    unreachable = fails(lambda: one.links.add_route("10.9.9.9"))
    assert unreachable.errno == errno.ENETUNREACH
    assert unreachable.arguments == ("Nexthop has invalid gateway",)


def test_a_process_with_rights_in_one_of_them_cannot_connect_them(
    spaces: tuple[Space, Space],
) -> None:
    one, other = spaces
    one.links.create_bridge("bridge")
    pid = os.fork()
    if pid == 0:
        try:
            # Root in the namespace of the other, as a command on a network is.
            libc.setns(_open(other.pid), constants.CLONE_NEWUSER | constants.CLONE_NEWNET)
            refused = [
                fails(lambda: connect(one, other)).errno,
                fails(lambda: one.links.remove("bridge")).errno,
            ]
            os._exit(refused != [errno.EPERM, errno.EPERM])
        finally:
            os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def _open(pid: int) -> int:
    return os.pidfd_open(pid)
