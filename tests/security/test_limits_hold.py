"""Limits that the command cannot lift, and callers that it cannot reach, whatever it signals."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import termios
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from conftest import SCRIPT, again, outcome, processes_of
from terminal import Screen

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.needs("userns", "pidns")

# Signals 0 (its own group), every other process, every process that it sees, and its process 1; the
# numbers that Python or the C library keep to themselves too.
ATTACK = """
import os, signal, sys, time
for number in range(1, 65):
    try:
        signal.signal(number, signal.SIG_IGN)
    except (OSError, ValueError):
        pass
targets = {"group": [0], "all": [-1], "each": None}[sys.argv[1]]
if targets is None:
    targets = [int(name) for name in os.listdir("/proc") if name.isdecimal()]
    targets = [pid for pid in targets if pid != os.getpid()] + [1]
for number in map(int, sys.argv[2:]):
    for target in targets:
        try:
            os.kill(target, number)
        except OSError:
            pass
time.sleep(100)
"""
QUICK = ["--timeout", "0.4", "--kill-after", "0.1"]
TARGETS = pytest.mark.parametrize("target", ["group", "all", "each"])
SPACES = pytest.mark.parametrize(
    "options", [["--user", "--mount", "--pid"], ["--user", "--mount", "--init"]]
)
EVERY = [str(number) for number in range(1, 65)]
# Alone: those that a process cannot ignore, and those of terminals and of stops.
ALONE = [signal.SIGKILL, signal.SIGSTOP, signal.SIGTSTP, signal.SIGTTIN, signal.SIGINT]


def attacked(*words: str) -> tuple[int, float]:
    """Run a launch within a script, which has to survive it; return its status, and how long."""
    script = '"$@"; code=$?; echo "survived $code"'
    begun = time.monotonic()
    done = outcome(
        ["sh", "-c", script, "sh", SCRIPT, *words],
        timeout=90,
        process_group=0,
        stdin=subprocess.DEVNULL,
    )
    assert done.stdout.startswith("survived "), (done.returncode, done.stdout, done.stderr)
    return int(done.stdout.split()[1]), time.monotonic() - begun


@pytest.mark.crossed(1)
@SPACES
@TARGETS
@pytest.mark.parametrize("numbers", [EVERY, *[[str(int(one))] for one in ALONE[:2]]])
def test_the_clock_runs_and_the_callers_group_is_untouched(
    options: list[str], target: str, numbers: list[str]
) -> None:
    words = ["run", *options, *QUICK, "--", sys.executable, "-IS", "-c", ATTACK, target, *numbers]
    status, seconds = attacked(*words)
    assert status in (124, 137)
    assert seconds < 60


@pytest.mark.stress
@SPACES
@TARGETS
def test_each_signal_alone(options: list[str], target: str) -> None:
    start = ["run", *options, *QUICK, "--", sys.executable, "-IS", "-c", ATTACK, target]
    # Each waits for its time to be over, and has a process group of its own.
    with ThreadPoolExecutor(16) as pool:
        ended = dict(zip(EVERY, pool.map(lambda one: attacked(*start, one)[0], EVERY), strict=True))
    # Two signals the C library keeps to itself: a command that is not process 1 dies of them.
    own = {"32": 128 + 32, "33": 128 + 33}
    assert not {n: code for n, code in ended.items() if code not in (124, 137, own.get(n))}


def test_a_command_that_is_stopped_beneath_process_1() -> None:
    """The launcher follows the stop, in a group that a shell looks after; its clock goes on."""
    words = ["run", "--user", "--init", *QUICK, "--", "sh", "-c", "kill -TSTP $$; sleep 100"]
    assert attacked(*words)[0] in (124, 137)


def test_a_launcher_that_is_stopped_by_others_keeps_the_time() -> None:
    """Without a pid namespace of its own the command can name it."""
    script = "while :; do kill -STOP 0; done"
    begun = time.monotonic()
    with subprocess.Popen(
        [SCRIPT, "run", "--user", *QUICK, "--", "sh", "-c", script], process_group=0
    ) as launcher:
        try:
            assert launcher.wait(60) in (124, 137)
            assert time.monotonic() - begun < 60
        finally:
            launcher.kill()


@pytest.fixture
def held() -> Iterator[int]:
    """A sandbox to enter, whose process 1 sleeps."""
    with subprocess.Popen(
        [SCRIPT, "run", "--user", "--mount", "--pid", "--", "sh", "-c", "echo up; exec sleep 100"],
        stdout=subprocess.PIPE,
    ) as launcher:
        try:
            assert launcher.stdout is not None
            assert launcher.stdout.readline() == b"up\n"
            (process,) = processes_of(launcher.pid)
            yield process
        finally:
            launcher.kill()


@pytest.mark.crossed(1)
@TARGETS
@pytest.mark.parametrize("numbers", [EVERY, *[[str(int(one))] for one in ALONE[:1]]])
def test_a_command_in_namespaces_that_are_entered(
    held: int, target: str, numbers: list[str]
) -> None:
    words = ["enter", *QUICK, str(held), "--", sys.executable, "-IS", "-c", ATTACK, target]
    assert attacked(*words, *numbers)[0] in (124, 137)


STOPS_ALL = """
import os, signal
print("up", flush=True)
while True:
    try:
        os.kill(-1, signal.SIGSTOP)
    except OSError:
        pass
