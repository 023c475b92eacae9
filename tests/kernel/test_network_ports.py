"""Ports that lead in and out, with servers in real network namespaces."""

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
from typing import Any

import pytest
from boxes import (
    SERVER,
    ask,
    ask_udp,
    box,
    connect,
    descriptors_of,
    is_free,
    is_refused,
    on_host,
    read_all,
    server,
)
from conftest import IS_ROOT, SCRIPT, processes_of, processes_with

from pyspaces import launch, settings
from pyspaces.errors import SpaceError

pytestmark = pytest.mark.needs("userns", "netns")
Wait = Callable[..., None]
Run = Callable[..., subprocess.CompletedProcess[str]]
KINDS = [("--user", "--net"), ("--user", "--net", "--pid", "--init"), ("--all",)]
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
@pytest.mark.parametrize("words", [(), ("--setuid", "1000", "--setgid", "1000")])
def test_nor_does_it_matter_who_the_command_is(words: tuple[str, ...]) -> None:
    """Into a process with other ids, an ordinary launcher may not look."""
    program = Path(SERVER).read_text()
    many = ("0 100000 65536",) * 2 if IS_ROOT else ("auto",) * 2
    words = ("--map-uid", many[0], "--map-gid", many[1], *words)
    with box(*words, "-P", "0:8080", "--", "/usr/bin/python3", "-c", program, "echo", "127.0.0.1",
             "8080") as running:  # fmt: skip
        assert running.line() == "ready 8080"
        assert ask(running.ports[0]) == b"hello"


@pytest.mark.parametrize("address", ["127.0.0.1", "0.0.0.0", "::1", "::"])
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
        assert running.wait(20).signal == signal.SIGTERM


def _is_answered(port: int) -> bool:
    with contextlib.suppress(ConnectionResetError):
        return ask(port) == b"hello"
    return False


def test_a_range_of_ports(tmp_path: Path) -> None:
    program = (
        "import socket\n"
        "for port in (81, 80):\n"
        "    socket.create_server(('127.0.0.1', port)).accept()[0].sendall(b'%d' % port)\n"
    )
    with box("-P", "0:80-81", "--", sys.executable, "-c", program) as running:
        for port in running.ports[::-1]:
            while not (found := _first_bytes(port)):
                time.sleep(0.01)
            assert found == (b"80" if port == running.ports[0] else b"81")


def _first_bytes(port: int) -> bytes:
    with contextlib.suppress(ConnectionResetError), connect(port) as one:
        return one.recv(2)
    return b""


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


@pytest.mark.parametrize("count", [300, pytest.param(10_000, marks=pytest.mark.stress)])
def test_short_connections_leave_nothing_open(count: int, wait_until: Wait) -> None:
    with server("echo", "-P", "0:80") as running:
        (relay,) = running.helpers()
        if IS_ROOT:
            before = descriptors_of(relay)
        _many_short_ones(running.ports[0], count)
        if IS_ROOT:
            wait_until(lambda: descriptors_of(relay) == before, "the same descriptors as before")


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
        assert running.launcher.wait(20) == 0


def test_datagrams_of_several_peers() -> None:
    with server("udp", "-P", "0:80/udp") as running:
        peers = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(3)]
        assert ask_udp(running.ports[0]) == b"olleh"
        for number, own in enumerate(peers):
            own.settimeout(20)
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


# --- out ----------------------------------------------------------------------------------------

CLIENT = """
import socket, sys
with socket.create_connection(("127.0.0.1", int(sys.argv[1])), timeout=20) as one:
    one.sendall(b"hello"); one.shutdown(socket.SHUT_WR)
    found = b""
    while data := one.recv(1 << 18):
        found += data
    print(found.decode(), flush=True)
"""
CLIENT_UDP = """
import socket, sys
own = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
own.settimeout(20)
own.connect(("127.0.0.1", int(sys.argv[1])))
own.send(b"hello")
print(own.recv(100).decode())
"""


@pytest.mark.parametrize("own", KINDS, ids=" ".join)
def test_a_service_of_the_host_is_reached_from_inside(pyspaces: Run, own: tuple[str, ...]) -> None:
    with on_host("echo") as port:
        words = ("--forward", f"80:{port}", "--", sys.executable, "-c", CLIENT, "80")
        done = pyspaces("run", *own, *words)
        assert (done.stdout, done.stderr, done.returncode) == ("hello\n", "", 0)


def test_at_another_address_too(pyspaces: Run) -> None:
    with on_host("echo", "127.0.0.9") as port, on_host("echo", "::1") as sixth:
        for place in (f"127.0.0.9:{port}", f"[::1]:{sixth}"):
            words = ("--forward", f"80:{place}", "--", sys.executable, "-c", CLIENT, "80")
            assert pyspaces("run", "--user", "--net", *words).stdout == "hello\n"


def test_datagrams_to_the_host(pyspaces: Run) -> None:
    with on_host("udp") as port:
        words = ("--forward", f"53:{port}/udp", "--", sys.executable, "-c", CLIENT_UDP, "53")
        assert pyspaces("run", "--user", "--net", *words).stdout == "olleh\n"


