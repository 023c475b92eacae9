"""Python in the namespaces of another process: Inject and setns."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import threading
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from conftest import SCRIPT, processes_of

import pyspaces
from pyspaces import Inject, SpaceError, UsageFault, setns
from pyspaces.kernel import namespaces

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.needs("userns", "pidns", "netns")


def links(process: int | str = "self") -> dict[str, str]:
    return {
        row.name: os.readlink(f"/proc/{process}/ns/{row.link}")
        for row in namespaces.NAMESPACES
        if row.name in namespaces.supported()
    }


def where() -> tuple[dict[str, str], int, int, str]:
    return links("thread-self"), os.getuid(), os.getgid(), socket.gethostname()


@contextmanager
def sandbox(*options: str) -> Iterator[int]:
    """Start a sandbox with the command line, and give the pid of its command."""
    script = "echo up; exec cat"
    with subprocess.Popen(
        [SCRIPT, "run", *options, "--", "sh", "-c", script],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as launcher:
        assert launcher.stdout is not None
        assert launcher.stdout.readline() == b"up\n"
        (child,) = processes_of(launcher.pid)
        yield child
        assert launcher.stdin is not None
        launcher.stdin.close()


def pid_namespace_of_a_child() -> str:
    return subprocess.check_output(["readlink", "/proc/self/ns/pid"], text=True).strip()


def result_of(process: Inject) -> Any:
    process.start()
    value = process.result(60)
    process.close()
    return value


def test_inject_joins_all_that_differ_and_is_root_there() -> None:
    with sandbox("-Upnuim", "--hostname", "box") as target:
        found, uid, gid, name = result_of(Inject(target, where))
        theirs = links(target)
    assert found == theirs
    assert (uid, gid, name) == (0, 0, "box")


def test_inject_is_the_first_mapped_user_where_root_is_not_mapped() -> None:
    with sandbox("-Uc") as target:
        _, uid, gid, _ = result_of(Inject(target, where))
    assert (uid, gid) == (os.getuid(), os.getgid())


def test_inject_joins_the_named_only() -> None:
    with sandbox("-Unu", "--hostname", "box") as target:
        found, _, _, name = result_of(Inject(target, where, user=True, uts=True))
        theirs = links(target)
    assert name == "box"
    assert {row for row in found if found[row] == theirs[row] != links()[row]} == {"user", "uts"}


def test_inject_is_a_process_of_the_joined_pid_namespace() -> None:
    with sandbox("-Upm") as target:
        inside = result_of(Inject(target, os.getpid))
    assert inside > 1


def test_inject_from_a_thread_beside_busy_ones() -> None:
    stop = threading.Event()

    def busy() -> None:
        while not stop.is_set():
            sorted(os.urandom(1000))

    noise = [threading.Thread(target=busy) for _ in range(2)]
    with sandbox("-Uu", "--hostname", "box") as target:
        for thread in noise:
            thread.start()
        try:
            names = [result_of(Inject(target, socket.gethostname)) for _ in range(2)]
        finally:
            stop.set()
            for thread in noise:
                thread.join()
    assert names == ["box"] * 2


def test_inject_passes_on_what_the_function_raises() -> None:
    with sandbox("-U") as target:
        process = Inject(target, int, args=("x",))
        process.start()
        with pytest.raises(ValueError, match="invalid literal"):
            process.result(60)
        process.close()


def test_inject_into_a_process_that_has_ended() -> None:
    with subprocess.Popen(["unshare", "-U", "true"]) as target:
        # Not yet reaped: its number is given to no other one.
        os.waitid(os.P_PID, target.pid, os.WEXITED | os.WNOWAIT)
        with pytest.raises(SpaceError, match="No such process"):
            Inject(target.pid, where).start()


@pytest.mark.as_ordinary
def test_inject_without_the_right_names_the_namespace() -> None:
    with pytest.raises(SpaceError, match=r"/proc/1/ns/\w+: Permission denied"):
        Inject(1, where).start()
    with sandbox("-Un") as target, pytest.raises(SpaceError, match=r"setns .*/ns/net: Operation"):
        Inject(target, where, net=True).start()


@pytest.mark.parametrize("wrong", [0, -1, True, "1"])
def test_a_target_that_is_no_pid(wrong: Any) -> None:
    with pytest.raises(UsageFault, match="target_pid"):
        Inject(wrong, where)
    with pytest.raises(UsageFault, match="target_pid"), setns(wrong, net=True):
        pass


@pytest.mark.as_root
def test_setns_enters_and_comes_back() -> None:
    before = where()
    with sandbox("-puni", "--hostname", "box") as target:
        theirs = links(target)
        with setns(target) as names:
            assert set(names) == {"pid", "uts", "net", "ipc"}
            found, _, _, name = where()
            assert name == "box"
            assert {row: found[row] for row in ("uts", "net", "ipc")} == {
                row: theirs[row] for row in ("uts", "net", "ipc")
            }
            assert pid_namespace_of_a_child() == theirs["pid"]
        assert where() == before
    assert pid_namespace_of_a_child() == links()["pid"]


@pytest.mark.as_root
def test_setns_of_mounts_brings_root_and_directory_back(tmp_path: Path) -> None:
    """In a process of its own: of pytest's, threads could be left over from other tests."""
    (tmp_path / "mark").touch()
    program = (
        "import os, sys, pyspaces\n"
        "target, there = int(sys.argv[1]), sys.argv[2]\n"
        "os.chdir(there)\n"
        "with pyspaces.setns(target, mount=True):\n"
        "    assert not os.path.exists(there + '/mark'), 'still outside'\n"
        "assert os.listdir('.') == ['mark'] and os.getcwd() == there\n"
        "assert os.stat('/').st_ino == int(sys.argv[3])\n"
    )
    words = ["unshare", "-m", "sh", "-c", f"mount -t tmpfs none {tmp_path}; echo up; exec cat"]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as target:
        assert target.stdout is not None
        target.stdout.readline()
        python = [sys.executable, "-c", program]
        root = str(os.stat("/").st_ino)
        subprocess.run([*python, str(target.pid), str(tmp_path), root], check=True)
        assert target.stdin is not None
        target.stdin.close()


