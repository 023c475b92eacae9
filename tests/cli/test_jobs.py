"""Job control: Ctrl-Z and fg in a shell at a real terminal, stops and continues sent by kill."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from random import Random

import pytest
from children import Child, state_of
from conftest import SCRIPT, processes_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from terminal import Shell

pytestmark = pytest.mark.needs("userns", "pidns", "bash")
SPACES = pytest.mark.parametrize("options", [["--user"], ["--user", "--pid"]])
EVERY_PROCESS_1 = pytest.mark.parametrize(
    "options", [["--user"], ["--user", "--pid"], ["--user", "--pid", "--init"]]
)
TICK = """sh -c 'echo up; while read line; do echo "got $line"; done'"""


def is_ours(pid: int) -> bool:
    """Tell whether it is the process beside a launcher that sees what the terminal sends."""
    try:
        return Path(f"/proc/{pid}/comm").read_text() == "pyspaces-tty\n"
    except (FileNotFoundError, ProcessLookupError):
        return False


def run_in(shell: Shell, options: list[str], command: str) -> None:
    shell.type(f"{SCRIPT} run {' '.join(options)} -- {command}\n".encode())
    shell.expect(b"\n")
    shell.expect(b"up\r\n")


@SPACES
@pytest.mark.parametrize(
    ("command", "answer"),
    [("sh -c 'echo up; exec cat'", b"hello\r\nhello\r\n"), (TICK, b"got hello\r\n")],
)
def test_ctrl_z_stops_the_job_and_fg_continues_it(
    shell: Shell, options: list[str], command: str, answer: bytes
) -> None:
    run_in(shell, options, command)
    for _ in range(3):
        shell.stop_job()
        shell.continue_job()
        shell.type(b"hello\n")
        shell.expect(answer)
    shell.type(b"\x04")
    shell.tells_status(0)


@EVERY_PROCESS_1
def test_a_stopped_job_ends_at_kill(
    shell: Shell, options: list[str], wait_until: Callable[..., None]
) -> None:
    run_in(shell, options, "sh -c 'echo up; exec cat'")
    shell.stop_job()
    shell.type(b"kill %1\n")
    # Not fg, which would help: bash has sent SIGTERM and SIGCONT, and cat reads the terminal.
    # bash may let its zombie be until the next key, so that counts as gone.
    wait_until(
        lambda: all(state_of(pid) == "Z" for pid in processes_of(shell.pid)), "the launcher gone"
    )
    # Nor does it always look at the next key: a SIGCHLD that came while it told of the job was not
    # followed by a wait4(2) (bash 5.2, by strace). A child of its own makes it look.
    shell.type(b"/bin/true\n")
    shell.expect(b"Terminated")


@EVERY_PROCESS_1
def test_reading_in_the_background_stops_the_job(
    shell: Shell, options: list[str], wait_until: Callable[..., None]
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
    shell.tells_status(0)


def _below(parent: int) -> list[int]:
    found = [pid for pid in processes_of(parent) if not is_ours(pid)]
    return found + [pid for each in found for pid in _below(each)]


def test_a_terminal_that_was_opened_in_the_background_is_not_as_the_prompt_has_it(
    shell: Shell, wait_until: Callable[..., None]
) -> None:
    """While bash reads a line, it has echo off, and Ctrl-D is a character."""
    shell.type(f"{SCRIPT} run --user --pty -- cat &\n".encode())
    shell.expect(b"ready> ")

    def is_stopped() -> bool:
        return [state_of(pid) for pid in processes_of(shell.pid)] == ["T"]

    wait_until(is_stopped, "the launcher waits for the terminal")
    shell.continue_job()
    shell.type(b"hello\n")
    shell.expect(b"hello\r\nhello\r\n")
    shell.type(b"\x04")
    shell.tells_status(0)


@SPACES
def test_tstp_and_cont_by_kill_reach_the_command(
    options: list[str], wait_until: Callable[..., None]
) -> None:
    """In a group that has a shell (this process) to look after it."""
    with Child[bytes](
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
        assert launcher.wait(60) == 0


@SPACES
@pytest.mark.parametrize("number", [signal.SIGWINCH, signal.SIGCONT, signal.SIGUSR2])
def test_a_signal_by_kill_reaches_a_handler_once(
    number: signal.Signals, options: list[str]
) -> None:
    script = (
        f"n=0; trap 'n=$((n+1)); echo n=$n' {number.value}; trap 'exit $n' USR1;"
        " echo up; while :; do sleep 0.01; done"
    )
    with Child[bytes](
        [SCRIPT, "run", *options, "--", "sh", "-c", script], stdout=subprocess.PIPE
    ) as launcher:
        assert launcher.stdout is not None
        assert launcher.stdout.readline() == b"up\n"
        launcher.send_signal(number)
        assert launcher.stdout.readline() == b"n=1\n"
        launcher.send_signal(signal.SIGUSR1)
        assert launcher.wait(60) == 1


FORKS = "sh -c 'echo up; while :; do /bin/true; echo turn; done'"


@pytest.mark.anyone
@pytest.mark.parametrize("times", [10, pytest.param(100, marks=pytest.mark.stress)])
@pytest.mark.parametrize("options", [["--user", "--pid"], ["--user", "--init"]])
def test_a_shell_that_forks_all_the_time_stops_at_any_moment(
    shell: Shell, options: list[str], times: int
) -> None:
    """dash blocks signals around a fork, and process 1 drops those that came meanwhile."""
    random = Random(times)
    run_in(shell, options, FORKS)
    for _ in range(times):
        # It has the terminal and runs on: before, the key would not be for it.
        shell.expect(b"turn\r\n")
        time.sleep(random.uniform(0, 0.02))
        shell.stop_job()
        shell.continue_job()
    shell.expect(b"turn\r\n")
    shell.type(b"\x03")
    shell.tells_status(130)


BLOCKS = """
import signal, sys, time
signal.signal(signal.SIGINT, signal.SIG_DFL)
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTSTP])
print("up", flush=True)
for line in sys.stdin:
    print("got", line, end="", flush=True)