def test_nothing_else_of_the_host_is(pyspaces: Run) -> None:
    with on_host("echo") as port, on_host("echo") as other:
        program = (
            "import socket\n"
            f"for port in (80, {port}, {other}):\n"
            "    with socket.socket() as one:\n"
            "        print(one.connect_ex(('127.0.0.1', port)))\n"
        )
        words = ("--forward", f"80:{port}", "--", sys.executable, "-c", program)
        assert pyspaces("run", "--user", "--net", *words).stdout.split() == ["0", "111", "111"]


def test_both_directions_in_one_launch() -> None:
    with on_host("echo") as port, server("echo", "-P", "0:80", "--forward", f"90:{port}") as one:
        assert ask(one.ports[0]) == b"hello"
        assert len(one.helpers()) == 2


def test_a_port_inside_that_is_taken_is_an_error(pyspaces: Run) -> None:
    with server("echo") as running:
        done = pyspaces("enter", str(running.record["pid"]), "--forward", "80:1", "--", "true")
    assert done.returncode == 125
    assert "cannot connect the network with the outside: bind 127.0.0.1:80:" in done.stderr


# --- existing namespaces, and those without a command -------------------------------------------


def test_enter_opens_ports_of_the_network_that_is_entered(wait_until: Wait) -> None:
    with on_host("echo") as port, server("echo") as target:
        reading, writing = os.pipe()
        words = [SCRIPT, "enter", str(target.record["pid"]), "-P", "0:80", "--forward",
                 f"90:{port}", "--status-fd", str(writing), "--", sys.executable, "-c", CLIENT,
                 "90"]  # fmt: skip
        words[-3:] = ["-c", CLIENT + "sys.stdin.read()", "90"]
        with subprocess.Popen(
            words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, pass_fds=[writing]
        ) as inside:
            os.close(writing)
            with open(reading) as lines:
                ports = json.loads(lines.readline())["ports"]
                assert ask(ports[0]["outside"]) == b"hello"
                assert inside.stdout
                assert inside.stdout.readline() == "hello\n"
                inside.communicate("", timeout=20)
        assert is_free(ports[0]["outside"])
        assert ask_inside(target.record["pid"]) == "hello\n"


def ask_inside(pid: int) -> str:
    return subprocess.run(
        [SCRIPT, "enter", str(pid), "--", sys.executable, "-c", CLIENT, "80"],
        capture_output=True, text=True, check=True, timeout=60, stdin=subprocess.DEVNULL,
    ).stdout  # fmt: skip


def test_a_hold_keeps_its_ports_until_it_is_stopped(pyspaces: Run, wait_until: Wait) -> None:
    name = f"ports-{os.getpid()}"
    done = pyspaces("run", "--user", "--net", "--name", name, "--hold", "-P", "0:80")
    try:
        assert done.returncode == 0
        port = int(done.stderr.split(":")[2].split("/")[0])
        assert done.stderr == f"pyspaces: 127.0.0.1:{port}/tcp is port 80 inside\n"
        with subprocess.Popen(
            [SCRIPT, "enter", name, "--", sys.executable, SERVER, "echo", "127.0.0.1", "80"],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True,
        ) as inside:  # fmt: skip
            assert inside.stdout
            assert inside.stdout.readline() == "ready 80\n"
            assert ask(port) == b"hello"
            inside.terminate()
    finally:
        pyspaces("stop", name)
    wait_until(lambda: is_free(port), "the port is free again")
    wait_until(lambda: not processes_with(name), "no process is left")


# --- the end ------------------------------------------------------------------------------------


def test_the_relay_that_dies_takes_the_command_along_and_that_is_told(tmp_path: Path) -> None:
    status = tmp_path / "status"
    words = ("-P", "0:80", "--report", "--status-file", str(status))
    with server("echo", *words, stderr=subprocess.PIPE) as running:
        (relay,) = running.helpers()
        subprocess.run(["kill", "-9", str(relay)], check=True)
        _, errors = running.launcher.communicate(timeout=20)
        assert running.launcher.returncode == 125
        assert json.loads(status.read_text().splitlines()[1])["lost"] == (
            "the relay of published ports"
        )
        assert "pyspaces: the relay of published ports died: the command was killed" in errors
        assert f"port         127.0.0.1:{running.ports[0]}/tcp is port 80 inside" in errors


def test_a_command_that_outlives_its_launcher_keeps_its_ports(wait_until: Wait) -> None:
    with server("echo", "-P", "0:80", "--no-kill-child") as running:
        (relay,) = running.helpers()
        running.launcher.kill()
        running.launcher.wait(20)
        assert ask(running.ports[0]) == b"hello"
        os.kill(running.record["pid"], signal.SIGKILL)
        wait_until(partial(_has_ended, relay), "no relay")


def test_an_open_connection_does_not_delay_the_end() -> None:
    with server("echo", "-P", "0:80") as running, connect(running.ports[0]) as one:
        one.sendall(b"hello")
        assert one.recv(5) == b"hello"
        began = time.monotonic()
        running.end()
        assert time.monotonic() - began < 1
        assert one.recv(1) == b""


