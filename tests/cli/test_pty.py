"""--pty and --new-session, at a real terminal and without one."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path

import pytest
from children import names_below, state_of
from conftest import SCRIPT, outcome, processes_of, processes_with
from terminal import Screen

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    Launch = Callable[..., subprocess.CompletedProcess[str]]

pytestmark = pytest.mark.needs("userns", "pidns")
PTY = [SCRIPT, "run", "--user", "--pid", "--pty", "--"]
LEGS = pytest.mark.parametrize("legs", [["--user"], ["--user", "--pid"], ["--user", "--init"]])


@contextlib.contextmanager
def screen(*words: str) -> Iterator[Screen]:
    """A program at a terminal of 31 rows and 97 columns, through a shell that sets these."""
    one = Screen(["/bin/sh", "-c", 'stty rows 31 cols 97; tty; exec "$@"', "sh", *words])
    try:
        one.device = one.expect(b"\r\n").decode()
        yield one
    finally:
        one.close()


def mode(one: Screen) -> list[Any]:
    return termios.tcgetattr(one.terminal)


def wait_for_raw(one: Screen, wait_until: Callable[..., None]) -> None:
    wait_until(lambda: not mode(one)[3] & termios.ICANON, "the terminal is raw")


@LEGS
def test_the_command_has_a_terminal_of_its_own(legs: list[str]) -> None:
    """Same size, another device; no descriptor leads to the caller's."""
    script = (
        "import os, json; devices = [os.fstat(n).st_rdev for n in range(40) if os.path.exists("
        "f'/proc/self/fd/{n}')]; print(json.dumps([os.getsid(0) == os.getpid(),"
        " os.tcgetpgrp(0) == os.getpgrp(), list(os.get_terminal_size()), devices,"
        " os.ctermid() and os.isatty(os.open('/dev/tty', os.O_RDWR))]))"
    )
    with screen(SCRIPT, "run", *legs, "-t", "--", sys.executable, "-IS", "-c", script) as one:
        *facts, devices, has_control = json.loads(one.expect(b"\r\n"))
        assert facts == [True, True, [97, 31]]
        assert has_control
        assert len(set(devices[:3])) == 1
        assert os.stat(one.device).st_rdev not in devices
        assert one.end() == 0


@pytest.mark.crossed(1)
@pytest.mark.parametrize(
    ("script", "code"),
    [("exit 3", 3), ("kill -9 $$", 137), ("stty raw -echo; exit 0", 0), ("kill -TERM $$", 143)],
)
@pytest.mark.parametrize("legs", [["--user"], ["--user", "--init"]])
def test_the_terminal_is_as_it_was(legs: list[str], script: str, code: int) -> None:
    command = " ".join([SCRIPT, "run", *legs, "-t", "--", "sh", "-c", f"'{script}'"])
    with screen("sh", "-c", f"stty -g; {command}; echo code=$?; stty -g") as one:
        before = one.expect(b"\r\n")
        one.expect(b"code=%d\r\n" % code)
        assert one.expect(b"\r\n") == before


def test_also_when_the_command_is_not_found() -> None:
    with screen("sh", "-c", f"stty -g; {' '.join(PTY)} /nonexistent; echo code=$?; stty -g") as one:
        before = one.expect(b"\r\n")
        assert b"cannot execute the command: /nonexistent" in one.expect(b"code=127\r\n")
        assert one.expect(b"\r\n") == before


def test_also_when_the_launcher_is_told_to_end(wait_until: Callable[..., None]) -> None:
    with screen("sh", "-c", 'read line; exec "$@"', "sh", *PTY, "sleep", "100") as one:
        before = mode(one)
        one.type(b"\n")
        wait_for_raw(one, wait_until)
        os.kill(one.pid, signal.SIGTERM)
        assert one.wait() == -signal.SIGTERM
        assert mode(one) == before


@LEGS
def test_a_new_window_size_arrives(legs: list[str]) -> None:
    script = "trap 'stty size; exit' WINCH; echo up; while :; do sleep 0.01; done"
    with screen(SCRIPT, "run", *legs, "-t", "--", "sh", "-c", script) as one:
        one.expect(b"up\r\n")
        fcntl.ioctl(one.terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))
        one.expect(b"40 120\r\n")
        assert one.end() == 0


