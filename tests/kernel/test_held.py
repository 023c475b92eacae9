"""Namespaces that no process is in, and that a descriptor or a socket holds."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest

from pyspaces.host import listing
from pyspaces.kernel import held, namespaces

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

LINKS = {row.link: row.name for row in namespaces.NAMESPACES}
# Make namespaces in a child that ends; keep what `hold` names of them; say what these are.
HOLDER = """
import os, socket, sys
from pyspaces.kernel import constants, libc
ours, theirs = socket.socketpair()
more = [os.dup(0) for _ in range(int(sys.argv[1]))]
pid = os.fork()
if pid == 0:
    libc.unshare(constants.CLONE_NEWUSER)
    libc.unshare(constants.CLONE_NEWUTS | constants.CLONE_NEWNET)
    kept = [
        socket.socket(socket.AF_UNIX).detach() if word == "socket"
        else os.open(f"/proc/self/ns/{word}", os.O_PATH if word == "user" else os.O_RDONLY)
        for word in sys.argv[2:]
    ]
    inodes = [os.stat(f"/proc/self/ns/{link}").st_ino for link in ("user", "uts", "net")]
    socket.send_fds(theirs, [repr(inodes).encode()], kept)
    os._exit(0)
inodes, kept, _, _ = socket.recv_fds(ours, 1000, 9)
os.waitpid(pid, 0)
ours.close(), theirs.close()
if os.fork() == 0:  # as most descriptors, they are held by more than one process
    sys.stdin.read()
    os._exit(0)
print(inodes.decode(), kept, flush=True)
sys.stdin.read()
os.wait()
"""


@contextmanager
def holder(*words: str, more: int = 0) -> Iterator[tuple[dict[str, int], list[str]]]:
    """Hold parts of new namespaces; give their inodes, and the paths of the descriptors."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(more), *words],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout
        inodes, numbers = process.stdout.readline().replace("] [", "]\t[").split("\t")
        made = dict(zip(("user", "uts", "net"), json.loads(inodes), strict=True))
        yield made, [f"/proc/{process.pid}/fd/{number}" for number in json.loads(numbers)]
        assert process.stdin
        process.stdin.close()


def rows(*, descriptors: bool | None = None) -> dict[int, listing.Row]:
    return {row.ns: row for row in listing.listing(descriptors=descriptors).rows}


def nobody() -> int:
    """Return the number of no process, now or ever."""
    return int(Path("/proc/sys/kernel/pid_max").read_text())


def lists(found: dict[int, listing.Row], made: dict[str, int], kind: str) -> bool:
    """Return whether a namespace is listed, and not another one that has got its number since."""
    row = found.get(made[kind])
    return row is not None and row.nprocs == 0 and row.owner == made["user"]


@pytest.mark.needs("userns", "netns")
def test_a_descriptor_holds(wait_until: Callable[..., None]) -> None:
    with holder("uts") as (made, paths):
        found = rows()
        row = found[made["uts"]]
        assert (row.type, row.nprocs, row.pid, row.command) == ("uts", 0, None, None)
        assert paths[0] in row.held
        assert len(row.held) == 2, "the child holds it, too"
        assert row.owner == made["user"]
        # What owns it is kept by it, and shown with its own owner.
        assert found[made["user"]].owner == os.stat("/proc/self/ns/user").st_ino
        assert found[made["user"]].held == ()
        assert not lists(found, made, "net")
    wait_until(lambda: not lists(rows(), made, "uts"), "its number is that of no other holder")


@pytest.mark.needs("userns", "netns")
def test_a_socket_holds(wait_until: Callable[..., None]) -> None:
    with holder("socket") as (made, paths):
        found = rows()
        row = found[made["net"]]
        assert (row.type, row.nprocs, row.pid, row.owner) == ("net", 0, None, made["user"])
        # One place is enough: a socket that processes share is asked once.
        assert row.held == (f"socket:{paths[0]}",)
        assert not lists(found, made, "uts")
    wait_until(lambda: not lists(rows(), made, "net"), "its number is that of no other holder")


@pytest.mark.needs("userns", "netns")
def test_a_descriptor_that_is_only_a_path_holds() -> None:
    with holder("user") as (made, paths):
        assert paths[0] in rows()[made["user"]].held


