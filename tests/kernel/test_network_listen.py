"""Socket activation: the command is given sockets that listen already, as sd_listen_fds(3) says."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from boxes import box, connect, is_free, is_refused
from conftest import SCRIPT
from usage import assert_refused

pytestmark = pytest.mark.needs("userns", "netns")
Run = Callable[..., subprocess.CompletedProcess[str]]

# What a program does that takes its sockets over, as the protocol has it.
TELL = """
import json, os, socket
count = int(os.environ["LISTEN_FDS"])
assert int(os.environ["LISTEN_PID"]) == os.getpid()
ends = []
for number in range(3, 3 + count):
    own = socket.socket(fileno=number)
    assert os.get_inheritable(number) and own.getblocking()
    ends.append([*own.getsockname()[:2], own.type.name, own.family.name])
print(json.dumps([ends, os.environ["LISTEN_FDNAMES"].split(":")]))
"""
ACCEPT = """
import os, socket
assert os.environ["LISTEN_PID"] == str(os.getpid()), os.environ["LISTEN_PID"]
one, _ = socket.socket(fileno=3).accept()
one.sendall(",".join(name for _, name in socket.if_nameindex()).encode())
"""
KINDS = [
    ("--user", "--net"),
    ("--user", "--mount", "--pid", "--net", "--setuid", "0", "--new-session"),
    ("--all", "--init-wait"),
    (),
]


@pytest.mark.parametrize("own", KINDS, ids=" ".join)
def test_a_client_of_the_host_is_answered_from_another_network(own: tuple[str, ...]) -> None:
    with box("--listen", "0", "--", sys.executable, "-c", ACCEPT, own=own) as running:
        (told,) = running.record["listen"]
        assert told["address"] == "127.0.0.1"
        with connect(told["port"]) as one:
            found = one.recv(100)
        apart = "--net" in own or "--all" in own
        assert (found == b"lo") == apart
        assert running.launcher.wait(60) == 0
        assert is_free(told["port"])


@pytest.mark.parametrize("own", [("--user", "--pid", "--init"), ("--user", "-F")])
def test_numbers_names_and_kinds_of_the_sockets(pyspaces: Run, own: tuple[str, ...]) -> None:
    words = ("--listen", "web=0", "--listen", "0/udp", "--listen", "v6=[::1]:0")
    done = pyspaces("run", *own, *words, "--", sys.executable, "-c", TELL, close_fds=True)
    assert done.stderr == ""
    ends, names = json.loads(done.stdout)
    assert names == ["web", "unknown", "v6"]
    assert [end[2:] for end in ends] == [
        ["SOCK_STREAM", "AF_INET"], ["SOCK_DGRAM", "AF_INET"], ["SOCK_STREAM", "AF_INET6"],
    ]  # fmt: skip
    assert [end[0] for end in ends] == ["127.0.0.1", "127.0.0.1", "::1"]


def test_many_sockets_do_not_collide_with_what_is_ours(pyspaces: Run, tmp_path: Path) -> None:
    """Records, names, channels and what is joined have descriptors, too."""
    words = [word for number in range(60) for word in ("--listen", f"s{number}=0")]
    more = ("--status-file", str(tmp_path / "status"), "--pid-file", str(tmp_path / "pid"),
            "--name", f"listen-{os.getpid()}", "--ro-bind", "/", "/", "--init", "--timeout", "60",
            "--join", "ipc=/proc/self/ns/ipc")  # fmt: skip
    done = pyspaces("run", "--user", "--net", *more, *words, "--", sys.executable, "-c", TELL)
    assert done.stderr == ""
    ends, names = json.loads(done.stdout)
    assert names == [f"s{number}" for number in range(60)]
    assert len({port for _, port, *_ in ends}) == 60
    record = [json.loads(line) for line in (tmp_path / "status").read_text().splitlines()]
    assert [row["event"] for row in record] == ["started", "exited"]
    assert [one["port"] for one in record[0]["listen"]] == [port for _, port, *_ in ends]


def test_a_command_that_is_not_found_is_told_as_ever(pyspaces: Run) -> None:
    words = [word for _ in range(20) for word in ("--listen", "0")]
    done = pyspaces("run", "--user", "--pid", *words, "--", "/nonexistent")
    assert done.returncode == 127
    assert "cannot execute the command: /nonexistent" in done.stderr


def test_the_command_has_nothing_else_of_ours(wait_until: Callable[..., None]) -> None:
    """Nor has anybody else its sockets: it can close one, and nobody listens there any more."""
    program = (
        "import os, time\n"
        "print(*sorted(os.listdir('/proc/self/fd')), flush=True)\n"
        "os.close(3); print('closed', flush=True); time.sleep(60)\n"
    )
    own = ("--user", "--pid", "--init")
    words = ("--listen", "0", "--", sys.executable, "-c", program)
    with box(*words, own=own) as running:
        # 4 is that of the listing itself.
        assert running.line() == "0 1 2 3 4"
        assert running.line() == "closed"
        # Our process 1 closes what it has when the command has begun.
        port = running.record["listen"][0]["port"]
        wait_until(lambda: is_refused(port), "nobody listens")


def test_a_descriptor_of_the_caller_is_not_replaced() -> None:
    words = ("run", "--user", "--listen", "0", "--listen", "0", "--", "true")
    done = subprocess.run(
        ["sh", "-c", 'exec 4</dev/null; exec "$@"', "sh", SCRIPT, *words],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 2
    assert "listen: descriptor 4 is open, and its number is that of a socket" in done.stderr
    assert "hint: close it for the launcher: pyspaces run ... 4<&-" in done.stderr


def test_a_port_that_is_taken(pyspaces: Run) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = pyspaces("run", "--user", "--listen", str(port), "--", "true")
    assert done.returncode == 125
    assert f"cannot open the ports: bind 127.0.0.1:{port}: Address already in use" in done.stderr


def test_the_environment_is_that_of_the_command_only(pyspaces: Run) -> None:
    done = pyspaces("run", "--user", "--clearenv", "--listen", "0", "--",
                    "/usr/bin/env")  # fmt: skip
    names = {line.partition("=")[0] for line in done.stdout.splitlines()}
    assert names == {"LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES"}


def test_enter_hands_them_over_too(pyspaces: Run) -> None:
    with box("--", "sleep", "60") as target:
        words = ("--listen", "web=0", "--", sys.executable, "-c", TELL)
        done = pyspaces("enter", str(target.record["pid"]), *words)
    assert json.loads(done.stdout)[1] == ["web"]


FAULTS = [
    (("--listen", "a b=1"), "listen: 'a b=1': a name has letters, digits and any of _.-"),
    (("--listen", "web"), "listen: 'web': 'web' is not a port"),
    (("--listen", "5", "--listen", "5"), "listen: 127.0.0.1:5/tcp: is given twice"),
    (("--listen", "5", "--hold", "--name", "x"), "hold: cannot be combined with --listen"),
]


def test_what_cannot_be_meant() -> None:
    assert_refused([(("--user", *words), fault) for words, fault in FAULTS])


def test_the_preview_names_the_numbers(pyspaces: Run) -> None:
    done = pyspaces("run", "--dry-run", "--listen", "web=[::1]:80", "--", "true")
    assert "  descriptor 3: [::1]:80/tcp, called web\n" in done.stdout


def test_check_says_whether_it_would_work(pyspaces: Run) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        for option in ("--listen", "-P"):
            place = str(port) if option == "--listen" else f"{port}:80"
            done = pyspaces("check", "--user", "--net", option, place)
            assert done.returncode == 1
            assert f"bind 127.0.0.1:{port}: Address already in use" in done.stdout + done.stderr
    words = ("--listen", "0", "-P", "0:80", "--allow-host", "a.test")
    assert pyspaces("check", "--user", "--net", *words).returncode == 0
