"""--timeout and --kill-after: a time limit ends the command and everything in its namespace."""

from __future__ import annotations

import os
import re
import subprocess
import time

import pytest
from conftest import processes_with

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    Launch = Callable[..., subprocess.CompletedProcess[str]]

pytestmark = pytest.mark.needs("userns", "pidns")
# Time enough for the command to begin, on a busy machine too: each has `--timeout 0.6`.
SPACES = pytest.mark.parametrize("options", [["--user"], ["--user", "--pid"], ["--user", "--init"]])
DEAF = "trap '' TERM; while :; do sleep 0.1; done"


@SPACES
def test_the_command_is_ended_with_124(pyspaces: Launch, options: list[str]) -> None:
    begun = time.monotonic()
    done = pyspaces("run", *options, "--timeout", "0.6", "--", "sleep", "100")
    assert done.returncode == 124
    assert 0.6 <= time.monotonic() - begun < 60
    assert re.fullmatch(
        r"pyspaces: the command ran for \d+\.\d s, and its time is 0\.6 s: it was sent SIGTERM\n",
        done.stderr,
    )


@SPACES
def test_a_deaf_command_is_killed_with_137(pyspaces: Launch, options: list[str]) -> None:
    done = pyspaces(
        *("run", *options, "--timeout", "0.6", "--kill-after"),
        *("0.2s", "--", "sh", "-c", DEAF),
    )
    assert done.returncode == 137
    assert done.stderr.endswith("its time is 0.6 s: it was killed\n")


def test_kill_after_0_kills_at_once(pyspaces: Launch) -> None:
    done = pyspaces(
        "run", "--user", "--timeout", "0.6", "--kill-after", "0", "--", "sh", "-c", DEAF
    )
    assert done.returncode == 137


def test_a_command_that_handles_term_has_its_time_and_still_ends_with_124(
    pyspaces: Launch,
) -> None:
    script = "trap 'echo cleaned; exit 0' TERM; while :; do sleep 0.01; done"
    done = pyspaces("run", "--user", "--pid", "--timeout", "0.6", "--", "sh", "-c", script)
    assert (done.returncode, done.stdout) == (124, "cleaned\n")


def test_everything_in_the_namespace_goes(
    pyspaces: Launch, wait_until: Callable[..., None]
) -> None:
    token = f"654.{os.getpid()}"
    script = f"trap '' TERM; setsid sleep {token} & sleep {token}; sleep {token}"
    done = pyspaces(
        *("run", "--user", "--pid", "--timeout", "0.6", "--kill-after", "0.1"),
        *("--", "sh", "-c", script),
    )
    assert done.returncode == 137
    wait_until(lambda: not processes_with(token), "everything gone")


def test_a_stopped_command_is_ended_too(pyspaces: Launch) -> None:
    done = pyspaces("run", "--user", "--timeout", "0.6", "--", "sh", "-c", "kill -STOP $$")
    assert done.returncode == 124


def test_a_command_that_is_quick_enough_keeps_its_status(pyspaces: Launch) -> None:
    done = pyspaces("run", "--user", "--timeout", "30", "--", "sh", "-c", "exit 9")
    assert (done.returncode, done.stderr) == (9, "")
