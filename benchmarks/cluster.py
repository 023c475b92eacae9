"""What a command in namespaces costs through Dask, beside bare Dask tasks and `xargs -P`.

    python benchmarks/cluster.py [COMMANDS] [ROUNDS]

Every way runs true(1), or a function that does nothing, COMMANDS (2,000) times, two at once.
What is printed are medians of ROUNDS (3), in milliseconds for each command, and ratios to a Dask
task that does nothing.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import distributed

import pyspaces.dask

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

WORKERS = 2
PYSPACES = str(Path(sys.executable).with_name("pyspaces"))
BARE = "a Dask task that does nothing"


def nothing(number: int) -> int:
    """Return the number: a task."""
    return number


def ways(client: Any, count: int) -> dict[str, Callable[[], object]]:
    """Return all that is measured, by its name."""

    def boxed() -> None:
        results = pyspaces.dask.run(client, (["true"] for _ in range(count)), progress=False)
        ended = [result.ok for result in results]
        assert ended == [True] * count

    def started(number: int) -> int:
        return subprocess.run(["true"], check=True).returncode + number

    def tasks(function: Callable[[int], int]) -> None:
        client.gather(client.map(function, range(count), pure=False))

    def by_xargs(*words: str) -> None:
        numbers = "".join(f"{number}\n" for number in range(count))
        # The number is an argument, which true(1) ignores.
        command = ["xargs", "-P", str(WORKERS), "-n", "1", *words]
        subprocess.run(command, input=numbers, text=True, check=True)

    return {
        BARE: lambda: tasks(nothing),
        "a Dask task that starts true": lambda: tasks(started),
        "pyspaces.dask.run": boxed,
        "xargs -P, true": lambda: by_xargs("true"),
        "xargs -P, unshare": lambda: by_xargs("unshare", "-Urpf", "true"),
        "xargs -P, pyspaces run": lambda: by_xargs(
            PYSPACES, "run", "--user", "--pid", "--", "true"
        ),
    }


def main() -> None:
    """Measure and print."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 2000
    rounds = int(sys.argv[2]) if len(sys.argv) > 2 else 3
    times: dict[str, list[float]] = {}
    dask: Any = distributed  # whose calls have no types
    size = {"n_workers": WORKERS, "threads_per_worker": 1}
    with (
        dask.LocalCluster(**size, host="127.0.0.1", dashboard_address=":0") as cluster,
        dask.Client(cluster) as client,
    ):
        found = ways(client, count)
        for run in ways(client, WORKERS).values():
            run()
        for _ in range(rounds):
            for name, run in found.items():
                start = time.perf_counter()
                run()
                times.setdefault(name, []).append((time.perf_counter() - start) * 1000 / count)
    print(
        f"{count} commands, {WORKERS} at once, {rounds} rounds: milliseconds for each, and ratios"
    )
    bare = statistics.median(times[BARE])
    for name, row in times.items():
        print(f"    {name:32}{statistics.median(row):8.2f}{statistics.median(row) / bare:8.2f}")


if __name__ == "__main__":
    main()
