"""A command that handles SIGTERM or Ctrl-C is left to end in its own time, whatever runs it.

What is wrong here shows in some of many tries: a few in the plain suite, and many under `stress`.
"""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
import uuid
from random import Random

import pytest
from conftest import SCRIPT, outcome, processes_of
from terminal import Screen

from pyspaces import Container, cloning

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.needs("userns", "pidns")
OFTEN = pytest.mark.parametrize("times", [1, pytest.param(13, marks=pytest.mark.stress)])

# What it has loaded makes its way out longer, with its handlers down.
PYTHON = """
import asyncio, concurrent.futures, email, signal, sys, time, unittest
def leave(*_):
    if {pause}:
        time.sleep({pause})
    sys.exit(33)
signal.signal(signal.SIGTERM, leave)
signal.signal(signal.SIGINT, leave)
print("up", flush=True)
while True:  # Python runs a handler late that comes right before it begins to sleep
    time.sleep(0.01)
"""
SHELL = "trap 'sleep {pause}; exit 33' TERM INT; echo up; while :; do sleep 0.01; done"
LANGUAGES = {"python": (sys.executable, "-c", PYTHON), "shell": ("sh", "-c", SHELL)}
IN = pytest.mark.parametrize("language", LANGUAGES)
PROCESS_1 = ["run", "--user", "--pid"]


def command(language: str, pause: float) -> list[str]:
    """Return a command that takes `pause` seconds to end once it is asked to."""
    *words, script = LANGUAGES[language]
    return [*words, script.replace("{pause}", f"{pause:.4f}")]


def pauses(times: int) -> list[float]:
    """Return how long a command takes to leave, from 0 to 20 ms; most often 0, the worst."""
    random = Random(times)
    return [random.choice((0, 0, random.uniform(0, 0.02))) for _ in range(times)]


@contextlib.contextmanager
def launched(*words: str, group: int | None = None) -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen([SCRIPT, *words], stdout=subprocess.PIPE, process_group=group) as process:
        assert process.stdout is not None
        try:
            assert process.stdout.readline() == b"up\n"
            yield process
        finally:
            process.kill()


@pytest.mark.crossed
@OFTEN
@IN
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("options", [PROCESS_1, ["run", "--user", "--init"]])
def test_by_a_signal_to_the_launcher(
    options: list[str], number: int, language: str, times: int
) -> None:
    for pause in pauses(times):
        with launched(*options, "--", *command(language, pause)) as process:
            process.send_signal(number)
            assert process.wait(60) == 33


@OFTEN
@IN
def test_by_a_signal_to_the_group(language: str, times: int) -> None:
    """As timeout(1) sends it, which signals its child first and then the group: it comes twice."""
    for pause in pauses(times):
        with launched(*PROCESS_1, "--", *command(language, pause), group=0) as process:
            process.terminate()
            os.killpg(process.pid, signal.SIGTERM)
            assert process.wait(60) == 33


@pytest.mark.crossed(1)
@OFTEN
@IN
@pytest.mark.parametrize("options", [PROCESS_1, [*PROCESS_1, "--pty"], ["run", "--init", "--user"]])
def test_by_ctrl_c(options: list[str], language: str, times: int) -> None:
    for pause in pauses(times):
        screen = Screen([SCRIPT, *options, "--", *command(language, pause)])
        try:
            screen.expect(b"up")
            screen.type(b"\x03")
            assert screen.end() == 33
        finally:
            screen.close()


@IN
@pytest.mark.parametrize("times", [1, pytest.param(10, marks=pytest.mark.stress)])
def test_by_a_time_limit(language: str, times: int) -> None:
    for pause in pauses(times):
        for limit in ("0.5", "2", "8", "32"):  # until the command has its handlers in time
            more = ["--timeout", limit, "--kill-after", "120", "--status-fd", "2"]
            done = outcome([SCRIPT, *PROCESS_1, *more, "--", *command(language, pause)])
            assert done.returncode == 124
            if done.stdout == "up\n":
                break
        (ended,) = [line for line in done.stderr.splitlines() if '"exited"' in line]
        assert json.loads(ended)["code"] == 33


@OFTEN
@IN
def test_in_namespaces_that_are_entered(
    language: str, times: int, wait_until: Callable[..., None]
) -> None:
    name = f"ends-{uuid.uuid4().hex[:12]}"
    with launched(
        *(*PROCESS_1, "--name", name, "--", "sh", "-c", "echo up; exec sleep 300")
    ) as host:
        for pause in pauses(times):
            with launched("enter", name, "--", *command(language, pause)) as process:
                process.terminate()
                assert process.wait(60) == 33
        host.terminate()
        assert host.wait(60) == -signal.SIGTERM


def leave_slowly(ready: int, pause: float) -> None:
    def leave(*_: object) -> None:
        time.sleep(pause)
        sys.exit(33)

    signal.signal(signal.SIGTERM, leave)
    os.write(ready, b"up")
    while True:
        time.sleep(0.01)


