"""What it costs to reach a server in another network, by each way that leads there.

    python benchmarks/network.py [ROUNDS]

Directly, by our relay, and by pasta and slirp4netns, where they are installed: these need
/dev/net/tun, and pasta a default route. Each way is measured in turns, in every round; the best of
each is printed. Then what ports, and a way out, add to a launch.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

LAUNCHER = str(Path(sys.executable).with_name("pyspaces"))
NETWORK = [LAUNCHER, "run", "--user", "--net"]
PORT = 80
MEBIBYTES = 512
SERVER = f"""
import os, socket, sys, threading
own = socket.create_server(("127.0.0.1", int(sys.argv[1])), backlog=1024)
print(own.getsockname()[1], flush=True)
piece = bytes(1 << 20)
room = bytearray(1 << 20)
def serve(one):
    one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    verb = one.recv(1)
    if verb == b"d":
        for _ in range({MEBIBYTES}):
            one.sendall(piece)
    elif verb == b"u":
        while one.recv_into(room):
            pass
        one.sendall(b".")
    else:
        while data := one.recv(64):
            one.send(data)
    one.close()
while True:
    threading.Thread(target=serve, args=(own.accept()[0],), daemon=True).start()
"""


@contextlib.contextmanager
def direct() -> Iterator[int]:
    """Serve in the network of the caller."""
    with started([sys.executable, "-c", SERVER, "0"]) as server:
        assert server.stdout
        yield int(server.stdout.readline())


@contextlib.contextmanager
def relay(*words: str, server: str = SERVER) -> Iterator[int]:
    """Serve in a network of its own, with a port that is published."""
    reading, writing = os.pipe()
    more = ["-P", f"0:{PORT}", "--status-fd", str(writing), *words]
    served = [*NETWORK, *more, "--", sys.executable, "-c", server, str(PORT)]
    with open(reading) as record, started(served, writing) as launcher:
        os.close(writing)
        port = json.loads(record.readline())["ports"][0]["outside"]
        assert launcher.stdout
        launcher.stdout.readline()
        yield port


def pasta() -> contextlib.AbstractContextManager[int]:
    """Serve in a network of its own, to which pasta carries connections of the loopback."""
    return relay("--net=pasta")


def slirp4netns() -> contextlib.AbstractContextManager[int]:
    """Serve behind slirp4netns, which reaches a server only by the address of its device."""
    return relay("--net=slirp4netns", server=SERVER.replace("127.0.0.1", "0.0.0.0"))


@contextlib.contextmanager
def started(words: list[str], *kept: int) -> Iterator[subprocess.Popen[str]]:
    """Run a program until the end of the block."""
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True, pass_fds=kept) as process:
        try:
            yield process
        finally:
            process.terminate()


def connected(port: int) -> socket.socket:
    """Return a connection to the server."""
    one = socket.create_connection(("127.0.0.1", port), timeout=30)
    one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return one


def answers(port: int) -> bool:
    """Return whether the server is reached by now."""
    with contextlib.suppress(OSError), connected(port) as one:
        one.sendall(b"e.")
        return one.recv(1) == b"."
    return False


def down(port: int) -> float:
    """Return MiB/s from the server."""
    room = bytearray(1 << 20)
    with connected(port) as one:
        one.sendall(b"d")
        began, size = time.perf_counter(), 0
        while got := one.recv_into(room):
            size += got
        assert size == MEBIBYTES << 20
        return MEBIBYTES / (time.perf_counter() - began)


def up(port: int) -> float:
    """Return MiB/s to the server."""
    piece = bytes(1 << 20)
    with connected(port) as one:
        one.sendall(b"u")
        began = time.perf_counter()
        for _ in range(MEBIBYTES):
            one.sendall(piece)
        one.shutdown(socket.SHUT_WR)
        one.recv(1)
        return MEBIBYTES / (time.perf_counter() - began)


def round_trip(port: int) -> float:
    """Return the microseconds up to the answer to 32 bytes."""
    found = []
    with connected(port) as one:
        one.sendall(b"e")
        for _ in range(2000):
            began = time.perf_counter()
            one.send(b"y" * 32)
            one.recv(64)
            found.append(time.perf_counter() - began)
    return statistics.median(found) * 1e6


def connection(port: int) -> float:
    """Return the microseconds from connecting up to the answer to one byte."""
    found = []
    for _ in range(500):
        began = time.perf_counter()
        with connected(port) as one:
            one.sendall(b"e.")
            one.recv(1)
            found.append(time.perf_counter() - began)
    return statistics.median(found) * 1e6


def launch(*words: str) -> float:
    """Return the milliseconds of a launch of true(1)."""
    began = time.perf_counter()
    subprocess.run([*NETWORK, *words, "--", "true"], check=True)
    return (time.perf_counter() - began) * 1000


KINDS = {"down, MiB/s": down, "up, MiB/s": up, "round trip, µs": round_trip,
         "connection, µs": connection}  # fmt: skip
LAUNCHES = {
    "none": (),
    "one published": ("-P", "0:80"),
    "one forwarded": ("--forward", "80:80"),
    "allowed hosts": ("--allow-host", "example.org"),
    "one listening": ("--listen", "0"),
}


def main() -> None:
    """Print both tables."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    ways = [direct, relay, *(way for way in (pasta, slirp4netns) if shutil.which(way.__name__))]
    engines = {way.__name__: (f"--net={way.__name__}",) for way in ways[2:]}
    found: dict[tuple[str, str], list[float]] = {}
    for _ in range(rounds):
        for way in ways:
            with way() as port:
                for kind, measure in KINDS.items():
                    found.setdefault((way.__name__, kind), []).append(measure(port))
    print(" " * 10, *(f"{kind:>16}" for kind in KINDS))
    for way in ways:
        best = [(max if "MiB" in kind else min)(found[way.__name__, kind]) for kind in KINDS]
        print(f"{way.__name__:10}", *(f"{value:16.0f}" for value in best))
    launches = {**LAUNCHES, **engines}
    times: dict[str, list[float]] = {name: [] for name in launches}
    for _ in range(rounds * 10):
        for name, words in launches.items():
            times[name].append(launch(*words))
    print("\na launch with, ms: least and median")
    for name, values in times.items():
        print(f"{name:16} {min(values):6.1f} {statistics.median(values):6.1f}")


if __name__ == "__main__":
    main()