@LEGS
def test_no_window_size_arrives_before_the_launcher_has_passed_it_on(
    legs: list[str], wait_until: Callable[..., None]
) -> None:
    """Process 1 of --init is in the caller's group, and is told of the caller's window as well."""
    script = "trap 'stty size; exit' WINCH; echo up; while :; do sleep 0.01; done"
    with screen(SCRIPT, "run", *legs, "-t", "--", "sh", "-c", script) as one:
        one.expect(b"up\r\n")
        os.kill(one.pid, signal.SIGSTOP)
        wait_until(lambda: state_of(one.pid) == "T", "the launcher stopped")
        fcntl.ioctl(one.terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))
        time.sleep(0.1)
        os.kill(one.pid, signal.SIGCONT)
        assert one.expect(b"40 120\r\n") == b""
        assert one.end() == 0


@LEGS
@pytest.mark.needs("bash")
def test_job_control_in_bash(legs: list[str]) -> None:
    bash = ["env", "PS1=inside> ", "TERM=dumb", "bash", "--norc", "--noprofile", "-i"]
    with screen(SCRIPT, "run", *legs, "--pty", "--", *bash) as one:
        greeting = one.expect(b"inside> ")
        assert b"job control" not in greeting
        assert b"terminal process group" not in greeting
        one.type(b"sh -c 'echo u''p; exec cat'\n")
        one.expect(b"\n")
        one.expect(b"up\r\n")
        one.type(b"\x1a")
        one.expect(b"Stopped")
        one.expect(b"inside> ")
        one.type(b"fg\n")
        one.expect(b"exec cat")
        one.expect(b"\n")
        one.type(b"hello\n")
        one.expect(b"hello\r\nhello\r\n")
        one.type(b"\x03")
        one.expect(b"inside> ")
        one.type(b"echo status=$?; exit 5\n")
        one.expect(b"status=130")
        assert one.end() == 5


def test_dash_as_process_1_ends_with_its_own_status() -> None:
    # An activated venv exports its PS1.
    with screen(*PTY[:-1], "--setenv", "PS1", "ready> ", "--", "sh") as one:
        one.expect(b"ready> ")
        one.type(b"exit 4\n")
        assert one.end() == 4


def test_ctrl_c_and_ctrl_backslash_are_for_the_inside(wait_until: Callable[..., None]) -> None:
    script = (
        "trap 'echo int' INT; trap 'echo quit; exit 6' QUIT; echo up; while :; do sleep 0.01; done"
    )
    with screen(*PTY, "sh", "-c", script) as one:
        one.expect(b"up\r\n")
        wait_for_raw(one, wait_until)
        one.type(b"\x03")
        one.expect(b"int\r\n")
        one.type(b"\x1c")
        one.expect(b"quit\r\n")
        assert one.end() == 6


@pytest.mark.anyone
@pytest.mark.crossed(1)
@pytest.mark.parametrize(("key", "code"), [(b"\x03", 130), (b"\x1c", 131), (b"\x18", 130)])
@pytest.mark.parametrize("modes", ["stty intr ^C", "stty noflsh", "stty raw isig", "stty istrip"])
@LEGS
def test_keys_end_a_command_without_a_handler(
    legs: list[str], modes: str, key: bytes, code: int, wait_until: Callable[..., None]
) -> None:
    """Process 1 drops what the inner terminal sends; the launcher mends that, as without --pty."""
    set_up = f"{modes}; stty intr ^X" if key == b"\x18" else modes
    with screen(
        SCRIPT, "run", *legs, "-t", "--", "sh", "-c", f"{set_up}; echo up; exec cat"
    ) as one:
        one.expect(b"up")
        wait_until(lambda: "cat" in names_below(one.pid), "the command is executed")
        one.type(bytes([key[0] | 0x80]) if modes == "stty istrip" else key)
        assert one.end() == code