@pytest.mark.parametrize("victim", ["launcher", "command"])
@pytest.mark.parametrize("count", [2, pytest.param(100, marks=pytest.mark.stress)])
def test_nothing_outlives_launcher_and_command(victim: str, count: int, wait_until: Wait) -> None:
    for _ in range(count):
        with server("echo", "-P", "0:80", "--forward", "90:90") as running:
            helpers = running.helpers()
            assert len(helpers) == 2
            with connect(running.ports[0]) as one:
                one.sendall(b"hello")
                one.recv(5)
                number = running.launcher.pid if victim == "launcher" else running.record["pid"]
                os.kill(number, signal.SIGKILL)
                for helper in helpers:
                    wait_until(partial(_has_ended, helper), "no helper")
        assert is_free(running.ports[0])


def _has_ended(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return True
    return state == "Z"


@pytest.mark.parametrize("count", [5, pytest.param(100, marks=pytest.mark.stress)])
def test_launches_leave_nothing_behind(pyspaces: Run, count: int) -> None:
    """That no child of ours is left, no_leaks says."""
    token = f"launches-{os.getpid()}"
    for _ in range(count):
        words = ("-P", "0:80", "--forward", "90:90", "--", "sh", "-c", f": {token}")
        assert pyspaces("run", "--user", "--net", *words).returncode == 0
        assert not processes_with(token)


def test_a_launch_that_fails_leaves_no_port_open(pyspaces: Run) -> None:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port = one.getsockname()[1]
    done = pyspaces("run", "--user", "--net", "-P", f"{port}:80", "--", "/nonexistent")
    assert done.returncode == 127
    assert is_free(port)


def test_a_relay_that_cannot_be_started_fails_the_launch(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """As where a filter refuses what it takes to join."""
    from pyspaces.kernel import constants

    monkeypatch.setattr(constants, "SIOCGSKNS", 0x89FF)
    before = set(processes_of(os.getpid()))
    plan = settings.plan_from(
        {
            "user": True,
            "net": True,
            "publish": ["0:80"],
            "command": ["touch", str(tmp_path / "ran")],
        }
    )
    with pytest.raises(SpaceError, match="cannot open the ports: ioctl: ") as caught:
        launch.start(plan)
    assert caught.value.report
    assert caught.value.report.code == "network"
    assert not (tmp_path / "ran").exists()
    assert set(processes_of(os.getpid())) == before


def _usage(pyspaces: Run, *words: str) -> list[str]:
    done = pyspaces("run", *words, "--", "true")
    assert done.returncode == 2
    return done.stderr.splitlines()


@pytest.mark.parametrize(
    ("words", "fault"),
    [
        (("-P", "1:1"), "publish: needs a new net namespace: add --net"),
        (("--forward", "1:1"), "forward: needs a new net namespace: add --net"),
        (("--net", "--no-loopback", "-P", "1:1"), "publish: cannot be combined with --no-loopback"),
        (("--net", "-F", "-P", "1:1"), "no-fork: cannot be combined with --publish"),
        (("--net", "-P", "9:1", "-P", "9:2"), "publish: 127.0.0.1:9/tcp: is given twice"),
        (("--net", "--forward", "9:1", "--forward", "9:2"), "forward: 9/tcp: is given twice"),
    ],
)
def test_what_cannot_be_meant(pyspaces: Run, words: tuple[str, ...], fault: str) -> None:
    assert any(fault in line for line in _usage(pyspaces, "--user", *words))


def test_a_plan_of_json_has_them_too(pyspaces: Run, tmp_path: Path) -> None:
    words = ("--user", "--net", "-P", "0:80", "--forward", "90:90/udp", "--dry-run")
    made = pyspaces("run", *words, "--json", "--", "true").stdout
    assert json.loads(made)["network"]["publish"] == [
        {"inside": 80, "outside": 0, "address": "127.0.0.1", "protocol": "tcp"}
    ]
    file = tmp_path / "plan.json"
    file.write_text(made)
    assert pyspaces("run", "--plan", str(file)).returncode == 0
    shown = pyspaces("run", *words, "--", "true").stdout
    assert "  publish 127.0.0.1:0/tcp as port 80 inside\n" in shown
    assert "  forward port 90 inside to 127.0.0.1:90/udp\n" in shown
    assert "no equivalent: " in shown


def test_a_keyword_of_a_container() -> None:
    import pyspaces as library

    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port = one.getsockname()[1]
    space: dict[str, Any] = {"user": True, "net": True, "publish": [f"{port}:80"]}
    process = library.Container(_answer_once, **space)
    process.start()
    while not (found := _first_bytes(port)):
        time.sleep(0.01)
    assert found == b"hi"
    process.join(20)
    assert process.exitcode == 0


def _answer_once() -> None:
    with socket.create_server(("127.0.0.1", 80)) as own:
        one, _ = own.accept()
        with one:
            one.sendall(b"hi")
