"""`pyspaces.Sandbox`: several commands and functions in one set of namespaces."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable
from typing import Any

import pytest
from conftest import SCRIPT, has_ended, outcome

from pyspaces import Container, Inject, NoResult, Sandbox, SpaceError, UsageFault

pytestmark = pytest.mark.needs("userns", "pidns")

PIPE = subprocess.PIPE
SECRET = "in-the-memory-of-the-caller-" + "7" * 20


def text(box: Sandbox, script: str, **keywords: Any) -> str:
    done = box.run(["sh", "-c", script], capture_output=True, text=True, **keywords)
    return str(done.stdout + done.stderr)


def where() -> tuple[int, str]:
    return os.getuid(), os.uname().nodename


def fail() -> None:
    raise LookupError("inside")


@pytest.mark.needs("netns")
def test_commands_and_functions_share_the_namespaces() -> None:
    settings: dict[str, Any] = {"hostname": "box", "mounts": [["tmpfs", "/tmp"]]}
    with Sandbox(user=True, net=True, setenv={"A": "b"}, **settings) as box:
        box.run(["touch", "/tmp/file"], check=True)
        assert text(box, "ls /tmp; uname -n; id -u; echo $A") == "file\nbox\n0\nb\n"
        assert text(box, "echo $A", setenv={"A": "c"}) == "c\n"
        assert box.call(where) == (0, "box")
        with pytest.raises(LookupError, match="inside"):
            box.call(fail)
        own = [os.readlink(f"/proc/self/ns/{name}") for name in ("net", "uts", "mnt", "user")]
        links = "readlink /proc/self/ns/net /proc/self/ns/uts /proc/self/ns/mnt /proc/self/ns/user"
        first, second = text(box, links), text(box, links)
    assert first == second
    assert not set(first.split()) & set(own)


def test_the_end_ends_everything_inside() -> None:
    with Sandbox(user=True) as box:
        one = box.popen(["sleep", "1000"])
        two = box.popen(["sh", "-c", "sleep 1000 & sleep 1000 & echo up; wait"], stdout=PIPE)
        assert two.stdout
        assert two.stdout.readline() == b"up\n"
    assert (one.wait(60), two.wait(60)) == (-signal.SIGKILL, -signal.SIGKILL)
    assert two.stdout.read() == b""  # nobody is left who could write
    two.stdout.close()
    box.close()
    with pytest.raises(ValueError, match="not running"):
        box.run(["true"])


def test_an_interrupted_call_ends_its_function() -> None:
    class Late(Exception):
        pass

    def interrupt(*_: object) -> None:
        raise Late

    with Sandbox(user=True) as box:
        previous = signal.signal(signal.SIGUSR1, interrupt)
        timer = threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGUSR1))
        timer.start()
        began = time.monotonic()
        try:
            with pytest.raises(Late):
                box.call(time.sleep, 1000)
        finally:
            timer.join()
            signal.signal(signal.SIGUSR1, previous)
        assert time.monotonic() - began < 60
        assert text(box, "echo usable") == "usable\n"


def test_orphans_are_reaped(wait_until: Callable[..., None]) -> None:
    with Sandbox(user=True, mount=True) as box:
        orphan = text(box, "sleep 0.01 > /dev/null 2>&1 & echo $!").strip()
        wait_until(lambda: text(box, f"test -e /proc/{orphan}; echo $?") == "1\n", "no zombie")


def test_it_dies_with_the_program(wait_until: Callable[..., None]) -> None:
    code = """
import os, sys, pyspaces
box = pyspaces.Sandbox(user=True)
box.start()
box.popen(["sleep", "1000"])
print(box.pid, flush=True)
os.kill(os.getpid(), 9)
"""
    done = outcome([sys.executable, "-c", code])
    wait_until(lambda: has_ended(int(done.stdout)), "the sandbox gone")


def test_it_outlives_the_thread_that_started_it() -> None:
    box = Sandbox(user=True)
    thread = threading.Thread(target=box.start)
    thread.start()
    thread.join()
    try:
        assert text(box, "echo $$") == "2\n"
    finally:
        box.close()


def test_process_1_gives_nothing_away() -> None:
    """It is a fork of this process, with all that is in its memory, its files and directory."""
    with Sandbox(user=True, mount=True) as box:
        script = (
            "cat /proc/1/environ; ls -l /proc/1/cwd /proc/1/root; cat /proc/1/fd/* /proc/1/maps"
        )
        assert "Permission denied" in text(box, script)
        code = """
