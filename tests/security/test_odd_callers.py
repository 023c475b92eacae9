"""Callers in an odd state: closed descriptors, SIGCHLD ignored, no directory, a full disk."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import IS_ROOT, SCRIPT, outcome

# Root needs no helper for more than its own id, and has no subordinate ones.
MANY = ["--map-uid", "all", "--map-gid", "all"] if IS_ROOT else ["--map-auto"]
LAUNCHES = [
    [],
    ["--user"],
    ["--user", "--pid", "--mount-proc"],
    ["--user", *MANY],
    ["--user", *MANY, "--init"],
    ["--user", *MANY, "--no-fork"],
    ["--user", "--no-fork"],
    ["--user", "--uts", "--join", f"net=/proc/{os.getpid()}/ns/net"],
    ["--user", *MANY, "--timeout", "30"],
]
each_launch = pytest.mark.parametrize(
    "words", LAUNCHES, ids=lambda words: " ".join(words).replace(f"/{os.getpid()}/", "/PID/")
)


@pytest.mark.crossed(1)
@pytest.mark.needs("userns", "pidns", "many")
@each_launch
@pytest.mark.parametrize(
    "closed",
    [some for count in (1, 2, 3) for some in itertools.combinations((0, 1, 2), count)],
    ids=str,
)
def test_closed_descriptors(words: list[str], closed: tuple[int, ...]) -> None:
    """The command finds them closed, and nothing of ours in their place."""
    look = "import os; os._exit(sum(1 << n for n in range(3) if os.path.exists(f'/dev/fd/{n}')))"
    look = look.replace("/dev/fd", "/proc/self/fd")
    inner = [SCRIPT, "run", *words, "--", sys.executable, "-I", "-S", "-c", look]
    redirect = " ".join(f"{number}>&-" for number in closed)
    done = outcome(["sh", "-c", f'exec "$@" {redirect}', "sh", *inner], stdin=subprocess.DEVNULL)
    expected = sum(1 << number for number in range(3) if number not in closed)
    # /proc/self/fd is listed by a path here, so that looking opens none of the first three.
    assert done.returncode == expected, done.stderr


@pytest.mark.needs("userns", "pidns", "many")
@each_launch
def test_sigchld_is_ignored(words: list[str]) -> None:
    done = outcome(
        [SCRIPT, "run", *words, "--", "sh", "-c", "exit 7"],
        preexec_fn=lambda: signal.signal(signal.SIGCHLD, signal.SIG_IGN),
    )
    assert (done.returncode, done.stderr) == (7, "")


REFUSED = """
import signal, sys
from pyspaces.features.ids import program
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
for code in (0, 3):
    done = program.run("/bin/sh", "-c", f"echo heard; exit {code}")
    assert (done.status.code, done.output) == (code, "heard\\n"), done
done = program.run("/bin/sh", "-c", "kill -9 $$")
assert done.status.signal == 9, done
assert program.run("/nonexistent").status.code == 126
"""


def test_how_a_helper_ended_is_known_whatever_the_caller_ignores() -> None:
    subprocess.run([sys.executable, "-c", REFUSED], check=True, timeout=60)


@pytest.mark.needs("userns")
@pytest.mark.parametrize(
    ("words", "status", "told"),
    [
        (["run", "--user", "--", "true"], 0, ""),
        (
            ["run", "--user", "--status-file", "x", "--", "true"],
            2,
            "pyspaces: --status-file: x: the directory has been removed\n",
        ),
        (
            ["run", "--user", "--pid-file", "./x", "--", "true"],
            2,
            "pyspaces: --pid-file: ./x: the directory has been removed\n",
        ),
        (
            ["run", "--user", "--workdir", "x", "--", "true"],
            125,
            "pyspaces: cannot change to the working directory: x: No such file or directory\n",
        ),
        (["run", "--plan", "x"], 2, "pyspaces: --plan: x: No such file or directory\n"),
        (["list", "--noheadings", "--output", "type", "--type", "user"], 0, None),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_the_directory_has_been_removed(
    tmp_path: Path, words: list[str], status: int, told: str | None
) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    done = outcome(
        ["sh", "-c", f'cd {gone}; rmdir {gone}; exec "$@"', "sh", SCRIPT, *words],
        stdin=subprocess.DEVNULL,
    )
    assert done.returncode == status, done.stderr
    assert told is None or done.stderr == told


@pytest.mark.parametrize(
    "words",
    [
        ["--version"],
        ["run", "--help"],
        ["run", "--dry-run", "--", "true"],
        ["list"],
        ["list", "--json"],
        ["completion", "bash"],
    ],
    ids=" ".join,
)
def test_standard_output_is_full(words: list[str]) -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [SCRIPT, *words],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
            timeout=60,
            stdin=subprocess.DEVNULL,
        )
    assert done.returncode == 125
    told = "pyspaces: standard output: cannot write: No space left on device\n"
    assert done.stderr.endswith(told)


@pytest.mark.needs("userns")
def test_standard_error_is_full() -> None:
    """What cannot be told changes nothing."""
    with open("/dev/full", "w") as full:
        for words, status in (
            (["run", "--verbose", "--report", "--user", "--", "sh", "-c", "exit 7"], 7),
            (["run", "--", "/nonexistent"], 127),
            (["run", "--nonsense"], 2),
        ):
            done = subprocess.run(
                [SCRIPT, *words], stderr=full, check=False, timeout=60, stdin=subprocess.DEVNULL
            )
            assert done.returncode == status
