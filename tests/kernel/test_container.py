"""`pyspaces.Container`: Python functions in namespaces, on the real kernel."""

from __future__ import annotations

import contextlib
import gc
import json
import multiprocessing
import os
import resource
import signal
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from conftest import outcome, processes_with

from pyspaces import ChildTraceback, Container, NoResult, UnpicklableResult, get_context
from pyspaces.cloning import CLONE_NEWUTS, CLONE_VM
from pyspaces.errors import SpaceError, UsageFault

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

CROWD = str(Path(__file__).parents[1] / "crowd.py")

pytestmark = pytest.mark.needs("userns", "pidns", "proc")


def result_of(target: Callable[..., Any], *args: Any, **settings: Any) -> Any:
    container = Container(target, args=args, **settings)
    container.start()
    try:
        return container.result(60)
    finally:
        container.close()


def facts() -> tuple[int, int, str]:
    return os.getpid(), os.getuid(), os.uname().nodename


def test_a_function_runs_in_namespaces_and_its_value_comes_home() -> None:
    assert result_of(facts, user=True, pid=True, hostname="box") == (1, 0, "box")


@pytest.mark.parametrize(
    "settings",
    [
        {"newuser": True, "newpid": True, "newns": True},
        {"user": True, "pid": True, "mount": True, "uid_map": True, "gid_map": True},
        {"all": True, "map_zero": True},
        {"mount_proc": True, "uid_map": f"0 {os.geteuid()} 1", "gid_map": [os.getegid()]},
    ],
)
def test_settings_in_every_spelling(settings: dict[str, Any]) -> None:
    def look() -> tuple[int, str]:
        return os.getuid(), os.readlink("/proc/self")

    assert result_of(look, **settings) == (0, "1")


def test_flags_add_namespaces() -> None:
    inside = result_of(lambda: os.readlink("/proc/self/ns/uts"), user=True, flags=CLONE_NEWUTS)
    assert inside != os.readlink("/proc/self/ns/uts")
    with pytest.raises(ValueError, match="only CLONE_NEW"):
        Container(facts, flags=CLONE_VM)


def test_settings_that_cannot_be_meant_are_told_at_once() -> None:
    with pytest.raises(UsageFault, match="overlaps"):
        Container(facts, uid_map=["0 0 2", "1 1 1"])


def test_a_failing_set_up_is_told_by_start() -> None:
    container = Container(facts, user=True, workdir="/nonexistent")
    with pytest.raises(SpaceError, match="cannot change to the working directory: /nonexistent"):
        container.start()


class Odd(Exception):
    pass


def test_a_second_start_is_refused_and_loses_nothing(no_leaks: None) -> None:
    container = Container(facts, user=True, hostname="box")
    container.start()
    with pytest.raises(AssertionError, match="cannot start a process twice"):
        container.start()
    assert container.result(60)[2] == "box"
    container.close()


def fail() -> None:
    raise Odd("in the child")


