"""Ports that lead out, those of existing namespaces, and the end of all of them."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from boxes import (
    SERVER,
    ask,
    box,
    connect,
    first_bytes,
    free_port,
    is_free,
    on_host,
    server,
)
from conftest import IS_ROOT, SCRIPT, has_ended, processes_of, processes_with
from usage import assert_refused

from pyspaces import launch, settings
from pyspaces.errors import SpaceError

pytestmark = pytest.mark.needs("userns", "netns")
Wait = Callable[..., None]
Run = Callable[..., subprocess.CompletedProcess[str]]
KINDS: list[tuple[str, ...]] = [("--user", "--net"), ("--all", "--init")]
if IS_ROOT:
    KINDS.append(("--net",))


# --- out ----------------------------------------------------------------------------------------

CLIENT = """
import socket, sys
with socket.create_connection(("127.0.0.1", int(sys.argv[1])), timeout=60) as one:
    one.sendall(b"hello"); one.shutdown(socket.SHUT_WR)
    found = b""
    while data := one.recv(1 << 18):
        found += data
    print(found.decode(), flush=True)
"""
CLIENT_UDP = """
import socket, sys
own = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
own.settimeout(60)
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
    with (
        socket.create_server(("127.0.0.1", 0)) as one,
        socket.create_server(("127.0.0.1", 0)) as another,
    ):
        port, other = one.getsockname()[1], another.getsockname()[1]
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
                inside.communicate("", timeout=60)
        assert is_free(ports[0]["outside"])
        assert ask_inside(target.record["pid"]) == "hello\n"


def ask_inside(pid: int) -> str:
    return subprocess.run(
        [SCRIPT, "enter", str(pid), "--", sys.executable, "-c", CLIENT, "80"],
        capture_output=True, text=True, check=True, timeout=60, stdin=subprocess.DEVNULL,
    ).stdout  # fmt: skip


def test_a_hold_keeps_its_ports_until_it_is_stopped(pyspaces: Run, wait_until: Wait) -> None:
    name = f"ports-{uuid.uuid4().hex}"
    done = pyspaces("run", "--user", "--net", "--name", name, "--hold", "-P", "0:80")
    try:
        assert done.returncode == 0
        port = int(done.stderr.split(":")[2].split("/")[0])
        assert done.stderr == f"pyspaces: 127.0.0.1:{port}/tcp is port 80 inside\n"
        with subprocess.Popen(
            [SCRIPT, "enter", name, "--", sys.executable, SERVER, "echo", "127.0.0.1", "80"],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True,
        ) as inside:  # fmt: skip
            try:
                assert inside.stdout
                assert inside.stdout.readline() == "ready 80\n"
                assert ask(port) == b"hello"
            finally:
                inside.kill()
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
        _, errors = running.launcher.communicate(timeout=60)
        assert running.launcher.returncode == 125
        assert json.loads(status.read_text().splitlines()[1])["lost"] == (
            "the relay of published ports"
        )
        assert "pyspaces: the relay of published ports died: the command was killed" in errors
        assert f"port         127.0.0.1:{running.ports[0]}/tcp is port 80 inside" in errors


def test_a_command_that_outlives_its_launcher_keeps_its_ports(wait_until: Wait) -> None:
    with server("echo", "-P", "0:80", "--no-kill-child") as running:
        (relay,) = running.helpers()
        try:
            running.launcher.kill()
            running.launcher.wait(60)
            assert ask(running.ports[0]) == b"hello"
        finally:
            os.kill(running.record["pid"], signal.SIGKILL)
        wait_until(partial(has_ended, relay), "no relay")


def test_an_open_connection_does_not_delay_the_end() -> None:
    with server("echo", "-P", "0:80") as running, connect(running.ports[0]) as one:
        one.sendall(b"hello")
        assert one.recv(5) == b"hello"
        began = time.monotonic()
        running.end()
        assert time.monotonic() - began < 50
        assert one.recv(1) == b""


