"""Job control: Ctrl-Z and fg in a shell at a real terminal, stops and continues sent by kill."""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path

import pytest
from conftest import SCRIPT, processes_of
from terminal import Screen

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.needs("userns", "pidns", "bash")
SPACES = pytest.mark.parametrize("options", [["--user"], ["--user", "--pid"]])
EVERY_PROCESS_1 = pytest.mark.parametrize(
    "options", [["--user"], ["--user", "--pid"], ["--user", "--pid", "--init"]]
)
TICK = """sh -c 'echo up; while read line; do echo "got $line"; done'"""


def state_of(pid: int) -> str:
    """Return the letter of its state; that of a zombie for one that is gone altogether."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return "Z"


@pytest.fixture
def shell() -> Iterator[Screen]:
    """An interactive bash at a terminal."""
    bash = Screen(
        ["/usr/bin/env", "PS1=ready> ", "TERM=dumb", "bash", "--norc", "--noprofile", "-i"]
    )
    try:
        bash.expect(b"ready> ")
        yield bash
    finally:
        bash.close()


def run_in(shell: Screen, options: list[str], command: str) -> None:
    shell.type(f"{SCRIPT} run {' '.join(options)} -- {command}\n".encode())
    shell.expect(b"\n")
    shell.expect(b"up\r\n")


@SPACES
@pytest.mark.parametrize(
    ("command", "answer"),
    [("sh -c 'echo up; exec cat'", b"hello\r\nhello\r\n"), (TICK, b"got hello\r\n")],
)
def test_ctrl_z_stops_the_job_and_fg_continues_it(
    shell: Screen, options: list[str], command: str, answer: bytes
) -> None:
    run_in(shell, options, command)
    for _ in range(3):
        shell.type(b"\x1a")
        shell.expect(b"Stopped")
        shell.expect(b"ready> ")
        shell.type(b"fg\n")
        shell.expect(b"run --user")
        shell.expect(b"\n")
        shell.type(b"hello\n")
        shell.expect(answer)
    shell.type(b"\x04")
    shell.expect(b"ready> ")
    shell.type(b"echo status=$?\n")
    shell.expect(b"status=0")


@EVERY_PROCESS_1
def test_a_stopped_job_ends_at_kill(
    shell: Screen, options: list[str], wait_until: Callable[..., None]
) -> None:
    run_in(shell, options, "sh -c 'echo up; exec cat'")
    shell.type(b"\x1a")
    shell.expect(b"Stopped")
    shell.expect(b"ready> ")
    shell.type(b"kill %1\n")
    # Not fg, which would help: bash has sent SIGTERM and SIGCONT, and cat reads the terminal.
    # bash may let its zombie be until the next key, so that counts as gone.
    wait_until(
        lambda: all(state_of(pid) == "Z" for pid in processes_of(shell.pid)), "the launcher gone"
    )
    shell.type(b"\n")
    shell.expect(b"Terminated")


@EVERY_PROCESS_1
def test_reading_in_the_background_stops_the_job(
    shell: Screen, options: list[str], wait_until: Callable[..., None]
) -> None:
    shell.type(f"{SCRIPT} run {' '.join(options)} -- cat &\n".encode())
    shell.expect(b"ready> ")

    def everybody() -> list[int]:
        found = processes_of(shell.pid)
        return found + [pid for parent in found for pid in _below(parent)]

    def has_stopped() -> bool:
        # Our own process 1 sleeps on.
        return [state_of(pid) for pid in everybody()].count("T") == 2

    wait_until(has_stopped, "launcher and command stopped")
    shell.type(b"fg\n")
    shell.expect(b"-- cat\r\n")
    shell.type(b"hello\n")
    shell.expect(b"hello\r\nhello\r\n")
    shell.type(b"\x04")
    shell.expect(b"ready> ")
    shell.type(b"echo status=$?\n")
    shell.expect(b"status=0")


def _below(parent: int) -> list[int]:
    found = processes_of(parent)
    return found + [pid for each in found for pid in _below(each)]


@SPACES
def test_tstp_and_cont_by_kill_reach_the_command(
    options: list[str], wait_until: Callable[..., None]
) -> None:
    """In a group that has a shell (this process) to look after it."""
    with subprocess.Popen(
        [SCRIPT, "run", *options, "--", "sh", "-c", "echo $PPID; exec cat"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        process_group=0,
    ) as launcher:
        assert launcher.stdin is not None
        assert launcher.stdout is not None
        launcher.stdout.readline()
        launcher.send_signal(signal.SIGTSTP)
        wait_until(lambda: state_of(launcher.pid) == "T", "the launcher stopped")
        launcher.send_signal(signal.SIGCONT)
        wait_until(lambda: state_of(launcher.pid) != "T", "the launcher goes on")
        launcher.stdin.write(b"on\n")
        launcher.stdin.flush()
        assert launcher.stdout.readline() == b"on\n"
        launcher.stdin.close()
        assert launcher.wait(5) == 0


@SPACES
@pytest.mark.parametrize("number", [signal.SIGWINCH, signal.SIGCONT, signal.SIGUSR2])
def test_a_signal_by_kill_reaches_a_handler_once(
    number: signal.Signals, options: list[str]
) -> None:
    script = (
        f"n=0; trap 'n=$((n+1)); echo n=$n' {number.value}; trap 'exit $n' USR1;"
        " echo up; while :; do sleep 0.01; done"
    )
    with subprocess.Popen(
        [SCRIPT, "run", *options, "--", "sh", "-c", script], stdout=subprocess.PIPE
    ) as launcher:
        assert launcher.stdout is not None
        assert launcher.stdout.readline() == b"up\n"
        launcher.send_signal(number)
        assert launcher.stdout.readline() == b"n=1\n"
        launcher.send_signal(signal.SIGUSR1)
        assert launcher.wait(5) == 1
