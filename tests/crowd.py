"""A program that starts Containers from eight threads beside busy ones, and counts what is left.

    python crowd.py CONTAINERS BUSY_THREADS

Prints one line of JSON. A program of its own, so that MALLOC_ARENA_MAX can be set for it, and
nothing but it is counted.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
import zlib

from pyspaces import Container

WORKERS = 8
NOISE = os.urandom(100_000)


def double(number: int) -> tuple[int, int]:
    """Prove that the function ran, and where: as pid 1."""
    return 2 * number, os.getpid()


def busy(stop: threading.Event) -> None:
    """Keep malloc, the interpreter, and C code that gives up the GIL at work."""
    while not stop.is_set():
        sorted(NOISE[:2000])
        bytearray(300_000)
        zlib.compress(NOISE[:20_000])


def work(numbers: list[int], results: list[tuple[int, int]]) -> None:
    """Start, hear and close a Container for each number."""
    for number in numbers:
        container = Container(double, args=(number,), user=True, pid=True)
        container.start()
        results.append(container.result(60))
        container.close()


def state() -> list[int]:
    """Count descriptors, threads and children."""
    children = 0
    for name in os.listdir("/proc"):
        if name.isdecimal():
            try:
                with open(f"/proc/{name}/stat", errors="replace") as file:
                    children += file.read().rpartition(")")[2].split()[1] == str(os.getpid())
            except OSError:
                continue
    return [len(os.listdir("/proc/self/fd")), len(os.listdir("/proc/self/task")), children]


def main() -> None:
    """Start all threads, wait for them, and tell."""
    count, noise = int(sys.argv[1]), int(sys.argv[2])
    # Twelve threads that each hold the GIL for the usual 5 ms would make this take minutes.
    sys.setswitchinterval(0.0002)
    before = state()
    stop = threading.Event()
    results: list[tuple[int, int]] = []
    threads = [
        threading.Thread(target=work, args=(list(range(first, count, WORKERS)), results))
        for first in range(WORKERS)
    ]
    disturbers = [threading.Thread(target=busy, args=(stop,)) for _ in range(noise)]
    for thread in (*disturbers, *threads):
        thread.start()
    for thread in threads:
        thread.join()
    stop.set()
    for thread in disturbers:
        thread.join()
    # join() returns a moment before the kernel has ended the thread.
    limit = time.monotonic() + 60
    while (after := state()) != before and time.monotonic() < limit:
        time.sleep(0.01)
    right = sorted(results) == [(2 * number, 1) for number in range(count)]
    print(json.dumps({"right": right, "ended": len(results), "before": before, "after": after}))


main()