@pytest.mark.parametrize("victim", ["launcher", "command", "helper"])
@pytest.mark.parametrize("count", [1, pytest.param(100, marks=pytest.mark.stress)])
def test_nothing_outlives_launcher_and_command(victim: str, count: int, wait_until: Wait) -> None:
    for _ in range(count):
        with server("echo", "-P", "0:80", "--forward", "90:90") as running:
            helpers = running.helpers()
            assert len(helpers) == 2
            with connect(running.ports[0]) as one:
                one.sendall(b"hello")
                one.recv(5)
                numbers = {"launcher": running.launcher.pid, "command": running.record["pid"]}
                os.kill(numbers.get(victim, helpers[-1]), signal.SIGKILL)
                for helper in helpers:
                    wait_until(partial(has_ended, helper), "no helper")
        assert is_free(running.ports[0])


@pytest.mark.parametrize("count", [6, pytest.param(100, marks=pytest.mark.stress)])
def test_a_launcher_that_is_killed_at_any_moment_leaves_nothing(
    count: int, wait_until: Wait
) -> None:
    token = f"any-moment-{uuid.uuid4().hex}"
    ways = ("-P", "0:80", "--forward", "90:90", "--allow-host", "a.test", "--listen", "0")
    words = (SCRIPT, "run", "--user", "--net", *ways, "--", "sh", "-c", f": {token}; sleep 60")
    for number in range(count):
        with subprocess.Popen(words, stdin=subprocess.DEVNULL) as launcher:
            time.sleep(0.15 * number / count)  # the moment itself is what is tried
            launcher.kill()
        wait_until(lambda: not processes_with(token), "no process is left")


@pytest.mark.parametrize("count", [3, pytest.param(100, marks=pytest.mark.stress)])
def test_launches_leave_nothing_behind(pyspaces: Run, count: int) -> None:
    """That no child of ours is left, no_leaks says."""
    token = f"launches-{uuid.uuid4().hex}"
    for _ in range(count):
        words = ("-P", "0:80", "--forward", "90:90", "--", "sh", "-c", f": {token}")
        assert pyspaces("run", "--user", "--net", *words).returncode == 0
        assert not processes_with(token)


def test_a_launch_that_fails_leaves_no_port_open(pyspaces: Run) -> None:
    port = free_port()
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


FAULTS = [
    (("-P", "1:1"), "-P: needs a new net namespace: add --net"),
    (("--forward", "1:1"), "--forward: needs a new net namespace: add --net"),
    (("--net", "--no-loopback", "-P", "1:1"), "-P: cannot be combined with --no-loopback"),
    (("--net", "-F", "-P", "1:1"), "-F: cannot be combined with --publish"),
    (("--net", "-P", "9:1", "-P", "9:2"), "-P: 127.0.0.1:9/tcp: is given twice"),
    (("--net", "--forward", "9:1", "--forward", "9:2"), "--forward: 9/tcp: is given twice"),
]


def test_what_cannot_be_meant() -> None:
    assert_refused([(("--user", *words), fault) for words, fault in FAULTS])


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


def test_a_keyword_of_a_container(wait_until: Wait) -> None:
    import pyspaces as library

    port = free_port()
    space: dict[str, Any] = {"user": True, "net": True, "publish": [f"{port}:80"]}
    process = library.Container(_answer_once, **space)
    process.start()
    try:
        wait_until(lambda: first_bytes(port) == b"hi", "it answers")
        process.join(60)
        assert process.exitcode == 0
    finally:
        process.kill()
        process.join(60)


def _answer_once() -> None:
    with socket.create_server(("127.0.0.1", 80)) as own:
        one, _ = own.accept()
        with one:
            one.sendall(b"hi")


def test_a_list_of_networks_shows_how_each_is_connected(pyspaces: Run) -> None:
    name = f"listed-{os.getpid()}"
    ways = {"none": ("-P", "0:80", "-P", "0:81/udp"), "proxy": ("--allow-host", "a.test")}
    for network, words in ways.items():
        with box("--name", name, *words, "--", "sleep", "600") as running:
            done = pyspaces("list", "-t", "net", "--json")
            (row,) = [row for row in json.loads(done.stdout)["namespaces"] if row["name"] == name]
            assert row["network"] == network
            assert row["ports"] == [
                f"127.0.0.1:{port}/{protocol}:{inside}"
                for port, protocol, inside in zip(
                    running.ports, ("tcp", "udp"), (80, 81), strict=False
                )
            ]
            shown = pyspaces("list", "-t", "net", "--filter", f"name == '{name}'").stdout
            assert network in shown.splitlines()[1].split()
