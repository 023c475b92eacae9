"""The handle of a started command, for programs: Running."""

from __future__ import annotations

import os
import signal
import threading
import time

import pytest

from pyspaces import Container, launch, settings
from pyspaces.kernel import ioctl_ns, nsfs
from pyspaces.launch import Running

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.needs("userns", "pidns")
SPACES = pytest.mark.parametrize("more", [{}, {"pid": True}, {"init": True}])
ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)


def start(*command: str, **values: object) -> Running:
    return launch.start(settings.plan_from({"command": command, "user": True, **values}))


@SPACES
def test_status_and_usage_are_there_once_it_has_ended(
    more: dict[str, bool], tmp_path: Path
) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    with start("sh", "-c", f"read line < {fifo}; exit 7", **more) as running:
        assert (running.status, running.usage, running.poll()) == (None, None, None)
        fifo.write_text("go\n")
        status = running.wait(60)
        assert status == running.status == running.poll() == running.wait(0)
        assert status.code == 7
        assert running.usage is not None
        assert running.usage.wall > 0
        assert running.usage.peak_memory > 100_000


def test_usage_counts_the_time_of_the_processor() -> None:
    with start("sh", "-c", "i=0; while [ $i -lt 50000 ]; do i=$((i+1)); done") as running:
        running.wait(60)
        assert running.usage is not None
        assert 0 < running.usage.user <= running.usage.wall + 0.02


@SPACES
def test_wait_says_when_the_time_is_over_and_the_command_goes_on(more: dict[str, bool]) -> None:
    with start("sleep", "1000", **more) as running:
        with pytest.raises(TimeoutError, match=f"process {running.pid} still runs after 0.01 s"):
            running.wait(0.01)
        assert running.status is None
        running.send_signal(signal.SIGKILL)
        assert running.wait(60).signal == signal.SIGKILL


@SPACES
def test_send_signal_ends_a_command_without_a_handler(more: dict[str, bool]) -> None:
    for number in ENDING:
        with start("sleep", "1000", **more) as running:
            running.send_signal(number)
            assert running.wait(60).signal == number
            running.send_signal(number)  # it has ended: that does nothing


def test_a_time_limit_is_kept_while_one_waits_or_polls() -> None:
    with start("sleep", "1000", timeout=0.05) as running:
        assert running.wait(60).signal == signal.SIGTERM
    with start("sleep", "1000", timeout=0.05) as running:
        while running.poll() is None:
            time.sleep(0.005)
        assert running.watch.ended is not None
        assert running.watch.ended.timed_out


@pytest.mark.parametrize("threads", [0, 3])
def test_a_signal_during_the_creation_leaves_no_child(threads: int, no_leaks: None) -> None:
    """With threads, one of them gets the signal, and the handler runs at once all the same."""

    def interrupt() -> None:
        raise KeyboardInterrupt

    ended = threading.Event()
    others = [threading.Thread(target=ended.wait) for _ in range(threads)]
    for other in others:
        other.start()
    previous = signal.signal(signal.SIGUSR1, lambda *_: interrupt())
    plan = settings.plan_from({"command": ["sleep", "1000"], "user": True})
    caller = os.getpid()
    try:
        with pytest.raises(KeyboardInterrupt):
            # It has to wait there until the child has been created.
            launch.start(plan, before=lambda: os.kill(caller, signal.SIGUSR1))
        with pytest.raises(KeyboardInterrupt):
            launch.start(plan, hold=lambda _: interrupt())
    finally:
        signal.signal(signal.SIGUSR1, previous)
        ended.set()
        for other in others:
            other.join()


def test_any_thread_may_wait_and_signal() -> None:
    with start("sleep", "1000", pid=True) as running:
        found: list[object] = []
        threads = [
            threading.Thread(target=lambda: found.append(running.wait(60).signal)) for _ in range(4)
        ]
        for thread in threads:
            thread.start()
        running.send_signal(signal.SIGTERM)
        for thread in threads:
            thread.join()
        assert found == [signal.SIGTERM] * 4


def test_a_container_outlives_the_thread_that_started_it() -> None:
    reading, writing = os.pipe()
    box = Container(lambda: os.read(reading, 1).decode(), user=True, pid=True)
    thread = threading.Thread(target=box.start)
    thread.start()
    thread.join()
    os.write(writing, b"x")
    assert box.result(60) == "x"
    box.close()
    os.close(reading)
    os.close(writing)


@pytest.mark.needs("userns")
def test_who_is_in_a_pid_namespace() -> None:
    plan = settings.plan_from({"user": True, "pid": True, "command": ["sleep", "1000"]})
    own = os.open("/proc/self/ns/pid", os.O_RDONLY)
    with launch.start(plan) as running:
        inside = os.open(f"/proc/{running.pid}/ns/pid", os.O_RDONLY)
        pids = (os.getpid(), running.pid)
        assert [ioctl_ns.holds(own, pid) for pid in pids] == [True, True]
        assert [ioctl_ns.holds(inside, pid) for pid in pids] == [False, True]
        running.send_signal(signal.SIGKILL)
        assert nsfs.has_ended(running.pidfd, timeout=30)
        assert ioctl_ns.holds(inside, running.pid)  # nobody has reaped it
        running.wait()
        assert not ioctl_ns.holds(inside, running.pid)
    os.close(own)
    os.close(inside)