@LEGS
def test_keys_that_make_no_signal_end_nothing(legs: list[str]) -> None:
    """Quoted, or where the terminal makes no signals; and then again where it does."""
    script = "stty -echo; echo up; head -n 1; stty -isig; echo off; head -n 1; stty isig; exec cat"
    with screen(SCRIPT, "run", *legs, "-t", "--", "sh", "-c", script) as one:
        one.expect(b"up\r\n")
        one.type(b"a\x16\x03b\x16\x16\x16\x1c\n")
        one.expect(b"a\x03b\x16\x1c\r\n")
        one.expect(b"off\r\n")
        one.type(b"c\x03d\x1c\n")
        one.expect(b"c\x03d\x1c\r\n")
        one.type(b"e\n")
        one.expect(b"e\r\n")
        one.type(b"\x16")
        time.sleep(0.05)
        one.type(b"\x03\n")
        one.expect(b"\x03\r\n")
        one.type(b"\x16\x16\x03")
        assert one.end() == 130


FOREGROUND = """
import os, signal, sys, time
signal.signal(signal.SIGINT, signal.SIG_DFL)
signal.signal(signal.SIGTTOU, signal.SIG_IGN)
pid = os.fork()
if pid == 0:
    os.setpgid(0, 0)
    os.tcsetpgrp(0, os.getpid())
    signal.signal(signal.SIGINT, lambda *_: (time.sleep(0.2), os._exit(7)))
    print("up", flush=True)
    while True:  # Python runs a handler late that comes right before it begins to sleep
        time.sleep(0.01)
code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
time.sleep(0.2)
sys.exit(code)
"""


@LEGS
def test_ctrl_c_for_a_job_in_the_foreground_is_not_for_process_1(legs: list[str]) -> None:
    """A shell with job control has put another group there, and gets no signal itself."""
    words = [SCRIPT, "run", *legs, "-t", "--", sys.executable, "-IS", "-c", FOREGROUND]
    with screen(*words) as one:
        one.expect(b"up\r\n")
        one.type(b"\x03")
        assert one.end() == 7


@pytest.mark.parametrize("times", [1, pytest.param(50, marks=pytest.mark.stress)])
def test_an_end_of_input_that_nobody_waits_for_is_not_typed(pyspaces: Launch, times: int) -> None:
    """Kept by the terminal, it would be a NUL for a program that leaves canonical mode."""
    for _ in range(times):
        done = pyspaces(*PTY[1:], *PTY, "stty", "-g")
        assert done.returncode == 0
        assert done.stdout.strip("0123456789abcdef:\r\n") == ""
    raw = "sleep 0.8; stty raw -echo min 0 time 2; sleep 0.1; od -An -c"
    done = pyspaces(*PTY[1:], "sh", "-c", raw)
    assert done.returncode == 0
    assert "\\0" not in done.stdout


def test_nested_terminals_end_with_their_input(pyspaces: Launch) -> None:
    done = pyspaces(*PTY[1:], *PTY, "cat", input="some\n")
    assert done.returncode == 0
    assert done.stdout.endswith("some\n")


POLLS = "import select, sys; select.select([0], [], []); print(repr(sys.stdin.read()), 'read')"


def test_who_polls_for_input_hears_of_its_end(pyspaces: Launch) -> None:
    done = pyspaces(*PTY[1:], sys.executable, "-IS", "-c", POLLS)
    assert done.returncode == 0
    assert done.stdout.endswith("'' read\n")


@pytest.mark.needs("bash")
def test_the_launcher_can_be_stopped_and_continued(wait_until: Callable[..., None]) -> None:
    """By kill: the terminal is the shell's meanwhile, and raw again after fg."""
    shell = Screen(
        ["/usr/bin/env", "PS1=out> ", "TERM=dumb", "bash", "--norc", "--noprofile", "-i"]
    )
    try:
        shell.expect(b"out> ")
        shell.type(f"{' '.join(PTY)} sh -c 'echo up {os.getpid()}; exec cat'\n".encode())
        shell.expect(b"\n")
        shell.expect(b"up")
        wait_for_raw(shell, wait_until)
        (launcher,) = processes_of(shell.pid)
        os.kill(launcher, signal.SIGTSTP)
        shell.expect(b"Stopped")
        shell.expect(b"out> ")
        shell.type(b"fg\n")
        shell.expect(b"exec cat")
        shell.expect(b"\n")
        wait_for_raw(shell, wait_until)
        shell.type(b"hello\n")
        shell.expect(b"hello\r\nhello\r\n")
        shell.type(b"\x04")
        shell.expect(b"out> ")
    finally:
        shell.close()


