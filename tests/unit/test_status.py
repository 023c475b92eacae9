"""How a command ended: read from real processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyspaces import status
from pyspaces.status import Status


def wait_word_of(script: str) -> int:
    process = subprocess.Popen(["/bin/sh", "-c", script])
    try:
        return os.waitpid(process.pid, 0)[1]
    finally:
        process.returncode = 0  # reaped here, not by Popen


@pytest.mark.parametrize("code", [0, 1, 42, 128, 143, 255])
def test_a_code(code: int) -> None:
    ended = Status.from_wait(wait_word_of(f"exit {code}"))
    assert ended == Status(code=code)
    assert ended.signal is None
    assert ended.ok == (code == 0)
    assert ended.shell_code == ended.python_code == code
    assert str(ended) == f"exited with {code}"


@pytest.mark.parametrize("name", ["TERM", "KILL", "INT", "HUP", "USR1"])
def test_a_signal(name: str) -> None:
    number = int(signal.Signals[f"SIG{name}"])
    ended = Status.from_wait(wait_word_of(f"kill -{name} $$"))
    assert ended == Status(signal=number)
    assert ended.code is None
    assert not ended.ok
    assert ended.shell_code == 128 + number
    assert ended.python_code == -number
    assert str(ended) == f"ended by SIG{name}"


def test_a_core_dump_is_no_part_of_the_signal() -> None:
    ended = Status.from_wait(signal.SIGSEGV | 0x80)
    assert ended == Status(signal=signal.SIGSEGV)


@given(st.integers(0, 255))
def test_every_code(code: int) -> None:
    assert Status.from_wait(code << 8) == Status(code=code)


@given(st.integers(1, 64))
def test_every_signal(number: int) -> None:
    assert Status.from_wait(number) == Status(signal=number)


def test_143_and_sigterm_look_alike_to_a_shell_only() -> None:
    code, ended = Status(code=143), Status(signal=signal.SIGTERM)
    assert code.shell_code == ended.shell_code
    assert code != ended
    assert code.python_code != ended.python_code


def test_names_of_signals() -> None:
    assert status.signal_name(15) == "SIGTERM"
    assert status.signal_name(signal.SIGRTMIN + 3) == f"signal {signal.SIGRTMIN + 3}"
    assert status.signal_name(0) == "signal 0"


def test_every_number_has_the_name_that_python_gives_it() -> None:
    names = {int(known): known.name for known in signal.Signals}
    for number in range(-1, signal.NSIG + 2):
        assert status.signal_name(number) == names.get(number, f"signal {number}")
    assert status.signal_name(signal.SIGCHLD) == "SIGCHLD"  # and not SIGCLD


def test_the_table_of_exit_codes() -> None:
    codes = {
        "USAGE": 2,
        "TIMED_OUT": 124,
        "FAILED": 125,
        "CANNOT_EXECUTE": 126,
        "NOT_FOUND": 127,
        "SIGNAL_BASE": 128,
    }
    assert {name: getattr(status, name) for name in codes} == codes


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL, signal.SIGHUP])
def test_die_of_ends_the_process_by_the_signal_though_it_is_ignored_and_blocked(
    number: signal.Signals,
) -> None:
    script = (
        "import signal, sys\n"
        "from pyspaces import status\n"
        "number = int(sys.argv[1])\n"
        "if number != signal.SIGKILL:\n"
        "    signal.signal(number, signal.SIG_IGN)\n"
        "signal.pthread_sigmask(signal.SIG_BLOCK, [number])\n"
        "status.die_of(number)\n"
    )
    done = subprocess.run([sys.executable, "-c", script, str(int(number))], check=False)
    assert done.returncode == -number
