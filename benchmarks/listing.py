"""What a list of the namespaces of a host with many processes costs, beside lsns(8).

    python benchmarks/listing.py [PROCESSES] [ROUNDS]

Starts that many processes (5,000), which do nothing, beside those that are there; in turns, whole
processes, the fastest and the median of the rounds. Run it as root: another user's processes are
passed over, which costs less.
"""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path

LAUNCHER = str(Path(sys.executable).with_name("pyspaces"))
COMMANDS = {
    "pyspaces list": [LAUNCHER, "list"],
    "pyspaces list --json": [LAUNCHER, "list", "--json"],
    "pyspaces list --tree": [LAUNCHER, "list", "--tree"],
    "lsns --json": ["lsns", "--json"],
}


def start_sleepers(count: int) -> tuple[int, list[int]]:
    """Start processes that end when the descriptor that this returns, beside their pids, closes."""
    reading, writing = os.pipe()
    pids = []
    for _ in range(count):
        pid = os.fork()
        if pid == 0:
            os.close(writing)
            os.read(reading, 1)
            os._exit(0)
        pids.append(pid)
    os.close(reading)
    return writing, pids


def seconds(words: list[str]) -> float:
    """Return how long a command takes, from start to end."""
    start = time.perf_counter()
    subprocess.run(words, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.perf_counter() - start


def main() -> None:
    """Measure and print."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 5000
    rounds = int(sys.argv[2]) if len(sys.argv) > 2 else 5
    commands = {name: words for name, words in COMMANDS.items() if shutil.which(words[0])}
    writing, pids = start_sleepers(count)
    times: dict[str, list[float]] = {name: [] for name in commands}
    try:
        for _ in range(rounds):
            for name, words in commands.items():
                times[name].append(seconds(words))
        present = sum(entry.isdecimal() for entry in os.listdir("/proc"))
        print(f"{present} processes, {rounds} rounds, seconds of the whole process")
        print(f"{'command':24}{'median':>9}{'fastest':>9}")
        for name, row in times.items():
            print(f"{name:24}{statistics.median(row):9.2f}{min(row):9.2f}")
    finally:
        os.close(writing)
        for pid in pids:
            os.waitpid(pid, 0)


if __name__ == "__main__":
    main()
