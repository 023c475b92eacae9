"""What a launch costs a Python program that is big and has threads, beside unshare(1) and bwrap.

    python benchmarks/library.py [ROUNDS]

A launch is from the call to the end of true(1), in new user and pid namespaces: by `launch.start`,
and by `pyspaces.run`, with the same words each time and with others. All ways are measured in turns
in one caller of each size; what is printed are medians, and ratios to unshare.
"""

from __future__ import annotations

import itertools
import json
import shutil
import statistics
import subprocess
import sys
import threading
import time

import pyspaces
from pyspaces import launch, settings
from pyspaces.launch.server import choice

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

SIZES = (10, 200, 1000)  # megabytes
THREADS = (1, 16)
SERVER, FORK, RULE = "with the server", "without", "by the rule"
FIRST = "the first with a server"
UNSHARE = ["unshare", "-Urpf", "true"]
BWRAP = ["bwrap", "--unshare-user", "--unshare-pid", "--dev-bind", "/", "/", "true"]


def with_server(wanted: bool | None) -> Callable[[], None]:
    """Return a launch of ours."""
    plan = settings.plan_from({"user": True, "pid": True, "command": ["true"]})

    def run() -> None:
        launch.use_server(wanted)
        with launch.start(plan) as running:
            running.wait()

    return run


def ways() -> dict[str, Callable[[], object]]:
    """Return all that is measured, by its name."""
    numbers = itertools.count()

    def run(*words: str) -> object:
        return pyspaces.run(words, user=True, pid=True, check=True)

    found: dict[str, Callable[[], object]] = {
        SERVER: with_server(True),
        RULE: with_server(None),
        "pyspaces.run": lambda: run("true"),
        "pyspaces.run, other words": lambda: run("true", str(next(numbers))),
        "unshare": lambda: subprocess.run(UNSHARE, check=True),
    }
    if shutil.which("bwrap"):
        found["bwrap"] = lambda: subprocess.run(BWRAP, check=True)
    return found | {FORK: without_server()}


def without_server() -> Callable[[], None]:
    """Return a launch of ours by a fork, which leaves the server that there is."""
    plan = settings.plan_from({"user": True, "pid": True, "command": ["true"]})

    def run() -> None:
        # Not by use_server(False), which ends it.
        choice._Choice.wanted = False
        with launch.start(plan) as running:
            running.wait()

    return run


def caller(megabytes: int, threads: int, rounds: int) -> None:
    """Be a caller of this size; print the milliseconds of each launch, by its way."""
    # Each an object of its own, in pages of 4 KiB, as those of a program are.
    ballast = [bytes(1000) for _ in range(max(0, megabytes - 10) * 1000)]
    ended = threading.Event()
    for _ in range(threads - 1):
        threading.Thread(target=ended.wait, daemon=True).start()
    times: dict[str, list[float]] = {}
    launches = ways()
    for number in range(rounds + 2):
        for name, run in launches.items():
            start = time.perf_counter()
            run()
            if number >= 2:
                times.setdefault(name, []).append((time.perf_counter() - start) * 1000)
        # A fork makes the next writes of its caller slower, whoever comes first then.
        launches[SERVER]()
    first = launches[SERVER]
    for _ in range(max(1, rounds // 8)):
        launch.use_server(False)
        start = time.perf_counter()
        first()
        times.setdefault(FIRST, []).append((time.perf_counter() - start) * 1000)
    launch.use_server(False)
    del ballast
    print(json.dumps(times))


def main() -> None:
    """Measure and print."""
    if sys.argv[1:2] == ["--caller"]:
        caller(*map(int, sys.argv[2:5]))
        return
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 40
    print(f"{rounds} rounds, milliseconds of a launch, and ratios to unshare")
    for size in SIZES:
        for threads in THREADS:
            words = [sys.executable, __file__, "--caller", str(size), str(threads), str(rounds)]
            done = subprocess.run(words, check=True, stdout=subprocess.PIPE, text=True)
            times: dict[str, list[float]] = json.loads(done.stdout)
            print(f"{size} MB, {threads} threads" if threads > 1 else f"{size} MB, 1 thread")
            for name, row in times.items():
                median = statistics.median(row)
                ratio = median / statistics.median(times["unshare"])
                print(f"    {name:30}{median:8.2f}{ratio:8.2f}")


main()
