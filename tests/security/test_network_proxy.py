"""What a hostile command can do to the proxy for allowed hosts, and with it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from boxes import box, descriptors_of, on_host
from conftest import IS_ROOT, SCRIPT, outcome

pytestmark = pytest.mark.needs("userns", "netns")

BEGIN = """
import contextlib, os, socket, struct, sys
place = os.environ["http_proxy"].removeprefix("http://").split(":")
def opened():
    return socket.create_connection((place[0], int(place[1])), timeout=30)
def ask(data):
    with opened() as one:
        found = b""
        try:
            one.sendall(data)
        except OSError:
            pass  # it has been answered already
        try:
            while piece := one.recv(65536):
                found += piece
        except OSError:
            found += b"(reset)"
        return found
REFUSED = b"HTTP/1.1 403 Forbidden"
def works():
    return ask(b"CONNECT evil.test:443 HTTP/1.1\\r\\n\\r\\n").startswith(REFUSED)
"""


Inside = Callable[..., tuple[list[str], list[dict[str, Any]], str]]


@pytest.fixture
def inside(tmp_path: Path) -> Inside:
    """Run a program beside a proxy; return its lines, the record, and the errors."""

    def run(program: str, *words: str) -> tuple[list[str], list[dict[str, Any]], str]:
        status = tmp_path / "status"
        allowed = "good.test,127.0.0.0/8:*"
        done = outcome(
            [SCRIPT, "run", "--user", "--net", "--allow-host", allowed, "--status-file", status,
             *words, "--", sys.executable, "-c", BEGIN + program],
            stdin=subprocess.DEVNULL,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        rows = [json.loads(line) for line in status.read_text().splitlines()]
        return done.stdout.splitlines(), rows, done.stderr

    return run


def test_it_outlives_garbage_resets_and_half_requests(inside: Inside) -> None:
    lines, _, _ = inside(
        "for number in range(300):\n"
        "    one = opened()\n"
        "    if number % 2:\n"
        "        one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0))\n"
        "    one.sendall(os.urandom(number) + b'\\r\\n\\r\\n' * (number % 3 == 0))\n"
        "    if number % 5 == 0:\n"
        "        with contextlib.suppress(OSError):\n"  # it has been answered already
        "            one.sendall(b'CONNECT good.test:443 HTTP/1.1\\r\\n\\r\\n')\n"
        "    one.close()\n"
        "print(works())\n"
    )
    assert lines == ["True"]


def test_requests_that_never_end_hold_nobody_up_and_are_limited(inside: Inside) -> None:
    lines, _, _ = inside(
        "slow = [opened() for _ in range(300)]\n"
        "for one in slow:\n"
        "    one.sendall(b'GET http://good.test/ HTTP/1.1\\r\\nA: ')\n"
        "print(works())\n"
        "print(ask(b'GET http://good.test/ HTTP/1.1\\r\\nA: ' + b'a' * 100_000).split(b'\\r')[0])\n"
        "print(ask(b'a' * 100_000).split(b'\\r')[0])\n"
    )
    assert lines[0] == "True"
    for line in lines[1:]:
        too_long = (
            "HTTP/1.1 431 Request Header Fields Too Large (pyspaces: the request is too long)"
        )
        assert line in (f"b'{too_long}'", "b'(reset)'")


def test_what_is_recorded_is_limited(inside: Inside) -> None:
    lines, rows, errors = inside(
        "text = b'CONNECT x%d.evil.test:443 HTTP/1.1\\r\\n\\r\\n'\n"
        "for number in range(400):\n"
        "    assert ask(text % number).startswith(REFUSED)\n"
        "print(works())\n",
        "--report",
    )
    assert lines == ["True"]
    assert len(rows[-1]["refused"]) == 256
    assert "refused      others, 145 times\n" in errors


@pytest.mark.skipif(not IS_ROOT, reason="only root may look into the proxy")
def test_it_holds_nothing_of_the_caller() -> None:
    # Once it answers, it has come to its work; when a command runs, it may be loading yet.
    asks = BEGIN + "print(works(), flush=True); import time; time.sleep(600)"
    with box("--allow-host", "good.test", "--", sys.executable, "-c", asks) as running:
        assert running.line() == "True"
        (proxy,) = running.helpers()
        places = [os.readlink(f"/proc/{proxy}/fd/{number}") for number in descriptors_of(proxy)]
        assert {place.partition(":")[0] for place in places} <= {
            "/",
            "socket",
            "pipe",
            "anon_inode",
        }
        status = Path(f"/proc/{proxy}/status").read_text()
        assert "CapEff:\t0000000000000000" in status
        assert "NoNewPrivs:\t1" in status
        assert "Uid:\t65534\t65534" in status


def test_a_client_that_does_not_read_holds_only_itself_up(inside: Inside) -> None:
    """Through a tunnel to a server that sends without end."""
    with on_host("flood") as port:
        lines, _, _ = inside(
            f"request = b'CONNECT 127.0.0.1:{port} HTTP/1.1\\r\\n\\r\\n'\n"
            "lazy = []\n"
            "for _ in range(20):\n"
            "    lazy.append(opened()); lazy[-1].sendall(request + b'.')\n"
            "with opened() as one:\n"
            "    one.sendall(request + b'.')\n"
            "    size = 0\n"
            "    while size < 30_000_000:\n"
            "        size += len(one.recv(1 << 20))\n"
            "print(works())\n"
        )
    assert lines == ["True"]


def test_a_host_cannot_be_asked_for_under_the_name_of_another(inside: Inside) -> None:
    """What follows a request, or a body of a length that is told twice, reaches nobody."""
    with on_host("echo") as port:
        place = f"http://127.0.0.1:{port}"
        lines, _, _ = inside(
            f"first = b'POST {place}/ HTTP/1.1\\r\\nContent-Length: 2\\r\\n'\n"
            "print(ask(first + b'\\r\\nokGET / HTTP/1.1\\r\\nHost: evil.test\\r\\n\\r\\n'))\n"
            "print(ask(first + b'Content-Length: 90\\r\\n\\r\\nok')[:12])\n"
            "print(ask(first + b'Transfer-Encoding: chunked\\r\\n\\r\\nok')[:12])\n"
        )
    assert lines[0].endswith("Connection: close\\r\\n\\r\\nok'")
    assert "evil" not in lines[0]
    assert lines[1:] == ["b'HTTP/1.1 400'", "b'HTTP/1.1 411'"]
