"""Ports that lead in, with servers in real network namespaces."""

from __future__ import annotations

import concurrent.futures
import contextlib
import json
import os
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
from boxes import (
    SERVER,
    ask,
    ask_udp,
    box,
    connect,
    descriptors_of,
    first_bytes,
    is_free,
    is_refused,
    read_all,
    server,
)
from conftest import IS_ROOT

from pyspaces import launch, settings

pytestmark = pytest.mark.needs("userns", "netns")
Wait = Callable[..., None]
Run = Callable[..., subprocess.CompletedProcess[str]]
KINDS: list[tuple[str, ...]] = [("--user", "--net"), ("--all", "--init")]
if IS_ROOT:
    KINDS.append(("--net",))


@pytest.fixture(scope="module")
def echo() -> Iterator[int]:
    """One server inside for the tests that only ask it; its port outside."""
    with server("echo", "-P", "0:80") as running:
        yield running.ports[0]


@pytest.mark.parametrize("own", KINDS, ids=" ".join)
def test_a_server_on_the_loopback_inside_is_reached(own: tuple[str, ...]) -> None:
    with server("echo", "-P", "0:80", own=own) as running:
        assert ask(running.ports[0]) == b"hello"
        assert len(running.helpers()) == 1
        port = running.ports[0]
        assert running.end() in (-signal.SIGTERM, 143)
        assert is_free(port)


@pytest.mark.needs("many")
@pytest.mark.parametrize("words", [("--setuid", "1000", "--setgid", "1000")])
def test_nor_does_it_matter_who_the_command_is(words: tuple[str, ...]) -> None:
    """Into a process with other ids, an ordinary launcher may not look."""
    program = Path(SERVER).read_text()
    many = ("0 100000 65536",) * 2 if IS_ROOT else ("auto",) * 2
    words = ("--map-uid", many[0], "--map-gid", many[1], *words)
    with box(*words, "-P", "0:8080", "--", "/usr/bin/python3", "-c", program, "echo", "127.0.0.1",
             "8080") as running:  # fmt: skip
        assert running.line() == "ready 8080"
        assert ask(running.ports[0]) == b"hello"


@pytest.mark.parametrize("address", ["0.0.0.0", "::1", "::"])
def test_whatever_address_it_listens_on(address: str) -> None:
    with server("echo", "-P", "0:80", address=address) as running:
        assert ask(running.ports[0]) == b"hello"


def test_a_root_without_proc_makes_no_difference(tmp_path: Path) -> None:
    words = ("--ro-bind", "/", "/", "--tmpfs", "/proc")
    with server("echo", "-P", "0:80", *words) as running:
        assert ask(running.ports[0]) == b"hello"


def test_the_address_of_the_host_that_is_asked_for() -> None:
    with server("echo", "-P", "127.0.0.2:0:80", "-P", "[::1]:0:80", "-P", "0.0.0.0:0:80") as one:
        first, second, third = one.ports
        assert ask(first, address="127.0.0.2") == b"hello"
        assert ask(second, address="::1") == b"hello"
        assert ask(third, address="127.0.0.3") == b"hello"
        assert is_refused(first)


def test_the_record_names_the_ports() -> None:
    with server("echo", "-P", "127.0.0.2:0:80", "-P", "0:53/udp") as running:
        first, second = running.record["ports"]
        assert first == {
            "inside": 80, "outside": running.ports[0], "address": "127.0.0.2", "protocol": "tcp",
        }  # fmt: skip
        assert (second["inside"], second["protocol"]) == (53, "udp")
        assert all(running.ports)


def test_a_launch_without_ports_has_no_such_member() -> None:
    with box("--", "sleep", "60") as running:
        assert "ports" not in running.record


@pytest.mark.parametrize("threads", [0, 3])
def test_a_library_learns_them_too(threads: int) -> None:
    stop = threading.Event()
    busy = [threading.Thread(target=stop.wait) for _ in range(threads)]
    for one in busy:
        one.start()
    try:
        _start_and_ask()
    finally:
        stop.set()
        for one in busy:
            one.join()


