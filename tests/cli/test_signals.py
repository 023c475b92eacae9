"""Signals to the launcher while the command runs, and Ctrl-C at a real terminal."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path
from random import Random

import pytest
from children import Child, program_of
from conftest import SCRIPT, again, processes_of, processes_with
from terminal import Screen

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.needs("userns", "pidns")
ENDING = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT]


@contextlib.contextmanager
def launched(*words: str) -> Iterator[Child[bytes]]:
    """Start a launch whose command says a line as soon as it runs."""
    with Child[bytes]([SCRIPT, "run", *words], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"up\n"
        yield process


def at_terminal(*words: str) -> contextlib.closing[Screen]:
    return contextlib.closing(Screen([*words]))


def is_executed(launcher: subprocess.Popen[bytes] | int, name: str) -> None:
    """Wait until the command of a launch, which says `up` as a shell, is another program."""
    pid = launcher if isinstance(launcher, int) else launcher.pid
    limit = time.monotonic() + 60
    while not any(program_of(child) == name for child in processes_of(pid)):
        assert time.monotonic() < limit
        time.sleep(0.002)


@pytest.mark.parametrize("number", ENDING)
@pytest.mark.parametrize("options", [["--user"], ["--user", "--pid"]])
def test_a_command_without_a_handler_ends_and_the_launcher_dies_of_it(
    number: signal.Signals, options: list[str]
) -> None:
    with launched(*options, "--", "sh", "-c", "echo up; exec sleep 100") as process:
        is_executed(process, "sleep")
        process.send_signal(number)
        assert process.wait(60) == -number


@pytest.mark.anyone
@pytest.mark.parametrize("number_of_try", again(1, 5))
@pytest.mark.parametrize("number", ENDING)
@pytest.mark.parametrize("options", [["--user"], ["--user", "--pid"]])
def test_a_command_with_a_handler_decides_itself(
    number: signal.Signals, options: list[str], number_of_try: int
) -> None:
    """Even when it handles the signal before the launcher has heard that exec succeeded."""
    script = f"trap 'exit 9' {number.value}; echo up; while :; do sleep 0.01; done"
    with launched(*options, "--", "sh", "-c", script) as process:
        process.send_signal(number)
        assert process.wait(60) == 9


def test_a_command_that_ignores_a_signal_goes_on() -> None:
    script = "trap '' TERM; echo up; sleep 0.5; exit 4"
    with launched("--user", "--pid", "--", "sh", "-c", script) as process:
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 4


def test_usr1_reaches_the_command() -> None:
    script = "trap 'exit 8' USR1; echo up; while :; do sleep 0.01; done"
    with launched("--user", "--pid", "--", "sh", "-c", script) as process:
        process.send_signal(signal.SIGUSR1)
        assert process.wait(60) == 8


@pytest.mark.anyone
@pytest.mark.parametrize("step", [6, pytest.param(1, marks=pytest.mark.stress)])
def test_a_signal_during_set_up_ends_the_launch(wait_until: Callable[..., None], step: int) -> None:
    """At moments from before the first line of ours to after exec: nothing is left."""
    token = f"987.{os.getpid():07}"
    for moment in range(0, 60, step):
        with Child[bytes]([SCRIPT, "run", "--all", "--", "sleep", token]) as process:
            time.sleep(moment * 0.002)
            process.terminate()
            assert process.wait(60) == -signal.SIGTERM
    wait_until(lambda: not processes_with(token), "every command gone")


@pytest.mark.anyone
@pytest.mark.parametrize("number_of_try", again(1, 5))
@pytest.mark.parametrize("options", [["--user"], ["--user", "--pid"]])
def test_ctrl_c_ends_a_command_at_a_terminal(options: list[str], number_of_try: int) -> None:
    """And the launcher dies of it, whichever of the two is seen first: the death or the signal."""
    with at_terminal(SCRIPT, "run", *options, "--", "sh", "-c", "echo up; exec sleep 100") as one:
        one.expect(b"up")
        is_executed(one.pid, "sleep")
        one.type(b"\x03")
        assert one.end() == -signal.SIGINT


@pytest.mark.anyone
@pytest.mark.parametrize("number_of_try", again(3, 40))
def test_ctrl_c_ends_a_shell_that_is_about_to_execute_a_program(number_of_try: int) -> None:
    """In the middle of execve(2), process 1 has the shell's handler, which will not run."""
    words = ["sh", "-c", "echo up; exec sleep 1000"]
    with at_terminal(SCRIPT, "run", "--user", "--pid", "--", *words) as one:
        one.expect(b"up")
        time.sleep(number_of_try % 20 / 10000)
        one.type(b"\x03")
        assert one.end() == -signal.SIGINT