"""


@SPACES
def test_ctrl_z_gives_the_prompt_back_where_the_command_keeps_it_blocked(
    shell: Shell, options: list[str], tmp_path: Path
) -> None:
    """Process 1 would keep it for ever; any other command decides itself, as it always does."""
    script = tmp_path / "blocks.py"
    script.write_text(BLOCKS)
    run_in(shell, options, f"{sys.executable} -IS {script}")
    shell.type(b"\x1a")
    if "--pid" in options:
        shell.expect(b"Stopped")
        shell.expect(b"ready> ")
        shell.continue_job()
    shell.type(b"hello\n")
    shell.expect(b"got hello\r\n")
    shell.type(b"\x04")
    shell.expect(b"ready> ")


@EVERY_PROCESS_1
def test_a_stop_of_the_launcher_alone(
    shell: Shell, options: list[str], tmp_path: Path, wait_until: Callable[..., None]
) -> None:
    """SIGSTOP cannot be passed on: the launcher stops, the command goes on; fg continues it."""
    count = tmp_path / "count"
    count.touch()
    run_in(shell, options, f"sh -c 'echo up; while :; do echo >>{count}; sleep 0.01; done'")
    (launcher,) = processes_of(shell.pid)
    for _ in range(3):
        os.kill(launcher, signal.SIGSTOP)
        shell.expect(b"Stopped")
        shell.expect(b"ready> ")
        before = count.stat().st_size
        wait_until(lambda before=before: count.stat().st_size > before, "the command goes on")
        shell.type(b"fg\n")
        shell.expect(b"run --user")
        wait_until(lambda: state_of(launcher) == "S", "the launcher goes on")
    shell.stop_job()
    before = count.stat().st_size
    time.sleep(0.1)
    assert count.stat().st_size == before
    shell.type(b"fg\n")
    shell.expect(b"run --user")
    wait_until(lambda: count.stat().st_size > before, "the command goes on")
    shell.type(b"\x03")
    shell.tells_status(130)


# Starts a job in a group of its own, as a shell does.
JOB = "import subprocess as s, sys; s.run(sys.argv[1:], process_group=0, close_fds=False)"


@pytest.mark.parametrize("number", [signal.SIGCONT, signal.SIGKILL])
def test_a_stop_of_a_command_that_has_not_started(
    number: int, wait_until: Callable[..., None]
) -> None:
    """Whoever sends SIGSTOP to it continues or kills it, and does not know of the launcher."""
    reading, writing = os.pipe()
    words = [SCRIPT, "run", "--user", "--block-fd", str(reading), "--", "echo", "ran"]
    with (
        open(reading, "rb"),
        open(writing, "wb", buffering=0) as word,
        Child[bytes](
            [sys.executable, "-c", JOB, *words],
            pass_fds=[reading],
            start_new_session=True,  # without a terminal
            stdout=subprocess.PIPE,
        ) as shell,
    ):
        wait_until(lambda: processes_of(shell.pid), "the launcher")
        (launcher,) = processes_of(shell.pid)
        wait_until(lambda: processes_of(launcher), "the child")
        (child,) = processes_of(launcher)
        os.kill(child, signal.SIGSTOP)
        wait_until(lambda: state_of(child) == "T", "the child stopped")
        time.sleep(0.1)  # one that has stopped stays so
        wait_until(lambda: state_of(launcher) == "S", "the launcher waits")
        os.kill(child, number)
        if number == signal.SIGCONT:
            word.write(b"x")
        assert shell.communicate(timeout=60)[0] == (b"ran\n" if number == signal.SIGCONT else b"")


@EVERY_PROCESS_1
def test_what_happened_while_the_launcher_was_stopped(
    options: list[str], wait_until: Callable[..., None]
) -> None:
    """The end of the command, or a signal to the launcher: seen once it is continued."""
    for script, number, code in (("echo up; read line; exit 7", 0, 7), ("echo up; cat", 15, -15)):
        with Child[bytes](
            [SCRIPT, "run", *options, "--", "sh", "-c", script],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        ) as launcher:
            assert launcher.stdin is not None
            assert launcher.stdout is not None
            launcher.stdout.readline()
            launcher.send_signal(signal.SIGSTOP)
            wait_until(lambda pid=launcher.pid: state_of(pid) == "T", "the launcher stopped")
            if number:
                launcher.send_signal(number)
            else:
                launcher.stdin.write(b"x\n")
                launcher.stdin.flush()
                wait_until(lambda pid=launcher.pid: not _living(pid), "the command has ended")
            launcher.send_signal(signal.SIGCONT)
            assert launcher.wait(60) == code


BEGINNING = """
import signal, time
signal.signal(signal.SIGINT, signal.SIG_DFL)
while True:
    print(1, flush=True)
    time.sleep(0.02)