@pytest.mark.crossed(1)
@LEGS
@pytest.mark.parametrize(
    ("text", "script", "output"),
    [
        ("one\ntwo\n", "stty -echo; cat; echo end", "one\r\ntwo\r\nend\r\n"),
        ("half", "stty -echo; cat; echo end", "halfend\r\n"),
        ("", "stty -echo; cat; cat; echo end", "end\r\n"),
        ("x\n" * 2000, "stty -echo; wc -l", "2000\r\n"),
    ],
)
def test_standard_input_may_be_a_pipe(
    pyspaces: Launch, legs: list[str], text: str, script: str, output: str
) -> None:
    done = subprocess.run(
        [SCRIPT, "run", *legs, "-t", "--", "sh", "-c", script],
        input=text.encode(),
        capture_output=True,
        timeout=60,
        check=False,
    )
    # What was typed before stty ran has been shown by the terminal itself.
    shown = done.stdout.decode()
    assert done.returncode == 0
    assert shown.endswith(output), shown[-200:]


@pytest.mark.needs("bash")
def test_a_script_for_an_interactive_shell_ends_with_its_input(pyspaces: Launch) -> None:
    done = pyspaces(
        *("run", "--user", "--pid", "-t", "--", "bash", "--norc", "-i"), input="echo a$((40+2))b\n"
    )
    assert done.returncode == 0
    assert "a42b" in done.stdout


@LEGS
def test_all_output_arrives(pyspaces: Launch, legs: list[str]) -> None:
    done = pyspaces("run", *legs, "-t", "--", "seq", "100000")
    assert done.returncode == 0
    assert done.stdout.split() == [str(n) for n in range(1, 100001)]


def test_output_that_nobody_reads_hangs_up() -> None:
    token = f"y{os.getpid():07}"
    done = outcome(
        f"{' '.join(PTY)} yes {token} | head -1; echo ${{PIPESTATUS[0]}}",
        shell=True,
        executable="/bin/bash",
        timeout=60,
    )
    assert done.stdout.split() == [token, "129"]
    assert processes_with(token) == []


def test_standard_streams_that_are_closed_do_no_harm() -> None:
    done = subprocess.run(
        f"{' '.join(PTY)} sh -c 'tty >/dev/null; exit 3' <&- >&-",
        shell=True,
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 3


@LEGS
def test_new_session_takes_the_terminal_away(legs: list[str]) -> None:
    script = (
        "(: < /dev/tty) 2>/dev/null && echo has || echo none; ps -o sid= -p $$ | tr -d ' '; echo $$"
    )
    with screen(SCRIPT, "run", *legs, "--new-session", "--", "sh", "-c", script) as one:
        assert one.expect(b"\r\n") == b"none"
        if "--user" in legs and len(legs) == 1:
            assert one.expect(b"\r\n") == one.expect(b"\r\n")
        assert one.end() == 0


@LEGS
def test_ctrl_c_ends_a_command_in_a_new_session(legs: list[str]) -> None:
    """The terminal does not know it any more: the launcher passes on what it got itself."""
    with screen(SCRIPT, "run", *legs, "--new-session", "--", "cat") as one:
        one.type(b"up\n")
        one.expect(b"up\r\nup\r\n")
        one.type(b"\x03")
        assert one.end() == -signal.SIGINT


def test_a_second_terminal_cannot_be_had(pyspaces: Launch, tmp_path: Path) -> None:
    done = pyspaces("run", "--pty", "--new-session", "--", "touch", str(tmp_path / "ran"))
    assert done.returncode == 2
    assert "new-session: cannot be combined with --pty" in done.stderr


@pytest.mark.parametrize("closed", ["0<&-", "0<&- 1>&-", "0<&- 1>&- 2>&-", "2>&-"])
def test_standard_streams_may_be_closed(closed: str) -> None:
    words = " ".join(PTY)
    script = f"{words} sh -c 'test -t 0 && test -t 1 && test -t 2 && echo up; exit 4' {closed}"
    done = subprocess.run(["sh", "-c", script], timeout=60, check=False, capture_output=True)
    assert done.returncode == 4