def test_a_loop_ends_at_one_ctrl_c() -> None:
    loop = f"while :; do {SCRIPT} run --user --pid -- sh -c 'echo up; exec sleep 1000'; done"
    with at_terminal("/bin/bash", "-c", loop) as one:
        one.expect(b"up")
        (launcher,) = processes_of(one.pid)
        is_executed(launcher, "sleep")
        one.type(b"\x03")
        assert one.end() == -signal.SIGINT


def test_ctrl_c_is_not_doubled_for_a_command_that_handles_it() -> None:
    """The terminal signals the whole group; a launcher that passed it on would double it."""
    count = "n=0; trap 'n=$((n+1))' INT; echo up; while [ $n = 0 ]; do sleep 0.01; done"
    script = f"{count}; sleep 0.3; exit $n"
    with at_terminal(SCRIPT, "run", "--user", "--pid", "--", "sh", "-c", script) as one:
        one.expect(b"up")
        one.type(b"\x03")
        assert one.end() == 1


def test_without_a_command_a_terminal_gets_the_users_shell(tmp_path: Path) -> None:
    shell = tmp_path / "shell"
    shell.write_text("#!/bin/sh\necho my shell, pid $$\n")
    shell.chmod(0o755)
    with at_terminal("/usr/bin/env", f"SHELL={shell}", SCRIPT, "run", "--user", "--pid") as one:
        one.expect(b"my shell, pid 1\r\n")
        assert one.end() == 0


def test_a_shell_that_handles_ctrl_c_goes_on() -> None:
    # No wait in read: dash can lose a signal that comes just before its read(2).
    script = "n=0; trap 'n=1' INT; echo ready; while [ $n = 0 ]; do sleep 0.01; done"
    script = f"{script}; echo caught; read code; exit $code"
    with at_terminal(SCRIPT, "run", "--user", "--pid", "--", "sh", "-c", script) as one:
        one.expect(b"ready")
        one.type(b"\x03")
        one.expect(b"caught")
        one.type(b"5\n")
        assert one.end() == 5


@pytest.mark.parametrize("options", [["--user"], ["--user", "--pid"]])
def test_ctrl_backslash_ends_a_command_at_a_terminal(options: list[str]) -> None:
    with at_terminal(SCRIPT, "run", *options, "--", "sh", "-c", "echo up; exec sleep 100") as one:
        one.expect(b"up\r\n")
        one.type(b"\x1c")
        assert one.end() == -signal.SIGQUIT


@pytest.mark.anyone
@pytest.mark.parametrize("batches", [3, pytest.param(25, marks=pytest.mark.stress)])
def test_launches_are_ended_at_any_moment(wait_until: Callable[..., None], batches: int) -> None:
    """TERM between 0 and 50 ms after the start: the launcher ends by that signal, and nothing is
    left."""
    random = Random(4)
    token = f"765.{os.getpid():07}"
    for _ in range(batches):
        with contextlib.ExitStack() as stack:
            batch: list[Child[bytes]] = [
                stack.enter_context(Child([SCRIPT, "run", "--user", "--pid", "--", "sleep", token]))
                for _ in range(8)
            ]
            begun = time.monotonic()
            for moment, process in sorted(
                ((random.uniform(0, 0.05), process) for process in batch), key=lambda row: row[0]
            ):
                time.sleep(max(0, begun + moment - time.monotonic()))
                process.terminate()
            for process in batch:
                assert process.wait(60) == -signal.SIGTERM
    wait_until(lambda: not processes_with(token), "every command gone")


