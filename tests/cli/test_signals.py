"""Signals to the launcher while the command runs, and Ctrl-C at a real terminal."""

from __future__ import annotations

import contextlib
import os
import pty
import select
import signal
import subprocess
import time
from pathlib import Path

import pytest
from conftest import SCRIPT, processes_with

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.needs("userns", "pidns")
ENDING = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT]


@contextlib.contextmanager
def launched(*words: str) -> Iterator[subprocess.Popen[bytes]]:
    """Start a launch whose command says a line as soon as it runs."""
    with subprocess.Popen([SCRIPT, "run", *words], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        try:
            assert process.stdout.readline() == b"up\n"
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize("number", ENDING)
@pytest.mark.parametrize("options", [["--user"], ["--user", "--pid"]])
def test_a_command_without_a_handler_ends_and_the_launcher_dies_of_it(
    number: signal.Signals, options: list[str]
) -> None:
    with launched(*options, "--", "sh", "-c", "echo up; exec sleep 100") as process:
        # A moment for the exec: before it, pid 1 is sh.
        time.sleep(0.05)
        process.send_signal(number)
        assert process.wait(5) == -number


@pytest.mark.parametrize("again", range(10))
@pytest.mark.parametrize("number", ENDING)
@pytest.mark.parametrize("options", [["--user"], ["--user", "--pid"]])
def test_a_command_with_a_handler_decides_itself(
    number: signal.Signals, options: list[str], again: int
) -> None:
    """Even when it handles the signal before the launcher has heard that exec succeeded."""
    script = f"trap 'exit 9' {number.value}; echo up; while :; do sleep 0.01; done"
    with launched(*options, "--", "sh", "-c", script) as process:
        process.send_signal(number)
        assert process.wait(5) == 9


def test_a_command_that_ignores_a_signal_goes_on() -> None:
    script = "trap '' TERM; echo up; sleep 0.5; exit 4"
    with launched("--user", "--pid", "--", "sh", "-c", script) as process:
        process.send_signal(signal.SIGTERM)
        assert process.wait(5) == 4


def test_usr1_reaches_the_command() -> None:
    script = "trap 'exit 8' USR1; echo up; while :; do sleep 0.01; done"
    with launched("--user", "--pid", "--", "sh", "-c", script) as process:
        process.send_signal(signal.SIGUSR1)
        assert process.wait(5) == 8


def test_a_signal_during_set_up_ends_the_launch(wait_until: Callable[..., None]) -> None:
    """At moments from before the first line of ours to after exec: nothing is left."""
    token = f"987.{os.getpid()}"
    for moment in range(60):
        process = subprocess.Popen([SCRIPT, "run", "--all", "--", "sleep", token])
        time.sleep(moment * 0.002)
        process.terminate()
        assert process.wait(5) == -signal.SIGTERM
    wait_until(lambda: not processes_with(token), "every command gone", seconds=2)


def at_terminal(words: list[str]) -> tuple[int, int]:
    pid, terminal = pty.fork()
    if pid == 0:
        os.execv(words[0], words)
    return pid, terminal


def read_until(terminal: int, text: bytes) -> bytes:
    seen = b""
    while text not in seen:
        assert select.select([terminal], [], [], 20)[0], f"{text!r} did not come after {seen!r}"
        seen += os.read(terminal, 1000)
    return seen


@pytest.mark.parametrize("again", range(10))
@pytest.mark.parametrize("options", [["--user"], ["--user", "--pid"]])
def test_ctrl_c_ends_a_command_at_a_terminal(options: list[str], again: int) -> None:
    """And the launcher dies of it, whichever of the two is seen first: the death or the signal."""
    pid, terminal = at_terminal(
        [SCRIPT, "run", *options, "--", "sh", "-c", "echo up; exec sleep 100"]
    )
    try:
        read_until(terminal, b"up")
        time.sleep(0.02)
        os.write(terminal, b"\x03")
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGINT
    finally:
        os.close(terminal)


def test_a_loop_ends_at_one_ctrl_c() -> None:
    loop = f"while :; do {SCRIPT} run --user --pid -- sh -c 'echo up; exec sleep 1'; done"
    pid, terminal = at_terminal(["/bin/bash", "-c", loop])
    try:
        read_until(terminal, b"up")
        time.sleep(0.05)
        os.write(terminal, b"\x03")
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGINT
    finally:
        os.close(terminal)


def test_ctrl_c_is_not_doubled_for_a_command_that_handles_it() -> None:
    """The terminal signals the whole group; a launcher that passed it on would double it."""
    count = "n=0; trap 'n=$((n+1))' INT; echo up; while [ $n = 0 ]; do sleep 0.01; done"
    script = f"{count}; sleep 0.3; exit $n"
    pid, terminal = at_terminal([SCRIPT, "run", "--user", "--pid", "--", "sh", "-c", script])
    try:
        read_until(terminal, b"up")
        os.write(terminal, b"\x03")
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 1
    finally:
        os.close(terminal)


def test_without_a_command_a_terminal_gets_the_users_shell(tmp_path: Path) -> None:
    shell = tmp_path / "shell"
    shell.write_text("#!/bin/sh\necho my shell, pid $$\n")
    shell.chmod(0o755)
    pid, terminal = at_terminal(
        ["/usr/bin/env", f"SHELL={shell}", SCRIPT, "run", "--user", "--pid"]
    )
    try:
        assert b"my shell, pid 1" in read_until(terminal, b"pid 1")
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    finally:
        os.close(terminal)


def test_a_shell_that_handles_ctrl_c_goes_on() -> None:
    script = "trap 'echo caught' INT; echo ready; until read code; do :; done; exit $code"
    pid, terminal = at_terminal([SCRIPT, "run", "--user", "--pid", "--", "sh", "-c", script])
    try:
        read_until(terminal, b"ready")
        os.write(terminal, b"\x03")
        read_until(terminal, b"caught")
        os.write(terminal, b"5\n")
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 5
    finally:
        os.close(terminal)
