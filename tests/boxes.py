"""Launches with a server inside, and what tests ask of their helper processes."""

from __future__ import annotations

import contextlib
import json
import os
import random
import socket
import subprocess
import sys
import time
from pathlib import Path

from conftest import SCRIPT, processes_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

SERVER = str(Path(__file__).with_name("network_server.py"))
HELPERS = ("pyspaces-relay", "pyspaces-proxy")


class Box:
    """A launch that runs: its launcher, its record, its ports outside in their order."""

    def __init__(self, launcher: subprocess.Popen[str], record: dict[str, Any]) -> None:
        self.launcher, self.record = launcher, record
        self.ports = [port["outside"] for port in record.get("ports", ())]
        assert launcher.stdout
        self.output = launcher.stdout

    def line(self) -> str:
        return self.output.readline().strip()

    def helpers(self) -> list[int]:
        """Return the processes beside the command that carry connections."""
        return [pid for pid in processes_of(self.launcher.pid) if name_of(pid) in HELPERS]

    def end(self) -> int:
        self.launcher.terminate()
        return self.launcher.wait(60)


def name_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text(errors="replace").strip()
    except OSError:
        return ""


@contextlib.contextmanager
def box(*words: str, own: tuple[str, ...] = ("--user", "--net"), **more: Any) -> Iterator[Box]:
    """Run a command with options; yield it once it has been started, and end it."""
    reading, writing = os.pipe()
    launcher = subprocess.Popen(
        [SCRIPT, "run", *own, "--status-fd", str(writing), *words],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True,
        pass_fds=[writing, *more.pop("pass_fds", ())], **more,
    )  # fmt: skip
    os.close(writing)
    try:
        with open(reading) as lines:
            record = json.loads(lines.readline())
            assert record["event"] == "started", record
            yield Box(launcher, record)
    finally:
        launcher.kill()
        launcher.wait(60)
        for stream in (launcher.stdout, launcher.stderr):
            if stream:
                stream.close()


@contextlib.contextmanager
def server(
    verb: str, *words: str, port: int = 80, address: str = "127.0.0.1", **more: Any
) -> Iterator[Box]:
    """Run a server inside, with these options, and yield once it listens."""
    command = ("--", sys.executable, SERVER, verb, address, str(port))
    with box(*words, *command, **more) as running:
        assert running.line() == f"ready {port}"
        yield running


@contextlib.contextmanager
def on_host(verb: str, address: str = "127.0.0.1") -> Iterator[int]:
    """Run a server on the host; yield its port, which the kernel picks."""
    with subprocess.Popen(
        [sys.executable, SERVER, verb, address, "0"], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout
        try:
            yield int(process.stdout.readline().split()[1])
        finally:
            process.kill()


def connect(port: int, address: str = "127.0.0.1") -> socket.socket:
    return socket.create_connection((address, port), timeout=60)


def ask(port: int, data: bytes = b"hello", address: str = "127.0.0.1") -> bytes:
    """Send data through a connection, end it, and return all that comes back."""
    with connect(port, address) as one:
        one.sendall(data)
        one.shutdown(socket.SHUT_WR)
        return read_all(one)


def first_bytes(port: int) -> bytes:
    with contextlib.suppress(OSError), connect(port) as one:
        return one.recv(2)
    return b""


def read_all(one: socket.socket) -> bytes:
    found = bytearray()
    while data := one.recv(1 << 18):
        found += data
    return bytes(found)


def ask_udp(port: int, data: bytes = b"hello") -> bytes:
    """Send a datagram, again and again until there is an answer, and return that."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as own:
        own.connect(("127.0.0.1", port))
        own.settimeout(0.2)
        limit = time.monotonic() + 60
        while True:
            with contextlib.suppress(TimeoutError, ConnectionRefusedError):
                own.send(data)
                return own.recv(65535)
            assert time.monotonic() < limit


def is_free(port: int) -> bool:
    """Tell whether nobody listens on a TCP port: who connects may have its number meanwhile."""
    listening = "0A"
    for table in ("tcp", "tcp6"):
        with open(f"/proc/self/net/{table}") as lines:
            next(lines)
            for line in lines:
                _, own, _, state, *_ = line.split()
                if state == listening and int(own.rpartition(":")[2], 16) == port:
                    return False
    return True


def free_port() -> int:
    """Return a port that nobody has, and that the kernel gives to nobody who asks for any."""
    low = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    while True:
        port = random.randrange(10_000, low)
        with socket.socket() as one, contextlib.suppress(OSError):
            one.bind(("127.0.0.1", port))
            return port


def is_refused(port: int) -> bool:
    try:
        connect(port).close()
    except ConnectionRefusedError:
        return True
    return False


def descriptors_of(pid: int) -> list[str]:
    """Return the descriptors of a process; as an ordinary user, of none of our helpers."""
    return sorted(os.listdir(f"/proc/{pid}/fd"))