def _start_and_ask() -> None:
    plan = settings.plan_from(
        {"user": True, "net": True, "publish": ["0:80"],
         "command": [sys.executable, SERVER, "echo", "127.0.0.1", "80"]}
    )  # fmt: skip
    with launch.start(plan) as running:
        (port,) = running.ports
        assert (port.inside, port.address, port.protocol) == (80, "127.0.0.1", "tcp")
        while not _is_answered(port.outside):
            time.sleep(0.01)
        running.send_signal(signal.SIGTERM)
        assert running.wait(60).signal == signal.SIGTERM


def _is_answered(port: int) -> bool:
    # Before the server inside listens, a connection is taken back: as what is sent is sent, as its
    # end is told (ENOTCONN), or as the answer is read.
    with contextlib.suppress(OSError):
        return ask(port) == b"hello"
    return False


def test_a_range_of_ports(wait_until: Wait) -> None:
    program = (
        "import socket\n"
        "for port in (81, 80):\n"
        "    socket.create_server(('127.0.0.1', port)).accept()[0].sendall(b'%d' % port)\n"
    )
    with box("-P", "0:80-81", "--", sys.executable, "-c", program) as running:
        for number, port in ((b"81", running.ports[1]), (b"80", running.ports[0])):
            wait_until(partial(_tells, port, number), f"{number!r} comes from there")


def _tells(port: int, text: bytes) -> bool:
    return first_bytes(port) == text


# --- what is carried ----------------------------------------------------------------------------


def test_a_hundred_megabytes_arrive_as_they_were_sent(echo: int) -> None:
    data = os.urandom(1 << 20) * 100
    with connect(echo) as one, concurrent.futures.ThreadPoolExecutor(1) as pool:
        sending = pool.submit(one.sendall, data)
        found = bytearray()
        while len(found) < len(data):
            found += one.recv(1 << 20)
        sending.result()
        assert found == data


def test_two_hundred_connections_at_once(echo: int) -> None:
    with contextlib.ExitStack() as stack:
        opened = [stack.enter_context(connect(echo)) for _ in range(200)]
        for number, one in enumerate(opened):
            one.sendall(b"%d" % number)
        for number, one in enumerate(opened):
            one.shutdown(socket.SHUT_WR)
            assert read_all(one) == b"%d" % number


def _many_short_ones(port: int, count: int) -> None:
    for number in range(count):
        assert ask(port, b"%d" % number) == b"%d" % number


@pytest.mark.parametrize("count", [100, pytest.param(10_000, marks=pytest.mark.stress)])
def test_short_connections_leave_nothing_open(count: int, wait_until: Wait) -> None:
    with server("echo", "-P", "0:80") as running:
        (relay,) = running.helpers()
        # From then on, it has all that it needs for itself.
        _many_short_ones(running.ports[0], 1)
        if IS_ROOT:
            before = descriptors_of(relay)
        _many_short_ones(running.ports[0], count)
        if IS_ROOT:
            # Of the first connection, something may have been open.
            wait_until(lambda: {*descriptors_of(relay)} <= {*before}, "no more descriptors")


def test_each_side_can_end_before_the_other() -> None:
    with server("tail", "-P", "0:80") as running:
        assert ask(running.ports[0], bytes(1_000_000)) == b"1000000"
    with server("half", "-P", "0:80") as running, connect(running.ports[0]) as one:
        assert read_all(one) == b"bye"
        one.sendall(b"and this")
        one.shutdown(socket.SHUT_WR)
        assert running.line() == "told and this"


def test_a_reader_who_does_not_read_holds_nobody_up_and_takes_little_memory() -> None:
    with server("flood", "-P", "0:80") as running:
        (relay,) = running.helpers()
        lazy = [connect(running.ports[0]) for _ in range(20)]
        for one in lazy:
            one.sendall(b".")
        before = _resident(relay)
        with connect(running.ports[0]) as quick:
            quick.sendall(b".")
            size = 0
            while size < 50_000_000:
                size += len(quick.recv(1 << 20))
        # A piece of 256 KiB for each of them at most.
        assert _resident(relay) - before < 20 * (1 << 18) + (8 << 20)
        for one in lazy:
            one.close()


def _resident(pid: int) -> int:
    fields = Path(f"/proc/{pid}/statm").read_text().split()
    return int(fields[1]) * os.sysconf("SC_PAGESIZE")


