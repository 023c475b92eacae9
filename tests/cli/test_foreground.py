"""Who has the terminal, where the command has a process group of its own."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sys
import time
from pathlib import Path

import pytest
from children import names_below
from conftest import SCRIPT, again, processes_of
from terminal import Screen

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from terminal import Shell

pytestmark = pytest.mark.needs("userns", "pidns", "bash")
SPACES = pytest.mark.parametrize("options", ["--user --pid", "--user --init"])


def run(options: str, command: str) -> str:
    return f"{SCRIPT} run {options} -- {command}"


def need(program: str) -> None:
    if shutil.which(program) is None:
        pytest.skip(f"this host lacks: {program}")


@pytest.mark.anyone
@pytest.mark.crossed(1)
@SPACES
@pytest.mark.parametrize("interpreter", ["bash", "dash", "zsh"])
@pytest.mark.parametrize("reads", ["sleep 5", "cat"])
def test_a_loop_in_a_script_ends_at_one_ctrl_c(
    shell: Shell, options: str, interpreter: str, reads: str, wait_until: Callable[..., None]
) -> None:
    """Whether the command has the terminal, since it reads it, or not."""
    need(interpreter)
    inner = run(options, f'sh -c "echo up; exec {reads}"')
    shell.type(f"{interpreter} -c 'for i in 1 2 3; do {inner}; done; echo la''te'\n".encode())
    shell.expect(b"up\r\n")
    # It forgets what dash has caught for itself.
    wait_until(
        lambda: reads.split(maxsplit=1)[0] in names_below(shell.pid), "the command is executed"
    )
    shell.type(b"\x03")
    shown = shell.expect(b"ready> ")
    assert b"up" not in shown
    assert b"late" not in shown


@SPACES
@pytest.mark.needs("make")
def test_make_ends_at_ctrl_c(shell: Shell, options: str, tmp_path: Path) -> None:
    makefile = tmp_path / "Makefile"
    command = run(options, "sh -c 'echo up; exec sleep 5'")
    makefile.write_text(f"all: one two\none:\n\t@{command}\ntwo:\n\t@echo second\n")
    shell.type(f"make -f {makefile}\n".encode())
    shell.expect(b"up\r\n")
    shell.type(b"\x03")
    shown = shell.expect(b"ready> ")
    assert b"second" not in shown
    # A race of make's own: its handler waits for a child that it was about to count as reaped (GNU
    # make 4.3 with `sleep` alone and no launcher: 22 of 800 Ctrl-C on a busy machine).
    assert b"nterrupt" in shown or b"*** wait: No child processes" in shown


@pytest.mark.anyone
@SPACES
@pytest.mark.parametrize("number_of_try", again(1, 10))
@pytest.mark.needs("less")
def test_a_pager_behind_the_command_has_the_terminal(
    shell: Shell, options: str, number_of_try: int
) -> None:
    """Even where the command has asked for it before."""
    for command in ("seq 200", "sh -c 'stty -a >/dev/null; seq 200'", "sh -c 'read a; seq 200'"):
        shell.type(f"{run(options, command)} | TERM=vt100 less\n".encode())
        shell.expect(b"\n")
        if "read" in command:
            shell.type(b"x\n")
        shell.expect(b"20")
        shell.type(b"q")
        shell.tells_status(0)


# Each with the same prompt; dash takes that of the environment, as bash and zsh do.
INSIDE = {
    "bash": "bash --norc --noprofile -i",
    "dash": "dash -i",
    "zsh": "zsh -f -i",
    "fish": "fish --no-config -i -C 'function fish_prompt; echo \"ready> \"; end'",
}


def at_its_prompt(shell: Shell, wait_until: Callable[..., None]) -> None:
    """Wait until the shell inside waits for a line: it drops what was typed before that."""
    shell.expect(b"ready> ")
    wait_until(lambda: is_settled(os.tcgetpgrp(shell.terminal)), "it reads")


def is_settled(group: int) -> bool:
    """Tell whether all of a process group sleep, and have not run for some ms."""
    looks = set()
    for _ in range(12):
        looks.add(schedule_of(group))
        time.sleep(0.004)
    return len(looks) == 1 and looks.pop().startswith("S")


def schedule_of(pid: int) -> str:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        return state + Path(f"/proc/{pid}/schedstat").read_text()
    except OSError:
        return ""


@pytest.mark.crossed(1)
@SPACES
@pytest.mark.parametrize("inside", INSIDE)
def test_a_shell_with_jobs_inside(
    shell: Shell, options: str, inside: str, wait_until: Callable[..., None]
) -> None:
    need(inside)
    shell.type(f"{run(options, INSIDE[inside])}\n".encode())
    shell.expect(b"\n")
    at_its_prompt(shell, wait_until)
    shell.type(b"sh -c 'echo u''p; exec cat'\n")
    shell.expect(b"up\r\n")
    wait_until(lambda: is_settled(os.tcgetpgrp(shell.terminal)), "cat reads")
    shell.type(b"\x1a")
    at_its_prompt(shell, wait_until)
    shell.type(b"echo sto''pped\n")
    shell.expect(b"stopped\r\n")
    at_its_prompt(shell, wait_until)
    own = os.tcgetpgrp(shell.terminal)
    shell.type(b"fg\n")
    wait_until(lambda: os.tcgetpgrp(shell.terminal) != own, "cat has the terminal")
    wait_until(lambda: is_settled(os.tcgetpgrp(shell.terminal)), "cat reads")
    shell.type(b"hel\x16lo\n")
    shell.expect(b"hello\r\n")
    shell.type(b"\x03")
    at_its_prompt(shell, wait_until)
    shell.type(b"echo go''ne\n")
    shell.expect(b"gone\r\n")
    at_its_prompt(shell, wait_until)
    shell.type(b"exit 7\n")
    shell.tells_status(7)


VI = """
import os, signal, sys, termios, tty
saved = termios.tcgetattr(0)
def begin():
    tty.setraw(0)
    print("up\\r", flush=True)
