"""--no-fork: the launcher becomes the command, in place."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import pytest
from children import Child
from conftest import SCRIPT, outcome, processes_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    Launch = Callable[..., subprocess.CompletedProcess[str]]

pytestmark = pytest.mark.needs("userns")
HEAD = ["run", "--no-fork"]


def test_the_command_has_the_pid_of_the_launcher() -> None:
    with Child[bytes](
        [SCRIPT, *HEAD, "--user", "--", "sh", "-c", "echo $$; read line"],
        stdout=subprocess.PIPE,
        stdin=subprocess.PIPE,
    ) as launcher:
        assert launcher.stdout is not None
        assert int(launcher.stdout.readline()) == launcher.pid
        assert processes_of(launcher.pid) == []
        assert Path(f"/proc/{launcher.pid}/comm").read_text() == "sh\n"


def test_nothing_of_ours_is_left_in_it(pyspaces: Launch) -> None:
    script = "grep -e SigBlk -e SigCgt /proc/self/status; ls /proc/self/fd | tr '\\n' ' '"
    done = pyspaces(*HEAD, "--user", "--", "sh", "-c", script)
    plain = outcome(["sh", "-c", script], stdin=subprocess.DEVNULL, check=True)
    assert done.stdout == plain.stdout


@pytest.mark.needs("netns", "timens")
def test_the_set_up_is_that_of_any_launch(pyspaces: Launch) -> None:
    done = pyspaces(
        *(*HEAD, "--all", "--share", "pid", "--hostname", "box", "--boottime", "1000000000"),
        *("--workdir", "/usr", "--", "sh", "-c"),
        "hostname; pwd; id -u; cut -d. -f1 /proc/uptime; cat /proc/self/uid_map",
    )
    name, where, uid, uptime, rows = done.stdout.splitlines()
    assert (name, where, uid) == ("box", "/usr", "0")
    assert int(uptime) > 1_000_000_000
    assert rows.split() == ["0", str(os.geteuid()), "1"]


@pytest.mark.as_root
def test_maps_that_only_the_outside_can_write(pyspaces: Launch) -> None:
    spec = "0 1000 1,1 100000 65536"
    done = pyspaces(*HEAD, "--map-uid", spec, "--", "cat", "/proc/self/uid_map")
    assert [row.split() for row in done.stdout.splitlines()] == [
        ["0", "1000", "1"],
        ["1", "100000", "65536"],
    ]


@pytest.mark.parametrize("code", [0, 5, 125])
def test_the_status_is_the_commands(pyspaces: Launch, code: int) -> None:
    assert pyspaces(*HEAD, "--user", "--", "sh", "-c", f"exit {code}").returncode == code


def test_a_signal_is_the_commands() -> None:
    done = subprocess.run([SCRIPT, *HEAD, "--user", "--", "sh", "-c", "kill -TERM $$"], check=False)
    assert done.returncode == -signal.SIGTERM


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (
            ["--user", "--", "/nonexistent"],
            127,
            "cannot execute the command: /nonexistent: No such",
        ),
        (["--user", "-w", "/nonexistent", "--", "true"], 125, "cannot change to the working dir"),
        (["--user", "--", "/"], 126, "cannot execute the command: /: Permission denied"),
    ],
)
def test_a_failure_is_told_as_ever(
    pyspaces: Launch, words: list[str], code: int, message: str
) -> None:
    done = pyspaces(*HEAD, *words)
    assert done.returncode == code
    assert done.stderr.startswith(f"pyspaces: {message}")


@pytest.mark.as_ordinary
def test_the_hint_is_that_of_the_host_outside(pyspaces: Launch) -> None:
    done = pyspaces(*HEAD, "--map-uid", "0,1,1", "--", "true")
    assert done.returncode == 125
    assert "cannot write the id maps: " in done.stderr
    own = "hint: without CAP_SETUID, a user can map only its own id"
    assert own in done.stderr or "hint: 0 1 1: not all of these outside ids" in done.stderr
    done = pyspaces(*HEAD, "--uts", "--", "true")
    assert "hint: without CAP_SYS_ADMIN, a new namespace (uts) needs a new user" in done.stderr


@pytest.mark.needs("pidns")
def test_what_needs_a_launcher_is_refused_with_the_reason(pyspaces: Launch) -> None:
    done = pyspaces(*HEAD, "--user", "--pid", "--timeout", "1", "--report", "--", "true")
    assert done.returncode == 2
    assert "process 1 is a child of the launcher" in done.stderr
    assert "somebody has to watch the clock" in done.stderr
    assert "no launcher is left to write it" in done.stderr
