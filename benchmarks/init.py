"""What a process 1 of ours costs: its memory beside that of its launcher, and the time of a launch.

    python benchmarks/init.py [ROUNDS]

Private memory is what would be free if that process alone ended: it is a fork of the launcher and
shares the rest with it. bwrap, where it is installed, has a process 1 of its own too.
"""

from __future__ import annotations

import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path

LAUNCHER = str(Path(sys.executable).with_name("pyspaces"))
SPACES = [LAUNCHER, "run", "--user", "--pid"]
BWRAP = ["bwrap", "--unshare-user", "--unshare-pid", "--dev-bind", "/", "/"]
COMMANDS = {
    "pyspaces run": SPACES,
    "pyspaces run --init": [*SPACES, "--init"],
    "bwrap --unshare-pid": BWRAP,
}


def milliseconds(words: list[str]) -> float:
    """Return how long a launch of true(1) takes, from start to end."""
    start = time.perf_counter()
    subprocess.run([*words, "true"], check=True)
    return (time.perf_counter() - start) * 1000


def kibibytes(process: int) -> tuple[int, int]:
    """Return the resident and the private memory of a process: proc_pid_smaps(5)."""
    fields: dict[str, int] = {}
    for line in Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()[1:]:
        name, value = line.split(":")
        fields[name] = int(value.split()[0])
    return fields["Rss"], fields["Private_Clean"] + fields["Private_Dirty"]


def child_of(process: int) -> int:
    """Return the only child of a process, as soon as it has one."""
    children = Path(f"/proc/{process}/task/{process}/children")
    while not (found := children.read_text().split()):
        time.sleep(0.01)
    return int(found[0])


def print_memory(name: str, words: list[str]) -> None:
    """Start a command that waits, and print what launcher and process 1 above it take."""
    pipe = subprocess.PIPE
    waiting = [*words, "sh", "-c", "echo; read line || true"]
    with subprocess.Popen(waiting, stdin=pipe, stdout=pipe) as launcher:
        assert launcher.stdin
        assert launcher.stdout
        launcher.stdout.readline()
        for role, process in (("launcher", launcher.pid), ("process 1", child_of(launcher.pid))):
            resident, private = kibibytes(process)
            print(f"{name:24}{role:12}{resident:10}{private:10}")
        launcher.stdin.close()


def main() -> None:
    """Measure and print."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 40
    commands = {name: words for name, words in COMMANDS.items() if shutil.which(words[0])}
    print(f"{'KiB':24}{'':12}{'resident':>10}{'private':>10}")
    for name, words in commands.items():
        if words is not SPACES:  # its process 1 is the command
            print_memory(name, words)
    times: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(rounds):
        for name, words in commands.items():
            times[name].append(milliseconds(words))
    print(f"{rounds} rounds, milliseconds of a launch, and the ratio to a launch without --init")
    for name, row in times.items():
        pairs = zip(row, times["pyspaces run"], strict=True)
        ratio = statistics.median(a / b for a, b in pairs)
        print(f"{name:36}{statistics.median(row):9.1f}{ratio:9.2f}")


main()
