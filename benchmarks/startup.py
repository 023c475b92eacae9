"""What a launch costs: whole processes, in turns, medians and ratios.

    python benchmarks/startup.py [ROUNDS]

Runs the console script beside this interpreter against the bare interpreter, the interpreter with
click, and unshare(1). In turns, so that a machine whose speed drifts slows all of them alike; the
difference and the ratio are taken round by round. Where PYTHONDONTWRITEBYTECODE is set, every start
of an installation in editable mode compiles it anew: unset it.
"""

from __future__ import annotations

import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path

LAUNCHER = str(Path(sys.executable).with_name("pyspaces"))
BARE = "python -c pass"
LAUNCH = "pyspaces run --user --pid -- true"
COMMANDS = {
    BARE: [sys.executable, "-c", "pass"],
    "python -c 'import click'": [sys.executable, "-c", "import click"],
    LAUNCH: [LAUNCHER, "run", "--user", "--pid", "--", "true"],
    **{
        f"pyspaces run {words} -- true": [LAUNCHER, "run", *words.split(), "--", "true"]
        for words in (
            *("--rlimit core=0", "--allow-exec /", "--seccomp-deny @mount", "--seccomp default"),
            "--sandbox",
        )
    },
    "unshare -Urpf true": ["unshare", "-Urpf", "true"],
}


def milliseconds(words: list[str]) -> float:
    """Return how long a command takes, from start to end."""
    start = time.perf_counter()
    subprocess.run(words, check=True)
    return (time.perf_counter() - start) * 1000


def main() -> None:
    """Measure and print."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 40
    commands = {name: words for name, words in COMMANDS.items() if shutil.which(words[0])}
    for words in commands.values():
        milliseconds(words)
    times: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(rounds):
        for name, words in commands.items():
            times[name].append(milliseconds(words))
    print(f"{rounds} rounds, milliseconds of the whole process")
    print(f"{'command':52}{'median':>9}{'fastest':>9}{'ratio of the launch to it':>28}")
    for name, row in times.items():
        ratio = statistics.median(a / b for a, b in zip(times[LAUNCH], row, strict=True))
        print(f"{name:52}{statistics.median(row):9.1f}{min(row):9.1f}{ratio:28.2f}")
    bare = times[BARE]
    beyond = statistics.median(a - b for a, b in zip(times[LAUNCH], bare, strict=True))
    print(f"a launch beyond the bare interpreter: {beyond:.1f}")


main()