begin()
while True:
    key = os.read(0, 1)
    if key == b"\\x1a":
        termios.tcsetattr(0, termios.TCSADRAIN, saved)
        os.kill(0, signal.SIGTSTP)
        begin()
    elif key == b"q":
        break
    else:
        print(repr(key), end="\\r\\n", flush=True)
termios.tcsetattr(0, termios.TCSADRAIN, saved)
sys.exit(5)
"""


def test_an_editor_that_stops_its_own_group(shell: Shell, tmp_path: Path) -> None:
    """As vi does at Ctrl-Z; Ctrl-C is a key for it. Process 1 would go on for a moment."""
    script = tmp_path / "vi.py"
    script.write_text(VI)
    shell.type(f"{run('--user --init', f'{sys.executable} -IS {script}')}\n".encode())
    shell.expect(b"up\r")
    for _ in range(3):
        shell.type(b"\x03")
        shell.expect(b"'\\x03'")
        shell.stop_job()
        shell.type(b"fg\n")
        shell.expect(b"up\r")
    shell.type(b"q")
    shell.tells_status(5)


@pytest.mark.parametrize("options", ["--user", "--user --init"])
def test_a_shell_that_suspends_itself_goes_on_at_fg(shell: Shell, options: str) -> None:
    """It has left the process group in which it was started, and stops in its own."""
    shell.type(f"{run(options, 'env PS1=inside: bash --norc --noprofile -i')}\n".encode())
    shell.expect(b"\ninside:")
    for _ in range(2):
        shell.type(b"suspend -f\n")
        shell.expect(b"ready> ")
        shell.type(b"fg\n")
        shell.expect(b"--noprofile -i\r\n")
        shell.type(b"echo on''ce more\n")
        shell.expect(b"once more\r\n")
    shell.type(b"exit 7\n")
    shell.tells_status(7)


@SPACES
def test_a_command_whose_input_is_a_file_may_open_the_terminal(shell: Shell, options: str) -> None:
    command = run(options, "sh -c 'echo up; read a </dev/tty; echo got $a'")
    shell.type(f"{command} </dev/null\n".encode())
    shell.expect(b"up\r\n")
    shell.type(b"line\n")
    shell.expect(b"got line\r\n")
    shell.tells_status(0)


@SPACES
def test_the_script_reads_the_terminal_afterwards(shell: Shell, options: str) -> None:
    inner = run(options, 'sh -c "echo up; read a; echo got \\$a"')
    shell.type(f"bash -c '{inner}; read b; echo then $b'\n".encode())
    shell.expect(b"up\r\n")
    shell.type(b"one\n")
    shell.expect(b"got one\r\n")
    shell.type(b"two\n")
    shell.expect(b"then two\r\n")
    shell.expect(b"ready> ")


@SPACES
def test_one_sandbox_within_another(shell: Shell, options: str) -> None:
    inner = run(options, "sh -c 'echo up; exec cat'")
    shell.type(f"{run(options, inner)}\n".encode())
    shell.expect(b"up\r\n")
    shell.type(b"hello\n")
    shell.expect(b"hello\r\nhello\r\n")
    shell.type(b"\x03")
    shell.tells_status(130)


@SPACES
def test_a_job_in_the_background_reads_after_fg(shell: Shell, options: str) -> None:
    shell.type(f"{run(options, 'cat')} &\n".encode())
    shell.expect(b"ready> ")
    shell.type(b"wait; jobs\n")
    shell.expect(b"Stopped")
    shell.expect(b"ready> ")
    shell.type(b"bg; wait; echo ba''ck\n")
    shell.expect(b"back\r\n")
    shell.type(b"fg\n")
    shell.expect(b"-- cat")
    shell.type(b"hello\n")
    shell.expect(b"hello\r\nhello\r\n")
    shell.type(b"\x04")
    shell.tells_status(0)


@SPACES
def test_without_a_shell_ctrl_z_stops_nothing(options: str) -> None:
    """In a group that nobody would continue."""
    screen = Screen([SCRIPT, "run", *options.split(), "--", "sh", "-c", "echo up; exec cat"])
    try:
        screen.expect(b"up\r\n")
        screen.type(b"\x1ahello\n")
        screen.expect(b"hello\r\nhello\r\n")
        screen.type(b"\x04")
        assert screen.end() == 0
    finally:
        screen.close()


@SPACES
def test_the_terminal_comes_back_where_the_launcher_is_killed(
    options: str, tmp_path: Path, wait_until: Callable[..., None]
) -> None:
    """By the process beside it, for a script that goes on."""
    command = run(options, "sh -c 'echo up; exec cat'")
    os.mkfifo(fifo := tmp_path / "go")
    screen = Screen(["/bin/bash", "-c", f"{command}; read a <{fifo}; read a; echo got $a"])
    try:
        screen.expect(b"up\r\n")
        wait_until(lambda: os.tcgetpgrp(screen.terminal) != screen.pid, "it was handed over")
        (launcher,) = processes_of(screen.pid)
        group = os.tcgetpgrp(screen.terminal)
        os.kill(launcher, signal.SIGKILL)
        wait_until(lambda: os.tcgetpgrp(screen.terminal) == screen.pid, "it is back")
        # The command reads until it has been killed.
        wait_until(lambda: not living_of(group), "the command has gone")
        fifo.write_text("\n")
        screen.type(b"line\n")
        screen.expect(b"got line\r\n")
    finally:
        screen.close()


def living_of(group: int) -> list[str]:
    """Return the processes of a process group that have not ended."""
    found = []
    for entry in os.listdir("/proc"):
        with contextlib.suppress(OSError):
            if entry.isdecimal():
                stat = Path(f"/proc/{entry}/stat").read_text(errors="replace")
                state, _, its_group = stat.rpartition(")")[2].split()[:3]
                if its_group == str(group) and state not in "ZX":
                    found.append(entry)
    return found


def test_a_command_that_kills_its_group_has_the_next_sentinel(
    shell: Shell, wait_until: Callable[..., None]
) -> None:
    """kill(0, SIGKILL) takes the process that sees Ctrl-C; the next one comes.

    Process 1 survives that SIGKILL and has no handler for SIGINT: the sentinel alone sees Ctrl-C.
    """
    script = "echo up; read a; sh -c 'kill -9 0'; echo killed; exec cat"
    line = run("--user --pid", f'sh -c "{script}"')
    shell.type(f"{line}\n".encode())
    shell.expect(b"up\r\n")
    group = os.tcgetpgrp(shell.terminal)
    wait_until(lambda: sentinels_of(group), "there is a first one")
    first = sentinels_of(group)
    shell.type(b"x\n")
    shell.expect(b"killed\r\n")
    wait_until(lambda: sentinels_of(group) not in ([], first), "there is a next one")
    shell.type(b"\x03")
    shell.tells_status(130)


def sentinels_of(group: int) -> list[str]:
    """Return the sentinels among the living processes of a process group."""
    found = []
    for process in living_of(group):
        with contextlib.suppress(OSError):
            if Path(f"/proc/{process}/comm").read_text() == "pyspaces-tty\n":
                found.append(process)
    return found
