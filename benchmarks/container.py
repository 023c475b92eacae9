"""What a Container costs beside a plain multiprocessing.Process: both from one process, in turns.

    python benchmarks/container.py [ROUNDS]

A launch is start, join and close of a process whose function does nothing.
"""

from __future__ import annotations

import multiprocessing
import statistics
import sys
import time

from pyspaces import Container

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

FORK = multiprocessing.get_context("fork")


def noop() -> None:
    """Do nothing."""


def plain() -> multiprocessing.process.BaseProcess:
    """Return a process of the caller's own namespaces."""
    return FORK.Process(target=noop)


def container() -> multiprocessing.process.BaseProcess:
    """Return a process of new user and pid namespaces."""
    return Container(noop, user=True, pid=True)


def milliseconds(make: Callable[[], multiprocessing.process.BaseProcess]) -> float:
    """Return how long one launch takes."""
    start = time.perf_counter()
    process = make()
    process.start()
    process.join()
    process.close()
    return (time.perf_counter() - start) * 1000


def main() -> None:
    """Measure and print."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 300
    times: dict[str, list[float]] = {"Process": [], "Container": []}
    for _ in range(rounds):
        times["Process"].append(milliseconds(plain))
        times["Container"].append(milliseconds(container))
    print(f"{rounds} rounds, milliseconds of a launch")
    for name, row in times.items():
        median = statistics.median(row)
        print(f"{name:12}{median:8.2f}{1000 / median:10.0f} a second")
    pairs = zip(times["Container"], times["Process"], strict=True)
    print(f"ratio: {statistics.median(a / b for a, b in pairs):.2f} (at most 2.0)")


main()
