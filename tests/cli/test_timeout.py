"""--timeout and --kill-after: a time limit ends the command and everything in its namespace."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time

import pytest
from conftest import SCRIPT, outcome, processes_with

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    Launch = Callable[..., subprocess.CompletedProcess[str]]

pytestmark = pytest.mark.needs("userns", "pidns")
SPACES = pytest.mark.parametrize("options", [["--user"], ["--user", "--pid"], ["--user", "--init"]])


@SPACES
def test_the_command_is_ended_with_124_or_killed_with_137(
    pyspaces: Launch, options: list[str], wait_until: Callable[..., None]
) -> None:
    """The latter if it takes no notice: here it ignores SIGTERM from its start, as its caller."""
    begun = time.monotonic()
    done = pyspaces("run", *options, "--timeout", "0.3", "--", "sleep", "1000")
    assert done.returncode == 124
    assert time.monotonic() - begun >= 0.3
    assert re.fullmatch(
        r"pyspaces: the command ran for \d+\.\d s, and its time is 0\.3 s: it was sent SIGTERM\n",
        done.stderr,
    )
    token = f"654.{os.getpid():07}"
    script = f"exec sleep {token}"
    if len(options) > 1:  # with its pid namespace, everything in it goes
        script = f"setsid sleep {token} & sleep {token}; sleep {token}"
    words = ("--timeout", "0.3", "--kill-after", "0.1s", "--", "sh", "-c", script)
    done = deaf(*options, *words)
    assert done.returncode == 137
    assert done.stderr.endswith("its time is 0.3 s: it was killed\n")
    wait_until(lambda: not processes_with(token), "everything gone")


def deaf(*words: str) -> subprocess.CompletedProcess[str]:
    return outcome(["sh", "-c", "trap '' TERM; exec \"$@\"", "sh", SCRIPT, "run", *words])


def test_kill_after_0_kills_at_once() -> None:
    words = ("--timeout", "0.1", "--kill-after", "0", "--", "sleep", "1000")
    assert deaf("--user", *words).returncode == 137


def test_a_command_that_handles_term_has_its_time_and_still_ends_with_124(
    pyspaces: Launch,
) -> None:
    script = "trap 'echo cleaned; exit 0' TERM; echo up; while :; do sleep 0.01; done"
    for limit in ("0.3", "3", "30"):  # until it has its handler in time
        words = ("--timeout", limit, "--kill-after", "120", "--", "sh", "-c", script)
        done = pyspaces("run", "--user", "--pid", *words, timeout=200)
        assert done.returncode == 124
        if done.stdout:
            break
    assert done.stdout == "up\ncleaned\n"


@pytest.mark.parametrize("more", ["", "--init", "--init --new-session", "--init --pty"])
@pytest.mark.parametrize("leaves", [False, True], ids=["stays", "leaves"])
def test_a_stopped_command_is_ended_too(pyspaces: Launch, more: str, leaves: bool) -> None:
    """Also one that has left its process group."""
    script = "import os, signal\n"
    if leaves and not {"--new-session", "--pty"}.intersection(more.split()):
        script += "os.setpgrp()\n"
    script += "os.kill(os.getpid(), signal.SIGSTOP)"
    words = ("--timeout", "0.3", "--kill-after", "60", "--", sys.executable, "-ISc", script)
    done = pyspaces("run", "--user", *more.split(), *words)
    assert done.returncode == 124
    assert done.stderr.endswith("it was sent SIGTERM\n")


def test_a_command_that_is_quick_enough_keeps_its_status(pyspaces: Launch) -> None:
    done = pyspaces("run", "--user", "--timeout", "30", "--", "sh", "-c", "exit 9")
    assert (done.returncode, done.stderr) == (9, "")