"""


@EVERY_PROCESS_1
def test_a_pipeline_stops_and_goes_on_as_a_whole(
    shell: Shell, options: list[str], tmp_path: Path, wait_until: Callable[..., None]
) -> None:
    """With pyspaces in its middle: at Ctrl-Z, fg and Ctrl-C."""
    beginning = tmp_path / "begin.py"
    beginning.write_text(BEGINNING)
    for _ in range(3):
        middle = f"{SCRIPT} run {' '.join(options)} -- sh -c 'while read n; do echo $n$n; done'"
        # Not shells that fork: bash survives Ctrl-C where its child has just ended by itself, and
        # dash cannot stop while a child of its vfork(2) has.
        begin = f"{sys.executable} -IS {beginning}"
        end = "sh -c 'while read n; do echo out$n; done'"
        shell.type(f"{begin} | {middle} | {end}\n".encode())
        shell.expect(b"\r\n")
        for _ in range(3):
            shell.expect(b"out11\r\n")
            shell.stop_job()
            wait_until(
                lambda: _all_stopped(shell.pid, "--init" in options), "the whole job stopped"
            )
            shell.type(b"fg\n")
            # What bash says then; one of the others may have written a line after the prompt.
            shell.expect(b"echo out$n")
            shell.expect(b"\n")
        shell.expect(b"out11\r\n")
        shell.type(b"\x03")
        shell.tells_status(130)
        wait_until(lambda: not _living(shell.pid), "the whole job gone")


def _living(pid: int) -> list[int]:
    return [each for each in _below(pid) if state_of(each) not in "ZX"]


def _all_stopped(pid: int, has_init: bool) -> bool:
    # Our own process 1 sleeps on.
    states = [state_of(each) for each in _living(pid)]
    return len(states) >= 4 and len(states) - states.count("T") == has_init


@pytest.mark.parametrize("proc", ["--mount-proc", "--no-mount-proc"])
@pytest.mark.parametrize("options", [["--user", "--pid"], ["--user", "--init"]])
def test_a_session_of_its_own_is_stopped_and_continued(
    options: list[str], proc: str, wait_until: Callable[..., None]
) -> None:
    """Its only group is orphaned: SIGTSTP would be dropped. Whatever /proc there is inside."""
    words = [SCRIPT, "run", *options, proc, "--new-session", "--", "sh", "-c", "echo up; exec cat"]
    with Child[bytes](
        words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, process_group=0
    ) as launcher:
        assert launcher.stdin is not None
        assert launcher.stdout is not None
        launcher.stdout.readline()
        launcher.send_signal(signal.SIGTSTP)
        wait_until(lambda: state_of(launcher.pid) == "T", "the launcher stopped")
        (command,) = _below(launcher.pid)[-1:]
        assert state_of(command) == "T"
        launcher.send_signal(signal.SIGCONT)
        launcher.stdin.write(b"on\n")
        launcher.stdin.flush()
        assert launcher.stdout.readline() == b"on\n"
        launcher.stdin.close()
        assert launcher.wait(60) == 0