def test_a_signal_that_process_1_blocks_at_its_start_ends_it_all_the_same() -> None:
    """As Python does while it starts a program: dropped when unblocked, and asked for again."""
    script = (
        "import signal, sys, time; signal.signal(2, signal.SIG_DFL);"
        "signal.pthread_sigmask(signal.SIG_BLOCK, [15]); print('up', flush=True); time.sleep(0.2);"
        "signal.pthread_sigmask(signal.SIG_UNBLOCK, [15]); time.sleep(100)"
    )
    with launched("--user", "--pid", "--", sys.executable, "-IS", "-c", script) as process:
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == -signal.SIGTERM


def test_subprocess_with_a_timeout_leaves_nothing(wait_until: Callable[..., None]) -> None:
    token = f"876.{os.getpid():07}"
    with pytest.raises(subprocess.TimeoutExpired):
        subprocess.run(
            [SCRIPT, "run", "--user", "--pid", "--", "sleep", token], timeout=0.3, check=False
        )
    wait_until(lambda: not processes_with(token), "the command gone")


def test_a_killed_launcher_takes_everything_with_it_at_once(
    wait_until: Callable[..., None],
) -> None:
    token = uuid.uuid4().hex
    script = f": {token}; setsid sh -c ': {token}; sleep 100; :' & echo up; wait; :"
    with launched("--user", "--pid", "--", "sh", "-c", script) as process:
        wait_until(lambda: len(processes_with(token)) >= 3, "all of them run")
        process.kill()
        wait_until(lambda: not processes_with(token), "everything gone")


def test_kill_child_sends_another_signal() -> None:
    script = "trap 'echo term; exit' TERM; echo up; while :; do sleep 0.01; done"
    with launched("--user", "--kill-child", "TERM", "--", "sh", "-c", script) as process:
        process.kill()
        assert process.stdout is not None
        assert process.stdout.readline() == b"term\n"


def test_no_kill_child_lets_the_command_live() -> None:
    with launched(
        "--user", "--no-kill-child", "--", "sh", "-c", "echo up; exec sleep 50"
    ) as process:
        assert process.stdout is not None
        (command,) = processes_of(process.pid)
        process.kill()
        process.wait()
        assert Path(f"/proc/{command}").exists()
        os.kill(command, signal.SIGKILL)


@pytest.mark.parametrize(
    ("words", "fault"),
    [
        (["--kill-child", "NOPE"], "kill-child: 'NOPE' is not a signal: use a name such as TERM"),
        (["--kill-child", "999"], "kill-child: '999' is not a signal"),
        (
            ["--kill-child", "TERM", "--no-kill-child"],
            "kill-child: cannot be combined with --no-kill-child",
        ),
    ],
)
def test_bad_signals_are_wrong_usage(
    pyspaces: Callable[..., subprocess.CompletedProcess[str]], words: list[str], fault: str
) -> None:
    done = pyspaces("run", *words, "--", "true")
    assert (done.returncode, done.stdout) == (2, "")
    assert fault in done.stderr


# A program that waits for its child whatever comes, as bash and make do.
WAITS = """
import signal, subprocess
for number in signal.SIGINT, signal.SIGQUIT:
    signal.signal(number, lambda *_: print("parent", flush=True))
script = "trap 'echo child; exit 3' INT QUIT; echo up; while :; do sleep 0.01; done"
raise SystemExit(subprocess.call(["sh", "-c", script]) + 4)
"""
LEGS = pytest.mark.parametrize("legs", [["--user"], ["--user", "--pid"], ["--user", "--init"]])


@LEGS
@pytest.mark.parametrize("key", [b"\x03", b"\x1c"], ids=["ctrl-c", "ctrl-backslash"])
def test_a_key_reaches_the_whole_group_in_a_new_session(legs: list[str], key: bytes) -> None:
    """A shell that has got SIGINT alone goes on waiting for its child."""
    words = (SCRIPT, "run", *legs, "--new-session", "--", sys.executable, "-ISc", WAITS)
    with at_terminal(*words) as screen:
        screen.expect(b"up\r\n")
        screen.type(key)
        screen.expect(b"child\r\n")
        assert screen.end() == 7


@LEGS
def test_so_does_what_a_process_sends_in_place_of_the_terminal(legs: list[str]) -> None:
    with launched(*legs, "--new-session", "--", sys.executable, "-ISc", WAITS) as process:
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 7
        assert process.stdout is not None
        assert sorted(process.stdout) == [b"child\n", b"parent\n"]
