"""What binds cost: launches with 1, 50 and 200 of them, beside bwrap(1), in turns; medians.

    python benchmarks/mounts.py [ROUNDS]

Each bind is read-only, of /usr, on a directory of a fresh tmpfs; both have new user and mount
namespaces. A bind costs what 200 take beyond 1, divided by 199.
"""

from __future__ import annotations

import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path

LAUNCHER = str(Path(sys.executable).with_name("pyspaces"))
COUNTS = (1, 50, 200)
PEERS = {
    "pyspaces": [LAUNCHER, "run", "--user"],
    "bwrap": ["bwrap", "--unshare-user", "--dev-bind", "/", "/"],
}


def words(peer: str, count: int) -> list[str]:
    """Return the command line of a launch with `count` binds."""
    binds = [word for index in range(count) for word in ("--ro-bind", "/usr", f"/mnt/{index}")]
    end = ["--", "true"] if peer == "pyspaces" else ["true"]
    return [*PEERS[peer], "--tmpfs", "/mnt", *binds, *end]


def milliseconds(command: list[str]) -> float:
    """Return how long a command takes, from start to end."""
    start = time.perf_counter()
    subprocess.run(command, check=True)
    return (time.perf_counter() - start) * 1000


def main() -> None:
    """Measure and print."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 15
    peers = [peer for peer, command in PEERS.items() if shutil.which(command[0])]
    times: dict[tuple[str, int], list[float]] = {(p, c): [] for p in peers for c in COUNTS}
    for _ in range(rounds):
        for (peer, count), row in times.items():
            row.append(milliseconds(words(peer, count)))
    print(f"{rounds} rounds, milliseconds of the whole process, medians")
    print(f"{'binds':>10}" + "".join(f"{count:>9}" for count in COUNTS) + f"{'each':>9}")
    for peer in peers:
        medians = [statistics.median(times[peer, count]) for count in COUNTS]
        each = (medians[-1] - medians[0]) / (COUNTS[-1] - COUNTS[0])
        print(f"{peer:>10}" + "".join(f"{median:9.1f}" for median in medians) + f"{each:9.3f}")


main()
