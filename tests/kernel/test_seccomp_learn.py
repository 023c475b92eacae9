"""A profile learnt from a command: it allows that command, and not what it has not called."""

from __future__ import annotations

import ctypes.util
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import SCRIPT, processes_with
from usage import assert_refused

TYPE_CHECKING = False
if TYPE_CHECKING:
    from conftest import Run

CALLS = str(Path(__file__).parents[1] / "security" / "calls.py")
pytestmark = pytest.mark.skipif(ctypes.util.find_library("seccomp") is None, reason="no libseccomp")
AROUND = pytest.mark.parametrize(
    "around",
    [
        [],
        pytest.param(["--user", "--pid"], marks=pytest.mark.needs("userns", "pidns")),
        pytest.param(["--user", "--init"], marks=pytest.mark.needs("userns", "pidns")),
        pytest.param(["--user", "--root", "/"], marks=pytest.mark.needs("userns")),
    ],
    ids=lambda words: "".join(words) or "plain",
)
WORK = ["sh", "-c", "ls / > /dev/null; cat /proc/self/comm"]


@AROUND
def test_what_was_called_is_allowed_and_nothing_else(
    pyspaces: Run, tmp_path: Path, around: list[str]
) -> None:
    profile = tmp_path / "profile.json"
    done = pyspaces("run", *around, "--seccomp-learn", str(profile), "--", *WORK)
    assert (done.returncode, done.stdout, done.stderr) == (0, "cat\n", "")
    data = json.loads(profile.read_text())
    (rule,) = data["syscalls"]
    names = set(rule["names"])
    assert {"execve", "read", "write", "exit_group"} <= names
    # Not those of our own child on its way, nor anything that was not called.
    assert not names & {"seccomp", "sendmsg", "mkdir", "mkdirat", "socket", "unshare"}
    done = pyspaces("run", *around, "--seccomp", str(profile), "--", *WORK)
    assert (done.returncode, done.stdout, done.stderr) == (0, "cat\n", "")
    done = pyspaces("run", *around, "--seccomp", str(profile), "--", "mkdir", "/tmp/x/y")
    assert done.returncode != 0
    assert "Function not implemented" in done.stderr


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="the numbers are those of x86_64")
def test_calls_of_another_architecture_are_in_it(pyspaces: Run, tmp_path: Path) -> None:
    profile = tmp_path / "profile.json"
    ask = [sys.executable, "-I", "-S", CALLS, "int80:39", "native:462", "native:63"]
    done = pyspaces("run", "--seccomp-learn", str(profile), "--", *ask)
    assert done.returncode == 0
    data = json.loads(profile.read_text())
    assert data["architectures"] == ["SCMP_ARCH_X86", "SCMP_ARCH_X86_64"]
    assert {"mkdir", "mseal", "uname"} <= set(data["syscalls"][0]["names"])


def test_the_status_and_the_output_are_those_of_the_command(pyspaces: Run, tmp_path: Path) -> None:
    profile = tmp_path / "profile.json"
    words = ["--seccomp-learn", str(profile), "--", "sh", "-c", "cat; echo e >&2; exit 7"]
    done = pyspaces("run", *words, input="in")
    assert (done.returncode, done.stdout, done.stderr) == (7, "in", "e\n")
    for seconds in ("0.3", "3", "30"):  # it may be over before the command has come to its sleep
        words = ["--seccomp-learn", str(profile), "--timeout", seconds, "--", "sleep", "1000"]
        assert pyspaces("run", *words).returncode == 124
        if "clock_nanosleep" in profile.read_text():
            break
    else:
        pytest.fail("the call that it ended in was not learnt")


def test_what_outlives_the_command_goes_on(
    pyspaces: Run, tmp_path: Path, wait_until: Callable[..., None]
) -> None:
    mark, go = tmp_path / "mark", tmp_path / "go"
    os.mkfifo(go)
    script = f"(read x < {go}; mkdir {mark}) > /dev/null 2>&1 & exit 0"
    profile = tmp_path / "profile.json"
    try:
        done = pyspaces("run", "--seccomp-learn", str(profile), "--", "sh", "-c", script)
        assert done.returncode == 0
        assert "mkdir" not in json.loads(profile.read_text())["syscalls"][0]["names"]
    finally:
        # Until it has been opened for reading, nobody can write to it.
        wait_until(lambda: wrote(go), "the process reads")
    wait_until(mark.exists, "the process goes on")
    wait_until(lambda: not processes_with(str(profile)), "nobody is left")


def wrote(fifo: Path) -> bool:
    """Write a line to a FIFO, if somebody reads from it."""
    try:
        writing = os.open(fifo, os.O_WRONLY | os.O_NONBLOCK)
    except OSError:
        return False
    os.write(writing, b"\n")
    os.close(writing)
    return True


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_a_launcher_that_is_ended_leaves_nobody(
    tmp_path: Path, wait_until: Callable[..., None], number: int
) -> None:
    token = str(tmp_path / "profile.json")
    words = [SCRIPT, "run", "--seccomp-learn", token, "--", "sh", "-c", "echo; exec sleep 60"]
    launcher = subprocess.Popen(words, stdout=subprocess.PIPE)
    assert launcher.stdout is not None
    with launcher.stdout as output:
        try:
            output.readline()
            launcher.send_signal(number)
            launcher.wait(60)
        finally:
            launcher.kill()
            launcher.wait()
    wait_until(lambda: not processes_with(token), "nobody is left")


def test_a_command_that_cannot_run(pyspaces: Run, tmp_path: Path) -> None:
    script = tmp_path / "script"
    script.write_text("#!/nonexistent\n")
    script.chmod(0o755)
    profile = tmp_path / "profile.json"
    for command, code in (("/nonexistent", 127), ("/etc/passwd", 126), (str(script), 127)):
        done = pyspaces("run", "--seccomp-learn", str(profile), "--", command)
        assert done.returncode == code
        assert "cannot execute the command" in done.stderr
        assert not profile.exists()


FAULTS = [
    (["--seccomp-learn", "/nonexistent/x"], "seccomp-learn: /nonexistent/x: No such file"),
    (["--seccomp-learn", "/tmp"], "seccomp-learn: /tmp: is not a regular file"),
    (["--seccomp-learn", ""], "seccomp-learn: a path cannot be empty"),
    (["--seccomp-learn", "x", "--seccomp", "default"], "nothing is refused while it learns"),
    (["--seccomp-learn", "x", "--no-terminal-injection"], "nothing is refused"),
    (["--seccomp-learn", "x", "--no-fork"], "no launcher is left to write it"),
]


def test_what_cannot_be_meant() -> None:
    assert_refused(FAULTS)
