"""What a hostile command, client or server can do to the processes that carry connections."""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import socket
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from boxes import ask, box, connect, descriptors_of, name_of, on_host, server
from conftest import IS_ROOT, SCRIPT

pytestmark = pytest.mark.needs("userns", "netns")
WAYS = ("-P", "0:80", "--forward", "90:90")


def status_of(pid: int) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def test_they_have_nothing_that_could_be_used(wait_until: Callable[..., None]) -> None:
    secret = os.open(os.devnull, os.O_RDONLY)
    os.set_inheritable(secret, True)
    try:
        with server("echo", *WAYS, pass_fds=[secret]) as running:
            assert ask(running.ports[0]) == b"hello"
            for helper in running.helpers():
                # It loads what it needs before, and nobody has asked the other one.
                wait_until(lambda: status_of(helper)["NoNewPrivs"] == "1", "rights given up")  # noqa: B023
                status = status_of(helper)
                assert {status[name] for name in ("CapInh", "CapPrm", "CapEff", "CapAmb")} == {
                    "0" * 16
                }
                # Not dumpable: its files in /proc are root's.
                assert os.stat(f"/proc/{helper}/mem").st_uid == 0
                if IS_ROOT:
                    assert status["Uid"].split() == ["65534"] * 4
                    assert not status["Groups"]
                    places = [os.readlink(f"/proc/{helper}/fd/{n}") for n in descriptors_of(helper)]
                    kinds = {place.partition(":")[0] for place in places}
                    assert kinds <= {"/", "socket", "pipe", "anon_inode"}
                    assert os.readlink(f"/proc/{helper}/cwd") == "/"
    finally:
        os.close(secret)


LOOK = """
import os, sys
for pid in sys.argv[1:]:
    for name in ("mem", "environ", "fd", "cwd", "root", "maps", "ns/net"):
        path = f"/proc/{pid}/{name}"
        try:
            if name == "fd":
                for number in os.listdir(path):
                    os.readlink(f"{path}/{number}")
            elif name in ("cwd", "root"):
                os.stat(path + "/")
            else:
                open(path, "rb").read(10)
        except OSError:
            continue
        print("seen", name)
print("looked", len(sys.argv) - 1)
"""


@pytest.mark.needs("netns")
@pytest.mark.parametrize("own", [("--user", "--net")])
def test_root_inside_cannot_look_into_them(own: tuple[str, ...]) -> None:
    """Without a pid namespace, it sees them, and has all capabilities in its user namespace."""
    with server("echo", *WAYS, own=own, port=8080) as running:
        helpers = map(str, running.helpers())
        done = subprocess.run(
            [SCRIPT, "enter", str(running.record["pid"]), "--", sys.executable, "-c", LOOK,
             *helpers],
            capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL, timeout=60,
        )  # fmt: skip
    assert (done.stdout, done.stderr) == ("looked 2\n", "")


def test_no_other_port_of_the_host_is_reached_through_them(pyspaces: object) -> None:
    """By whatever address of the loopback, and none of the inside but the one that is published."""
    program = (
        "import socket, sys\n"
        "for address in ('127.0.0.1', '127.0.0.2', '0.0.0.0', '10.0.2.2', '192.0.2.1'):\n"
        "    for port in map(int, sys.argv[1:]):\n"
        "        with socket.socket() as one:\n"
        "            one.settimeout(2)\n"
        "            print(one.connect_ex((address, port)))\n"
    )
    with on_host("echo") as allowed, on_host("echo") as other:
        words = ("--forward", f"90:{allowed}", "--", sys.executable, "-c", program,
                 str(allowed), str(other))  # fmt: skip
        with box(*words) as running:
            assert running.launcher.wait(60) == 0
            found = {int(line) for line in running.output}
    assert found <= {errno.ECONNREFUSED, errno.ENETUNREACH}


def test_more_connections_than_there_is_room_for_wait_and_are_served_later() -> None:
    """The hard limit on descriptors leaves room for few; hundreds come, and none of them acts."""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (128, 128))

    with server("echo", "-P", "0:80", preexec_fn=limit) as running:
        idle = [connect(running.ports[0]) for _ in range(300)]
        late = connect(running.ports[0])
        late.sendall(b"late")
        for one in idle:
            one.close()
        assert late.recv(4) == b"late"
        late.close()
        assert ask(running.ports[0]) == b"hello"
        assert running.launcher.poll() is None


def test_resets_and_garbage_do_no_harm() -> None:
    linger = struct.pack("ii", 1, 0)
    with server("echo", "-P", "0:80", "-P", "0:81/udp") as running:
        for number in range(200):
            with connect(running.ports[0]) as one:
                one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                if number % 2:
                    one.send(os.urandom(1000))
                if number % 3 == 0:
                    one.shutdown(socket.SHUT_WR)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as own:
            for size in (0, 1, 65507):
                own.sendto(bytes(size), ("127.0.0.1", running.ports[1]))
        assert ask(running.ports[0]) == b"hello"
        assert running.launcher.poll() is None


def test_a_thousand_peers_of_a_udp_port_do_not_exhaust_it() -> None:
    with server("udp", "-P", "0:80/udp") as running:
        (relay,) = running.helpers()
        with contextlib.ExitStack() as stack:
            for _ in range(600):
                own = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
                own.connect(("127.0.0.1", running.ports[0]))
                own.settimeout(60)
                own.send(b"abc")
                assert own.recv(10) == b"cba"
        if IS_ROOT:
            assert len(descriptors_of(relay)) < 300
        assert running.launcher.poll() is None


def test_with_a_pid_namespace_the_command_cannot_name_them() -> None:
    program = (
        "import os, time\n"
        "print(len([n for n in os.listdir('/proc') if n.isdecimal()]), flush=True)\n"
        "time.sleep(60)\n"
    )
    own = ("--user", "--net", "--pid", "--mount")
    with box(*WAYS, "--", sys.executable, "-c", program, own=own) as one:
        assert one.line() == "1"
        assert sorted(map(name_of, one.helpers())) == ["pyspaces-relay"] * 2
