"""What a hostile command can do with sockets that it is given, which are of the host's network."""

from __future__ import annotations

import socket
import sys

import pytest
from boxes import box, connect

pytestmark = pytest.mark.needs("userns", "netns")

# Accepts a connection, and tries to free both sockets of the filter and to connect them anew.
REUSE = """
import ctypes, errno, socket, sys
libc = ctypes.CDLL(None, use_errno=True)
listening = socket.socket(fileno=3)
family, size, place = listening.family, *((16, "127.0.0.1"), (28, "::1"))[sys.argv[1] == "6"]
accepted, _ = listening.accept()
accepted.sendall(accepted.recv(10))
def answer(act, *words):
    try:
        act(*words)
    except OSError as error:
        return errno.errorcode.get(error.errno) or str(error)
    return "ok"
found = []
for one in (listening, accepted):
    found.append(answer(one.setsockopt, socket.SOL_SOCKET, 27, 0))  # SO_DETACH_FILTER
    found.append(answer(one.setsockopt, socket.SOL_SOCKET, 44, 0))  # SO_LOCK_FILTER
    for port in map(int, sys.argv[2:]):
        assert libc.connect(one.fileno(), bytes(size), size) == 0  # AF_UNSPEC
        one.settimeout(1.5)
        found.append(answer(one.connect, (place, port)))
print(*found, flush=True)
"""


@pytest.mark.as_root
@pytest.mark.parametrize(("version", "address"), [("4", "127.0.0.1"), ("6", "::1")])
def test_they_and_what_they_accept_can_be_connected_to_nothing(version: str, address: str) -> None:
    """Not to a port that is open, and not even to learn which ones are.

    SECURITY.md says that this is so for root: no TCP socket takes the filter of anybody else.
    """
    family = socket.AF_INET6 if version == "6" else socket.AF_INET
    with socket.socket(family) as server, socket.socket(family) as closed:
        server.bind((address, 0))
        server.listen()
        closed.bind((address, 0))
        ports = [str(one.getsockname()[1]) for one in (server, closed)]
        words = ("--listen", f"[{address}]:0" if version == "6" else "0", "--", sys.executable)
        with box(*words, "-c", REUSE, version, *ports) as running:
            port = running.record["listen"][0]["port"]
            with socket.create_connection((address, port), timeout=60) as client:
                client.sendall(b"hello")
                assert client.recv(10) == b"hello"
                assert running.line().split() == ["EPERM", "EPERM", *["timed", "out"] * 2] * 2
            server.settimeout(0)
            with pytest.raises(BlockingIOError):
                server.accept()


def test_large_answers_and_resets_pass() -> None:
    """What is dropped is nothing that an accepted connection needs."""
    program = (
        "import socket\n"
        "listening = socket.socket(fileno=3)\n"
        "one, _ = listening.accept()\n"
        "one.sendall(bytes(5_000_000))\n"
        "try: print(one.recv(1))\n"
        "except ConnectionResetError: print('reset', flush=True)\n"
    )
    with box("--listen", "0", "--", sys.executable, "-c", program) as running:
        with connect(running.record["listen"][0]["port"]) as client:
            left = 5_000_000
            while left:
                left -= len(client.recv(1 << 20))
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, bytes([1, 0, 0, 0] + [0] * 4))
        assert running.line() == "reset"