@OFTEN
@pytest.mark.parametrize("kind", ["Container", "Clone"])
def test_by_terminate(kind: str, times: int) -> None:
    class Cloned(multiprocessing.Process):
        clone_flags = cloning.CLONE_NEWUSER | cloning.CLONE_NEWPID
        map_zero = True

        @staticmethod
        def _Popen(process_obj: object) -> cloning.Clone:  # type: ignore[override]  # noqa: N802
            return cloning.Clone(process_obj)  # type: ignore[arg-type]

    for pause in pauses(times):
        reading, writing = os.pipe()
        given = (writing, pause)
        process: multiprocessing.Process = (
            Container(leave_slowly, args=given, user=True, pid=True)
            if kind == "Container"
            else Cloned(target=leave_slowly, args=given)
        )
        process.start()
        try:
            os.close(writing)
            with open(reading, "rb") as ready:
                assert ready.read(2) == b"up"
                process.terminate()
                process.join(60)
            assert process.exitcode == 33
        finally:
            process.kill()
            process.join(60)
            process.close()


WAITS = """
import os, signal, struct, sys, time
numbers = [signal.SIGTERM, signal.SIGHUP]
signal.pthread_sigmask(signal.SIG_BLOCK, numbers)
print("up", flush=True)
while True:
    if (number := signal.sigwait(numbers)) == signal.SIGTERM:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, numbers)
        time.sleep(0.3)
        sys.exit(33)
    print("reload", flush=True)
"""


def test_a_command_in_sigwait_has_it(wait_until: Callable[..., None]) -> None:
    """Within sigwait the kernel shows the signals as not blocked, and nothing handles them."""
    with launched(*PROCESS_1, "--", sys.executable, "-IS", "-c", WAITS) as process:
        assert process.stdout is not None
        (command_pid,) = processes_of(process.pid)
        for _ in range(5):
            wait_until(lambda: _is_in_sigwait(command_pid), "the command waits")
            process.send_signal(signal.SIGHUP)
            assert process.stdout.readline() == b"reload\n"
        wait_until(lambda: _is_in_sigwait(command_pid), "the command waits")
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 33


def _is_in_sigwait(pid: int) -> bool:
    with open(f"/proc/{pid}/wchan") as file:
        return "sigtimedwait" in file.read()


READS = """
import ctypes, os, signal, sys, time
numbers = [signal.SIGTERM]
signal.pthread_sigmask(signal.SIG_BLOCK, numbers)
mask = ctypes.c_uint64(1 << signal.SIGTERM - 1)
buffer = ctypes.create_string_buffer(128)
ctypes.memmove(buffer, ctypes.byref(mask), 8)
descriptor = ctypes.CDLL(None).signalfd(-1, buffer, 0)
print("up", flush=True)
os.read(descriptor, 128)
signal.pthread_sigmask(signal.SIG_UNBLOCK, numbers)
time.sleep(0.3)
sys.exit(33)
"""


def test_a_command_that_reads_it_from_a_descriptor_has_it() -> None:
    with launched(*PROCESS_1, "--", sys.executable, "-IS", "-c", READS) as process:
        process.terminate()
        assert process.wait(60) == 33


SIGWAIT_FOR_ANOTHER = """
import signal
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
print("up", flush=True)
signal.sigwait([signal.SIGUSR1])
"""


def test_one_that_waits_for_another_signal_has_not(wait_until: Callable[..., None]) -> None:
    words = [*PROCESS_1, "--", sys.executable, "-IS", "-c", SIGWAIT_FOR_ANOTHER]
    with launched(*words) as process:
        (command_pid,) = processes_of(process.pid)
        wait_until(lambda: _is_in_sigwait(command_pid), "the command waits")
        process.terminate()
        assert process.wait(60) == -signal.SIGTERM


@pytest.mark.parametrize("first", [signal.SIGUSR1, signal.SIGHUP])
def test_a_burst_of_signals(first: int) -> None:
    """Of several at once, each is judged for itself."""
    script = (
        "trap 'n=1' HUP USR1; trap 'sleep 0.3; exit 33' TERM; echo up; while :; do sleep 0.01; done"
    )
    with launched(*PROCESS_1, "--", "sh", "-c", script) as process:
        for number in (first, signal.SIGTERM, first, signal.SIGTERM):
            process.send_signal(number)
        assert process.wait(60) == 33


def test_of_a_burst_the_first_that_it_drops_ends_it() -> None:
    script = "trap 'n=1' TERM USR1; echo up; while :; do sleep 0.01; done"
    with launched(*PROCESS_1, "--", "sh", "-c", script) as process:
        for number in (signal.SIGUSR1, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1):
            process.send_signal(number)
        assert process.wait(60) == -signal.SIGHUP


def test_a_shell_that_forks_all_the_time_ends_too() -> None:
    """dash blocks signals around each fork: one look would often see it blocked."""
    for _ in range(5):
        script = "echo up; while :; do /bin/true; done"
        with launched(*PROCESS_1, "--", "sh", "-c", script) as process:
            process.terminate()
            assert process.wait(60) == -signal.SIGTERM