import re, sys
try:
    memory = open("/proc/1/mem", "rb")
except OSError as error:
    sys.exit(type(error).__name__)
"""
        done = box.run([sys.executable, "-c", code], capture_output=True, text=True)
        assert (done.returncode, done.stderr) == (1, "PermissionError\n")
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGKILL, signal.SIGSTOP):
            text(box, f"kill -{int(number)} 1")
        assert text(box, "echo still here") == "still here\n"


def test_many_from_threads_at_once() -> None:
    with Sandbox(user=True) as box:
        found: list[str] = []
        threads = [
            threading.Thread(target=lambda n=n: found.append(text(box, f"echo {n}")))
            for n in range(12)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert sorted(map(int, found)) == list(range(12))


def test_settings_that_cannot_be_meant() -> None:
    wrong: list[dict[str, Any]] = [
        {"pid": False},
        {"init": True},
        {"kill_child": 9},
        {"hold": True},
    ]
    for settings in wrong:
        with pytest.raises(UsageFault, match=next(iter(settings))):
            Sandbox(user=True, **settings)
    with Sandbox(user=True) as box:
        with pytest.raises(UsageFault, match="those of the Sandbox"):
            box.run(["true"], net=True)
        with pytest.raises(UsageFault, match="those of the Sandbox"):
            box.popen(["true"], mounts=[["tmpfs", "/tmp"]])
        with pytest.raises(ValueError, match="started already"):
            box.start()
        with pytest.raises(FileNotFoundError):
            box.run(["no-such-command"])


def refused_inside() -> tuple[str, bool]:
    """Return the error of a Sandbox here, whose process 1 nobody may look at; and what is left."""
    before = os.listdir("/dev/fd")
    try:
        Sandbox(user=True).start()
    except SpaceError as error:
        return str(error), os.listdir("/dev/fd") == before
    return "", False


def test_namespaces_that_cannot_be_opened_leave_nothing() -> None:
    with Sandbox(user=True, mount=True) as box:
        told, is_clean = box.call(refused_inside)
    assert "Permission denied" in told  # of the namespaces, or of the id maps for an ordinary user
    assert is_clean


@pytest.mark.as_ordinary
def test_a_launch_that_fails_leaves_nothing() -> None:
    with pytest.raises(SpaceError, match="user=True"), Sandbox(net=True):
        pass


def start_another() -> None:
    Sandbox(user=True).start()


def test_a_function_in_a_sandbox_cannot_have_one() -> None:
    with Sandbox(user=True) as box, pytest.raises(SpaceError) as caught:
        box.call(start_another)
    assert "Permission denied" in str(caught.value)
    assert "hint: this process is not dumpable, as no function is" in str(caught.value)


HELD: list[Sandbox] = []


def forget() -> list[str]:
    """Drop the only reference to a sandbox; return the warnings."""
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        HELD.clear()
        gc.collect()
    return [str(one.message) for one in told]


def test_a_sandbox_that_is_forgotten_is_closed_with_a_warning() -> None:
    HELD.append(Sandbox(user=True))
    HELD[0].start()
    pid = HELD[0].pid
    command = HELD[0].popen(["sleep", "1000"])
    # A copy in another process does not close it.
    container = Container(target=forget, user=True)
    container.start()
    assert container.result() == []
    container.close()
    assert HELD[0].run(["true"]).returncode == 0
    assert forget() == [f"sandbox of process {pid} is still running"]
    assert has_ended(pid)
    assert command.wait() == -signal.SIGKILL
    # One that was closed, or never started, says nothing.
    with Sandbox(user=True) as box:
        HELD.append(box)
    del box
    assert forget() == []
    HELD.append(Sandbox(user=True))
    assert forget() == []


def test_a_visitor_ends_with_it() -> None:
    with Sandbox(user=True) as box:
        command = box.popen(["sleep", "1000"])
        visitor = Inject(command.pid, time.sleep, args=(1000,))
        visitor.start()
    assert visitor.exitcode == -signal.SIGKILL
    visitor.close()


def test_a_forked_process_that_leaves_it_ends_nothing() -> None:
    with Sandbox(user=True) as box:
        command = box.popen(["sleep", "1000"])
        if (pid := os.fork()) == 0:
            box.__exit__()
            os._exit(7)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
        assert command.poll() is None
        assert box.run(["true"]).returncode == 0
    assert command.wait() == -signal.SIGKILL


def test_a_launch_has_its_namespaces_though_another_thread_closes_the_sandbox() -> None:
    """By the numbers of closed descriptors, it would find what has been opened since then."""
    with Sandbox(user=True) as box:
        with box._joining() as where:
            before = [os.stat(join.path).st_ino for join in where.joins]
            box.close()
            others = [os.open("/dev/null", os.O_RDONLY) for _ in range(20)]
            assert [os.stat(join.path).st_ino for join in where.joins] == before
        for other in others:
            os.close(other)
        with pytest.raises(ValueError, match="not running"):
            box.run(["true"])


def test_it_is_closed_while_threads_use_it() -> None:
    kinds: set[type[BaseException]] = set()

    def use(box: Sandbox) -> None:
        try:
            while True:
                assert box.run(["true"]).returncode in (0, -signal.SIGKILL)
                assert box.call(abs, -7) == 7
        except (ValueError, SpaceError, NoResult) as error:
            kinds.add(type(error))

    before = os.listdir("/proc/self/fd")
    for _ in range(5):
        with Sandbox(user=True) as box:
            threads = [threading.Thread(target=use, args=(box,)) for _ in range(3)]
            for thread in threads:
                thread.start()
            box.run(["true"])
        for thread in threads:
            thread.join(60)
            assert not thread.is_alive()
    assert len(kinds) > 0
    assert len(os.listdir("/proc/self/fd")) == len(before)


def test_a_child_that_nobody_knows_of_keeps_it_from_nothing() -> None:
    """As one is left that a handler of a signal has interrupted right after the clone."""
    other = subprocess.Popen(["true"])  # not inside: its status is not to be taken
    box = Sandbox(user=True)
    box.start()
    command = box.popen(["sleep", "1000"])
    box._commands.clear()
    closing = threading.Thread(target=box.close, daemon=True)
    closing.start()
    closing.join(30)
    assert not closing.is_alive()
    with pytest.raises(ChildProcessError):
        os.waitpid(command.pid, 0)
    assert other.wait(30) == 0
    command.wait(30)  # its owner, if there is one, is told what can be told


def test_it_starts_in_a_program_without_standard_streams() -> None:
    code = (
        "import os; os.closerange(0, 2)\n"
        "from pyspaces import Sandbox\n"
        "with Sandbox(user=True) as box:\n"
        "    os._exit(box.call(abs, -7) + box.run(['true']).returncode)\n"
    )
    done = outcome([sys.executable, "-c", code])
    assert (done.returncode, done.stderr) == (7, "")


REAPED = """
import os, signal
from pyspaces import Sandbox

signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the kernel reaps all children
before = os.listdir("/proc/self/fd")
with Sandbox(user=True) as box:
    print(box.call(abs, -7), box.run(["true"]).returncode)
print(len(os.listdir("/proc/self/fd")) - len(before))
"""


def test_it_ends_in_a_program_that_does_not_reap_it() -> None:
    done = outcome([sys.executable, "-c", REAPED])
    assert (done.stdout, done.stderr) == ("7 0\n0\n", "")


@pytest.mark.needs("proc")
def test_the_end_of_a_program_that_has_forgotten_it() -> None:
    code = "import pyspaces; box = pyspaces.Sandbox(user=True); box.start(); print(box.pid)"
    done = outcome([sys.executable, "-c", code])
    assert (done.returncode, done.stderr) == (0, "")
    assert has_ended(int(done.stdout))


def test_a_sandbox_beneath_the_proc_of_the_host() -> None:
    code = (
        "import pyspaces\n"
        "with pyspaces.Sandbox(uts=True, hostname='box') as box:\n"
        "    print(box.run(['uname', '-n'], capture_output=True, text=True).stdout)\n"
    )
    words = [SCRIPT, "run", "--user", "--pid", "--no-mount-proc", "--"]
    done = outcome([*words, sys.executable, "-c", code])
    assert (done.returncode, done.stdout, done.stderr) == (0, "box\n\n", "")