@pytest.mark.needs("userns", "netns")
def test_where_a_process_is_inside_nothing_else_is_told() -> None:
    with open("/proc/self/ns/net") as own:
        row = rows()[os.fstat(own.fileno()).st_ino]
        assert (row.nprocs > 0, row.held) == (True, ())


@pytest.mark.needs("userns", "netns")
def test_descriptors_are_left_out_on_demand() -> None:
    with holder("uts", "socket") as (made, _):
        few = rows(descriptors=False)
        assert not any(lists(few, made, kind) for kind in ("uts", "net"))
        assert set(made.values()) <= set(rows(descriptors=True))


@pytest.mark.needs("userns", "netns")
def test_more_descriptors_than_the_limit_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of each process, the lowest are looked at before the rest of any."""
    with holder("uts", "socket", more=600) as (made, _):
        monkeypatch.setattr(listing, "_MOST_DESCRIPTORS", 20)
        few = listing.listing()
        assert few.unsearched > 500
        assert not lists({row.ns: row for row in few.rows}, made, "uts")
        everything = listing.listing(descriptors=True)
        assert everything.unsearched == 0
        assert set(made.values()) <= {row.ns for row in everything.rows}
        assert listing.listing(descriptors=False).unsearched == 0


@pytest.mark.needs("userns", "netns")
def test_a_process_with_many_descriptors_hides_none_of_others() -> None:
    with holder("uts", more=2000) as (first, many), holder("uts") as (second, few):
        pids = [int(paths[0].split("/")[2]) for paths in (many, few)]
        search = held.Search({"uts"}, sockets=False, limit=1000)
        search.walk(pids)
        assert ("uts", second["uts"]) in search.found
        assert ("uts", first["uts"]) not in search.found
        assert search.unsearched > 1000
        unlimited = held.Search({"uts"}, sockets=False, limit=None)
        unlimited.walk(pids)
        assert set(unlimited.found) == {("uts", first["uts"]), ("uts", second["uts"])}


@pytest.mark.needs("userns", "netns")
def test_the_number_of_those_left_is_exact() -> None:
    with holder("uts", more=300) as (_, paths):
        pid = int(paths[0].split("/")[2])
        total = len(os.listdir(f"/proc/{pid}/fd"))
        for limit in (0, 1, 256, 300, 10_000):
            search = held.Search({"uts"}, sockets=False, limit=limit)
            search.walk([pid])
            assert search.unsearched == max(0, total - limit)


def test_sockets_count_among_those_that_are_left() -> None:
    script = """
import socket
pairs = [socket.socketpair() for _ in range(20)]
print(flush=True)
input()
"""
    with subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout
        process.stdout.readline()
        total = len(os.listdir(f"/proc/{process.pid}/fd"))
        search = held.Search((), sockets=True, limit=total + 10)
        search.walk([process.pid])
        # To ask one costs as much as to look at two more.
        assert search.unsearched == 40 - 5
        process.communicate(b"\n")


def test_what_is_no_namespace_is_not_opened(tmp_path: Path) -> None:
    """A descriptor may have become anything by the time it is opened: a FIFO would wait."""
    fifo = tmp_path / "uts:[4026531838]"
    os.mkfifo(fifo)
    descriptor = os.open(fifo, os.O_PATH)
    reading, writing = os.pipe()
    try:
        for number in (descriptor, reading, 10**6):
            assert held.Place(os.getpid(), number, is_socket=False).open() is None
            assert held.Place(os.getpid(), number, is_socket=True).open() is None
        search = held.Search({"uts"}, sockets=True, limit=None)
        search.walk([os.getpid()])
        assert not [key for key in search.found if key[0] == "uts"]
    finally:
        for number in (descriptor, reading, writing):
            os.close(number)


def test_processes_that_have_gone_hold_nothing() -> None:
    search = held.Search(LINKS, sockets=True, limit=None)
    search.walk([nobody()])
    assert (search.found, search.unsearched) == ({}, 0)
    assert held.Place(nobody(), 0, is_socket=True).open() is None
    assert held.Place(nobody(), 0, is_socket=False).open() is None