"""


@pytest.mark.parametrize("number", again(1, 3))
def test_a_target_that_stops_whoever_enters(number: int) -> None:
    """Before or after the command has been executed: its time counts from the start."""
    with subprocess.Popen(
        [
            *(SCRIPT, "run", "--user", "--mount", "--pid", "--"),
            *(sys.executable, "-IS", "-c", STOPS_ALL),
        ],
        stdout=subprocess.PIPE,
    ) as target:
        try:
            assert target.stdout is not None
            assert target.stdout.readline() == b"up\n"
            (process,) = processes_of(target.pid)
            status, seconds = attacked("enter", *QUICK, str(process), "--", "sleep", "100")
            assert status in (124, 137)
            assert seconds < 60
        finally:
            target.kill()


# --- at a terminal ----------------------------------------------------------------------------


@pytest.mark.crossed(1)
@SPACES
@pytest.mark.needs("bash")
@pytest.mark.parametrize("number", [*ALONE[:2], signal.SIGINT])
def test_a_script_at_a_terminal_survives_its_command(options: list[str], number: int) -> None:
    command = f"{SCRIPT} run {' '.join(options + QUICK)} -- sh -c 'kill -{int(number)} 0; sleep 9'"
    screen = Screen(["/bin/bash", "-c", f"{command}; echo survived=$?"])
    try:
        screen.expect(b"survived=")
        assert screen.end() == 0
    finally:
        screen.close()


# Of the others, some are passed on, some stop and some do nothing; Python ignores two.
USUAL = [signal.SIGKILL, signal.SIGTERM, signal.SIGSEGV, 34]
FATAL = [
    *{*range(1, 32), 34, 50, 64} - {9, 10, 12, 13, 17, 18, 19, 20, 21, 22, 23, 25, 28} - {*USUAL}
]


@pytest.mark.parametrize(
    "number", [*USUAL, *(pytest.param(n, marks=pytest.mark.stress) for n in FATAL)]
)
def test_the_terminal_is_put_back_however_the_launcher_dies(
    number: int, tmp_path: Path, wait_until: Callable[..., None]
) -> None:
    pid_file = tmp_path / "pid"
    words = [SCRIPT, "run", "--user", "--pid", "--pty", "--pid-file", str(pid_file), "--", "cat"]
    screen = Screen(["/bin/sh", "-c", 'ulimit -c 0; "$@"; echo code=$?; read x', "sh", *words])
    try:
        before = termios.tcgetattr(screen.terminal)
        wait_until(lambda: termios.tcgetattr(screen.terminal) != before, "the terminal is raw")
        wait_until(pid_file.exists, "the pid file is there")
        (launcher,) = processes_of(screen.pid)
        os.kill(launcher, number)
        screen.expect(b"code=%d" % (128 + number))
        wait_until(
            lambda: termios.tcgetattr(screen.terminal) == before, "the terminal is as it was"
        )
        assert pid_file.exists() == (number == signal.SIGKILL)
    finally:
        screen.close()


@pytest.mark.parametrize("number", [signal.SIGALRM, signal.SIGABRT, 34])
def test_the_pid_file_goes_with_a_launcher_that_is_ended(number: int, tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    words = ["run", "--user", "--pid", "--pid-file", str(pid_file), "--", "sh", "-c"]
    with subprocess.Popen(
        ["sh", "-c", 'ulimit -c 0; exec "$@"', "sh", SCRIPT, *words, "echo up; exec sleep 100"],
        stdout=subprocess.PIPE,
    ) as launcher:
        try:
            assert launcher.stdout is not None
            assert launcher.stdout.readline() == b"up\n"
            assert pid_file.exists()
            launcher.send_signal(number)
            assert launcher.wait(60) == -number
            assert not pid_file.exists()
        finally:
            launcher.kill()


LIBRARY = """
import os, signal, sys, time
from pyspaces import launch, settings
values = {"user": True, "init": True, "command": ("sh", "-c", "kill -STOP $$; exit 3")}
running = launch.start(settings.plan_from(values))
end = time.monotonic() + 0.3
while time.monotonic() < end:
    assert running.poll() is None
    time.sleep(0.01)
print("on")
running.send_signal(signal.SIGKILL)
"""


def test_a_library_never_stops_its_program(tmp_path: Path) -> None:
    """At a terminal, in a group that a shell looks after."""
    script = tmp_path / "program.py"
    script.write_text(LIBRARY)
    screen = Screen(["/bin/bash", "-c", f"set -m; {sys.executable} {script}; echo code=$?"])
    try:
        screen.expect(b"on\r\n")
    finally:
        screen.close()