@pytest.mark.as_root
def test_setns_comes_back_when_the_block_raises() -> None:
    before = where()
    with sandbox("-u", "--hostname", "box") as target:
        with pytest.raises(ZeroDivisionError, match="box"), setns(target, uts=True):
            raise ZeroDivisionError(socket.gethostname())
        assert where() == before


# Within a user namespace: a target whose network is of that namespace, and whose UTS is the host's.
VISIT = """
unshare -n sleep 1000 & target=$!
while [ "$(readlink /proc/$target/ns/net)" = "$(readlink /proc/self/ns/net)" ]; do sleep 0.01; done
unshare $1 $2 -c '
import os, sys, pyspaces
net = os.readlink("/proc/thread-self/ns/net")
try:
    with pyspaces.setns(int(sys.argv[1]), net=True, uts=True): pass
except pyspaces.SpaceError as error:
    print(error, net == os.readlink("/proc/thread-self/ns/net"))
' $target
kill $target
"""


def told_of_visit(unshared: str) -> str:
    words = ["unshare", "-Ur", "sh", "-c", VISIT, "sh", unshared, sys.executable]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        return process.stdout.read().strip()


def test_setns_that_is_refused_halfway_comes_back() -> None:
    told = told_of_visit("-un")
    assert re.search(r"join .*: setns /proc/\d+/ns/uts: Operation not permitted True$", told), told


def test_setns_does_not_leave_what_it_cannot_come_back_to() -> None:
    told = told_of_visit("-u")
    assert re.search(r"cannot return to .*/net: .*: Operation not permitted True$", told), told


def test_setns_refuses_a_user_namespace_by_its_rule() -> None:
    before = where()
    with (
        sandbox("-U") as target,
        pytest.raises(SpaceError, match="cannot be left again") as caught,
        setns(target),
    ):
        pass
    assert "Inject" in (caught.value.hint or "")
    assert where() == before


def test_setns_refuses_threads_by_the_kernels_rule() -> None:
    stop = threading.Event()
    thread = threading.Thread(target=stop.wait)
    thread.start()
    try:
        with (
            sandbox("-Um") as target,
            pytest.raises(SpaceError, match="more than one thread") as caught,
            setns(target, mount=True),
        ):
            pass
    finally:
        stop.set()
        thread.join()
    assert "setns(2)" in str(caught.value)


@pytest.mark.as_ordinary
def test_setns_without_the_right_names_the_namespace() -> None:
    with (
        sandbox("-Un") as target,
        pytest.raises(SpaceError, match=r"/ns/net: Operation not permitted"),
        setns(target, net=True),
    ):
        pass


def test_the_public_names() -> None:
    for name in pyspaces.__all__:
        assert getattr(pyspaces, name) is not None
        assert name in dir(pyspaces)
    with pytest.raises(AttributeError, match="nothing_of_it"):
        _ = pyspaces.nothing_of_it
