"""What a launch costs: whole processes, in turns, medians and ratios; page faults, memory, crowds.

    python benchmarks/startup.py [ROUNDS [LAUNCHER...]]

Runs the console script beside this interpreter (and others, to compare versions) against the bare
interpreter, the interpreter with click, unshare(1) and bwrap(1). In turns, so that a machine whose
speed drifts slows all of them alike; the ratio is taken round by round. Where other processes
compete for the CPUs, the time that the CPUs spent is steadier than the time that passed. Where
PYTHONDONTWRITEBYTECODE is set, every start of an installation in editable mode compiles it anew:
unset it.
"""

from __future__ import annotations

import os
import shlex
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path

LAUNCHER = str(Path(sys.executable).with_name("pyspaces"))
WORDS = ["run", "--user", "--pid", "--"]
OWN_USR = ["--user", "--mount", "--ro-bind", "/usr", "/usr"]
BARE = "python -c pass"
BWRAP = "bwrap --unshare-user --unshare-pid --bind / / true"
CROWD = 100
# What confinement costs over the plain launch.
CONFINEMENTS = (
    *("--rlimit core=0", "--umask 022", "--nice 1", "--oom-score-adj 500", "--cpu-list 0"),
    *("--ionice idle", "--no-new-privs", "--user --cap-drop all", "--user --no-nested-users"),
    *("--allow-exec / --allow-read /", "--allow-connect none", "--scope abstract,signal"),
    *("--seccomp-deny @mount", "--seccomp default", "--no-terminal-injection"),
    *("--user --host-ro", "--close-fds", "--user --pid --new-session", "--sandbox"),
)
# As for these, if this host lets us have a cgroup.
CGROUP = "--memory 1G --pids 100"


class Times:
    """What the rounds of one command took: milliseconds, those of CPUs, and page faults."""

    def __init__(self, words: list[str]) -> None:
        self.words = words
        self.passed: list[float] = []
        self.spent: list[float] = []
        self.faults = 0

    def measure(self) -> None:
        """Run the command once."""
        start = time.perf_counter()
        pid = os.posix_spawnp(self.words[0], self.words, os.environ)
        _, status, usage = os.wait4(pid, 0)
        assert status == 0, self.words
        self.passed.append((time.perf_counter() - start) * 1000)
        self.spent.append((usage.ru_utime + usage.ru_stime) * 1000)
        self.faults = usage.ru_minflt


def memory(words: list[str]) -> int:
    """Return the proportional share of memory, in KiB, of a process that waits."""
    with subprocess.Popen(words) as process:
        time.sleep(1)
        lines = Path(f"/proc/{process.pid}/smaps_rollup").read_text().splitlines()
        process.terminate()
    return int(next(line.split()[1] for line in lines if line.startswith("Pss:")))


def works(words: str) -> bool:
    """Return whether a command runs with these options; print why not."""
    return (
        subprocess.run([LAUNCHER, "run", *words.split(), "--", "true"], check=False).returncode == 0
    )


def crowd(words: list[str]) -> float:
    """Return the milliseconds in which so many of a command, begun at once, have ended."""
    start = time.perf_counter()
    processes = [subprocess.Popen(words) for _ in range(CROWD)]
    assert {process.wait() for process in processes} == {0}
    return (time.perf_counter() - start) * 1000


def rate(words: list[str]) -> float:
    """Return how many launches per second two loops have, one for each of two CPUs."""
    loop = f"i=0; while [ $i -lt {CROWD} ]; do {shlex.join(words)}; i=$((i+1)); done"
    start = time.perf_counter()
    loops = [subprocess.Popen(["sh", "-c", loop]) for _ in range(2)]
    assert {process.wait() for process in loops} == {0}
    return 2 * CROWD / (time.perf_counter() - start)


def main() -> None:
    """Measure and print."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 40
    launchers = {"pyspaces": LAUNCHER, **{path: path for path in sys.argv[2:]}}
    commands = {
        BARE: [sys.executable, "-c", "pass"],
        "python -c 'import click'": [sys.executable, "-c", "import click"],
        **{
            f"{name} {' '.join(WORDS)} true": [path, *WORDS, "true"]
            for name, path in launchers.items()
        },
        "pyspaces run --user --mount --ro-bind": [LAUNCHER, "run", *OWN_USR, "--", "true"],
        **{
            f"pyspaces run {words} -- true": [LAUNCHER, "run", *words.split(), "--", "true"]
            for words in (*CONFINEMENTS, *([CGROUP] if works(CGROUP) else []))
        },
        "unshare -Urpf true": ["unshare", "-Urpf", "true"],
        BWRAP: BWRAP.split(),
    }
    times = {name: Times(words) for name, words in commands.items() if shutil.which(words[0])}
    for _ in range(rounds + 1):
        for row in times.values():
            row.measure()
    print(f"{rounds} rounds, milliseconds of the whole process; x: times {BARE}, median of rounds")
    print(f"{'command':44}{'median':>8}{'fastest':>8}{'x':>6}{'CPU':>8}{'x':>6}{'faults':>8}")
    bare = times[BARE]
    for name, row in times.items():
        passed, spent = row.passed[1:], row.spent[1:]
        ratio = statistics.median(map(float.__truediv__, passed, bare.passed[1:]))
        of_cpu = statistics.median(spent) / statistics.median(bare.spent[1:])
        print(
            f"{name[-43:]:44}{statistics.median(passed):8.1f}{min(passed):8.1f}{ratio:6.2f}"
            f"{statistics.median(spent):8.1f}{of_cpu:6.2f}{row.faults:8}"
        )
    waiting = memory([sys.executable, "-c", "import time; time.sleep(9)"])
    for name, path in launchers.items():
        share = memory([path, *WORDS, "sleep", "9"])
        print(
            f"{name}: waits with {share} KiB, {share / waiting:.2f} times a bare interpreter's;",
            end=" ",
        )
        together = min(crowd([path, *WORDS, "true"]) for _ in range(3))
        print(f"{CROWD} at once take {together:.0f} ms;", end=" ")
        print(f"two at once: {max(rate([path, *WORDS, 'true']) for _ in range(3)):.0f} per second")


main()