def test_who_goes_away_is_noticed_by_the_other() -> None:
    with server("flood", "-P", "0:80") as running:
        with connect(running.ports[0]) as one:
            one.sendall(b".")
            one.recv(1 << 20)
        assert running.line() == "broken"


def test_nobody_listens_inside(wait_until: Wait) -> None:
    with box("-P", "0:80", "--", "sleep", "60") as running:
        with pytest.raises(ConnectionResetError), connect(running.ports[0]) as one:
            one.recv(1)
        assert running.launcher.poll() is None


def test_what_the_command_sent_last_arrives_after_its_end() -> None:
    program = (
        "import socket, sys\n"
        "own = socket.create_server(('127.0.0.1', 80)); print('ready 80', flush=True)\n"
        "one, _ = own.accept(); one.sendall(bytes(3_000_000))\n"
    )
    with box("-P", "0:80", "--", sys.executable, "-c", program) as running:
        assert running.line() == "ready 80"
        with connect(running.ports[0]) as one:
            assert len(read_all(one)) == 3_000_000
        assert running.launcher.wait(60) == 0


def test_datagrams_of_several_peers() -> None:
    with server("udp", "-P", "0:80/udp") as running:
        peers = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(3)]
        assert ask_udp(running.ports[0]) == b"olleh"
        for number, own in enumerate(peers):
            own.settimeout(60)
            own.connect(("127.0.0.1", running.ports[0]))
            own.send(b"%d." % number)
        for number, own in enumerate(peers):
            assert own.recv(100) == b".%d" % number
            own.close()
        large = os.urandom(60_000)
        assert ask_udp(running.ports[0], large) == large[::-1]


# --- ports of the host --------------------------------------------------------------------------


def test_more_ports_than_there_are_descriptors_is_an_error(pyspaces: Run) -> None:
    words = ("-P", "0:1000-1099", "--forward", "2000-2099:1000-1099", "--", "true")
    limit = lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (150, 150))  # noqa: E731
    done = pyspaces("run", "--user", "--net", *words, preexec_fn=limit)
    assert done.returncode == 125
    assert "Too many open files" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_port_that_is_taken_is_an_error_before_the_command_runs(
    pyspaces: Run, tmp_path: Path
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = pyspaces("run", "--user", "--net", "-P", f"{port}:80", "--status-file",
                        str(tmp_path / "status"), "--", "touch", str(tmp_path / "ran"))  # fmt: skip
    assert done.returncode == 125
    assert f"cannot open the ports: bind 127.0.0.1:{port}: Address already in use" in done.stderr
    assert not (tmp_path / "ran").exists()
    failed = json.loads((tmp_path / "status").read_text())
    assert (failed["event"], failed["errno"], failed["path"]) == (
        *("failed", "EADDRINUSE", f"127.0.0.1:{port}"),
    )


def test_so_is_one_that_another_sandbox_has_published(pyspaces: Run) -> None:
    with server("echo", "-P", "0:80", "-P", "0:81/udp") as running:
        for port, more in zip(running.ports, ("", "/udp"), strict=True):
            done = pyspaces("run", "--user", "--net", "-P", f"{port}:80{more}", "--", "true")
            assert f"127.0.0.1:{port}{more}: Address already in use" in done.stderr


def test_an_address_that_the_host_has_not(pyspaces: Run) -> None:
    done = pyspaces("run", "--user", "--net", "-P", "192.0.2.1:0:80", "--", "true")
    assert done.returncode == 125
    assert "bind 192.0.2.1:0: Cannot assign requested address" in done.stderr
    assert "hint: no interface of this host has the address 192.0.2.1" in done.stderr


@pytest.mark.as_ordinary
def test_a_port_that_only_root_may_use(pyspaces: Run) -> None:
    least = int(Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").read_text())
    if least < 2:
        pytest.skip("here, every user may listen on port 1")
    done = pyspaces("run", "--user", "--net", "-P", "1:80", "--", "true")
    assert done.returncode == 125
    assert "bind 127.0.0.1:1: Permission denied" in done.stderr
    assert f"hint: a user may listen only on ports from {least} on" in done.stderr