def test_an_exception_comes_home_with_its_traceback(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(Odd, match="in the child") as caught:
        result_of(fail, user=True, pid=True)
    assert isinstance(caught.value.__cause__, ChildTraceback)
    assert "in fail" in str(caught.value.__cause__)
    assert capfd.readouterr().err == ""


UNASKED = """
import sys
from pyspaces import Container
def fail(): raise KeyError(sys.argv[1])
def closed():
    one = Container(fail, user=True, name="closed")
    one.start(); one.join(); one.close()
def left():
    one = Container(fail, user=True, name="left")
    one.start(); one.join()
closed(); left()
print("these two", file=sys.stderr)
at_the_end = Container(fail, user=True, name="at the end")
at_the_end.start()
"""


def test_an_exception_that_nobody_asks_for_is_printed_once() -> None:
    done = outcome([sys.executable, "-c", UNASKED, "token"])
    shown = [line for line in done.stderr.splitlines() if not line.startswith((" ", "Traceback"))]
    error = "KeyError: 'token'"
    assert shown == [
        *("Process closed:", error, "Process left:", error, "these two"),
        *("Process at the end:", error),
    ]


WITHOUT_THE_LIBRARY = """
import sys
import tempfile
from pyspaces import Chroot, Container

def fail():
    return {}["in ä"] + 1

with tempfile.TemporaryDirectory() as root:
    for process in (Chroot(root, fail, user=True), Container(fail, user=True)):
        process.start()
        try:
            process.result()
        except KeyError as error:
            print(error, "in fail" in str(error.__cause__), "in ä" in str(error.__cause__))
        process.close()
        sys.modules["unicodedata"] = None  # as if it were on the host only: traceback looks for it
"""


def test_an_exception_comes_home_from_a_root_without_the_library(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(WITHOUT_THE_LIBRARY)
    done = outcome([sys.executable, str(program)])
    assert done.stdout.splitlines()[0] == "'in ä' True True", done.stderr
    assert done.stdout.splitlines()[1].startswith("'in ä' ")
    assert done.stdout.endswith(" True\n")


def in_daemonic(function: Callable[[], object]) -> list[str]:
    """Call a function in a daemonic process; return what it returns, or its error, as texts."""
    reading, writing = multiprocessing.Pipe(duplex=False)

    def call() -> None:
        try:
            writing.send([str(function())])
        except UsageFault as fault:
            writing.send([*fault.faults, str(fault.hint)])

    process = multiprocessing.get_context("fork").Process(target=call, daemon=True)
    process.start()
    try:
        assert reading.poll(60)
        words: list[str] = reading.recv()
        return words
    finally:
        process.kill()
        process.join()
        process.close()
        reading.close()
        writing.close()


def test_a_daemonic_process_is_told_what_to_set() -> None:
    fault, hint = in_daemonic(lambda: result_of(facts, user=True, pid=True))
    assert "this process is daemonic" in fault
    assert 'set kill_child="KILL"' in fault
    assert "distributed.worker.daemon" in hint
    (told,) = in_daemonic(lambda: result_of(facts, user=True, pid=True, kill_child="KILL"))
    assert told.startswith("(1, 0, ")
    (told,) = in_daemonic(lambda: result_of(abs, -3, user=True, kill_child="KILL", init=True))
    assert told == "3"


def test_a_container_of_a_daemonic_process_ends_with_it(wait_until: Callable[..., None]) -> None:
    token = f"daemonic {time.monotonic_ns()}"

    def start() -> None:
        line = f": {token}; sleep 1000 & wait"
        space: dict[str, Any] = {"user": True, "pid": True, "kill_child": "KILL"}
        inside = Container(os.execv, args=("/bin/sh", ["sh", "-c", line]), **space)
        inside.start()
        inside.join()

    process = multiprocessing.get_context("fork").Process(target=start, daemon=True)
    process.start()
    try:
        wait_until(lambda: processes_with(token), "the function runs")
    finally:
        process.kill()
        process.join()
        process.close()
    wait_until(lambda: not processes_with(token), "the function has ended")


def test_endings_without_a_value_are_told_apart() -> None:
    with pytest.raises(UnpicklableResult, match="returned function, which cannot be pickled"):
        result_of(lambda: lambda: 1, user=True)
    with pytest.raises(NoResult, match="ended with exit code 7 before it had a result"):
        result_of(lambda: os._exit(7), user=True, pid=True)
    with pytest.raises(NoResult, match="was ended by SIGKILL before it had a result"):
        result_of(lambda: os.kill(os.getpid(), signal.SIGKILL), user=True)


REAPED = """
import signal
from pyspaces import Container

signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the kernel reaps all children
for settings in ({}, {"pid": True, "init": True}):
    process = Container(int, args=("7",), user=True, **settings)
    process.start()
    print(process.result(timeout=60), process.exitcode, process.is_alive())
    process.close()
"""


def test_a_result_comes_home_from_a_process_that_was_reaped() -> None:
    done = outcome([sys.executable, "-c", REAPED])
    assert (done.stdout, done.stderr) == ("7 255 False\n7 0 False\n", "")


def test_a_result_that_was_stored_in_part_is_none() -> None:
    with pytest.raises(NoResult, match="ended with exit code 1 before it had a result"):
        result_of(lambda: bytes(5000), user=True, rlimit="fsize=1000")
    assert result_of(lambda: bytes(500), user=True, rlimit="fsize=1000") == bytes(500)


@pytest.mark.parametrize("size", [5_000_000, pytest.param(100_000_000, marks=pytest.mark.stress)])
def test_a_large_result_does_not_block(size: int) -> None:
    container = Container(lambda: bytes(size), user=True, pid=True)
    container.start()
    container.join(60)
    assert container.exitcode == 0
    assert len(container.result()) == size
    container.close()


@contextlib.contextmanager
def running(target: Callable[..., Any], *args: Any, **settings: Any) -> Iterator[Container]:
    """Start a container; end it, also when the test has failed."""
    container = Container(target, args=args, user=True, **settings)
    container.start()
    try:
        yield container
    finally:
        container.kill()
        container.join()
        container.close()


def test_result_has_a_timeout() -> None:
    with (
        running(time.sleep, 1000) as container,
        pytest.raises(TimeoutError, match=r"still runs after 0\.05 s"),
    ):
        container.result(0.05)


# Its own in each run: two of the suite go on at once.
LONG = f"6543.{time.monotonic_ns()}"


def with_grandchild() -> None:
    subprocess.Popen(["sleep", LONG])
    time.sleep(1000)


def test_terminate_ends_pid_1_and_all_beneath_it(wait_until: Callable[..., None]) -> None:
    with running(with_grandchild, pid=True) as container:
        wait_until(lambda: processes_with(LONG), "the grandchild")
        container.terminate()
        container.join(60)
        assert container.exitcode == -15
        wait_until(lambda: not processes_with(LONG), "the grandchild gone")


def test_a_handler_for_term_is_asked_first() -> None:
    reading, writing = os.pipe()

    def handle() -> None:
        signal.signal(signal.SIGTERM, lambda *_: os._exit(6))
        os.write(writing, b"x")
        # As in test_function_settings: one long sleep could begin right after the signal.
        while True:
            time.sleep(0.01)

    try:
        with running(handle, pid=True) as container:
            os.read(reading, 1)
            container.terminate()
            container.join(60)
            assert container.exitcode == 6
    finally:
        os.close(reading)
        os.close(writing)


def nested() -> Any:
    return result_of(facts, user=True, pid=True, hostname="deep")


def test_a_container_in_a_container() -> None:
    assert result_of(nested, user=True, pid=True) == (1, 0, "deep")


def test_what_is_in_a_queue_and_in_stdout_is_not_lost() -> None:
    """In an interpreter of its own, whose output is a pipe and so is buffered."""
    script = """
from pyspaces import get_context
ctx = get_context(user=True, pid=True)
queue = ctx.Queue()
def work():
    print("buffered", end="")
    queue.put(b"x" * 200000)
process = ctx.Process(target=work)
process.start()
print(len(queue.get()))
process.join()
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True)
    assert b"200000" in done.stdout
    assert b"buffered" in done.stdout


def square(number: int) -> tuple[int, int]:
    return number * number, os.getpid()


def test_a_pool_and_an_executor_work_in_namespaces() -> None:
    ctx: Any = get_context(user=True, pid=True)
    expected = [(n * n, 1) for n in range(8)]
    with ctx.Pool(2) as pool:
        assert pool.map(square, range(8)) == expected
    with ProcessPoolExecutor(2, mp_context=ctx) as executor:
        assert list(executor.map(square, range(8))) == expected


def test_another_thread_may_poll_a_container_that_is_being_closed() -> None:
    """As each start of a process does with every child that it found a moment ago."""
    container = Container(square, args=(3,), user=True, pid=True)
    container.start()
    container.join()
    container.close()
    popen: Any = container._popen
    assert popen.poll() == 0
    with pytest.raises(ValueError, match="closed"):
        container.join()


@pytest.mark.parametrize(
    ("count", "busy", "variables"),
    [
        (16, 4, {"MALLOC_ARENA_MAX": "1"}),
        pytest.param(240, 4, {"MALLOC_ARENA_MAX": "1"}, marks=pytest.mark.stress),
        pytest.param(240, 8, {}, marks=pytest.mark.stress),
    ],
)
def test_containers_from_eight_threads_beside_busy_ones(
    count: int, busy: int, variables: dict[str, str]
) -> None:
    """None hangs, each has its result, and no descriptor, thread or child is left."""
    done = outcome(
        [sys.executable, CROWD, str(count), str(busy)], env=os.environ | variables, timeout=200
    )
    assert (done.returncode, done.stderr) == (0, "")
    told = json.loads(done.stdout)
    assert (told["ended"], told["right"]) == (count, True)
    assert told["after"] == told["before"]


def descriptors() -> set[str]:
    """Return the open ones, without the one that this listing itself needs."""
    listing = os.open("/proc/self/fd", os.O_RDONLY)
    try:
        return set(os.listdir(listing)) - {str(listing)}
    finally:
        os.close(listing)


def test_a_container_that_is_dropped_unclosed_keeps_no_descriptor() -> None:
    """No circle of references keeps it: what it holds is back at once, without the collector."""
    before = descriptors()
    gc.disable()
    try:
        container = Container(square, args=(3,), user=True, pid=True)
        container.start()
        container.join()
        del container
        assert descriptors() == before
    finally:
        gc.enable()


def test_a_start_without_descriptors_is_told_and_keeps_none() -> None:
    before = descriptors()
    told = [start_with_room(room) for room in range(8)]
    assert descriptors() == before
    assert all("Too many open files" in text for text in told if text)
    assert any(told)


def start_with_room(room: int) -> str:
    """Start a container where that many descriptors are free; return the error, if any."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    container = Container(square, args=(3,), user=True, pid=True)
    # Numbers are given from the lowest free one on: those below the highest used are room as well.
    highest = max(int(name) for name in descriptors())
    for number in (filler := free_below(highest)):
        os.dup2(0, number)
    resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 1 + room, hard))
    told = ""
    try:
        container.start()
    except (OSError, SpaceError) as error:
        told = str(error)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for number in filler:
            os.close(number)
    if not told:
        assert container.result(60) == (9, 1)
        container.close()
    return told


def free_below(highest: int) -> list[int]:
    used = {int(name) for name in os.listdir("/proc/self/fd")}
    return [number for number in range(highest) if number not in used]


SPAWNED = """
import multiprocessing
from pyspaces import Container
def start_one():
    container = Container(abs, args=(-3,), user=True, pid=True)
    container.start()
    assert container.result(60) == 3
    container.close()
if __name__ == "__main__":
    for method in ("fork", "spawn"):
        child = multiprocessing.get_context(method).Process(target=start_one)
        child.start()
        child.join(60)
        assert child.exitcode == 0, method
"""


def test_children_of_multiprocessing_can_use_it(tmp_path: Path) -> None:
    """In a small program: `spawn` imports again what the program is."""
    program = tmp_path / "program.py"
    program.write_text(SPAWNED)
    done = outcome([sys.executable, program])
    assert (done.returncode, done.stderr) == (0, "")
