"""`pyspaces.run` and `pyspaces.Popen`, beyond what CPython's own tests of `subprocess` look at."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import pickle
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from conftest import outcome
from served import facts_of

import pyspaces
from pyspaces import SpaceError, UsageFault, launch, settings

pytestmark = pytest.mark.needs("userns", "pidns")

PIPE = subprocess.PIPE


@pytest.fixture(autouse=True, params=[False, True], ids=["by a fork", "by the server"])
def creator(request: pytest.FixtureRequest, no_leaks: None) -> Iterator[None]:
    """Have commands be created by this process, and by the launch server."""
    launch.use_server(request.param)
    yield
    launch.use_server(False)


def test_a_command_in_namespaces_talks_through_pipes() -> None:
    script = "cat; echo pid $$ uid $(id -u); echo wrong >&2; exit 3"
    done = pyspaces.run(
        ["sh", "-c", script], input="in\n", text=True, capture_output=True, user=True, pid=True
    )
    assert (done.returncode, done.stdout, done.stderr) == (3, "in\npid 1 uid 0\n", "wrong\n")
    assert done.status is not None
    assert done.status.code == 3
    assert done.usage is not None
    assert 0 < done.usage.wall < 60


def test_a_function_is_refused_with_what_runs_one() -> None:
    for start in (pyspaces.run, pyspaces.Popen):
        with pytest.raises(
            TypeError, match=r"is of type function: pyspaces\.Container\(function\)"
        ):
            start(lambda: None, user=True)  # type: ignore[arg-type]


def test_check_and_timeout_raise_what_subprocess_raises() -> None:
    with pytest.raises(subprocess.CalledProcessError) as failed:
        pyspaces.run(["sh", "-c", "echo out; exit 4"], stdout=PIPE, check=True, user=True)
    assert (failed.value.returncode, failed.value.stdout) == (4, b"out\n")
    with pytest.raises(subprocess.TimeoutExpired):
        pyspaces.run(["sleep", "1000"], timeout=0.05, user=True, pid=True)


@contextlib.contextmanager
def started(*command: str, **more: Any) -> Iterator[Any]:
    """Start a command; it is ended when the test has failed, or __exit__ would wait for it."""
    with pyspaces.Popen(list(command), user=True, **more) as process:
        try:
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize("space", [{}, {"pid": True}, {"pid": True, "init": True}])
def test_signals_end_it_and_are_told(space: Any) -> None:
    with started("sleep", "1000", **space) as process:
        process.terminate()
        assert process.wait(60) == -signal.SIGTERM
        assert process.status is not None
        assert process.status.signal == signal.SIGTERM


@pytest.mark.parametrize("space", [{}, {"pid": True}, {"pid": True, "init": True}])
def test_the_end_of_input_and_of_output_is_seen(space: Any) -> None:
    """Nobody but the command holds a copy of its pipes: neither we nor our process 1."""
    with started("cat", stdin=PIPE, stdout=PIPE, **space) as process:
        out, _ = process.communicate(b"x" * 300_000, timeout=60)
    assert len(out) == 300_000
    script = "exec >&-; exec sleep 1000"
    with started("sh", "-c", script, stdout=PIPE, **space) as process:
        assert process.stdout.read() == b""


def test_only_the_descriptors_that_are_passed_arrive() -> None:
    kept, other = os.open("/", os.O_RDONLY), os.open("/", os.O_RDONLY)
    os.set_inheritable(other, True)
    try:
        command = ["ls", "/proc/self/fd"]
        done = pyspaces.run(command, pass_fds=[kept], stdout=PIPE, text=True, user=True)
        # One more is that of the directory, which is being read: a number that was free.
        found = done.stdout.split()
        assert str(kept) in found
        assert len(found) == 5
        done = pyspaces.run(command, close_fds=False, stdout=PIPE, text=True, user=True)
        assert str(other) in done.stdout.split()
    finally:
        os.close(kept)
        os.close(other)


# Here, not by parameters of this process: by a fork and by the server, in another interpreter.
ONCE = pytest.mark.parametrize("creator", [False], ids=["by both"], indirect=True)
BOTH = """
import os, sys, pyspaces
from pyspaces import launch
for by_server in (False, True):
    launch.use_server(by_server)
"""


@ONCE
def test_streams_in_each_other_s_place() -> None:
    """Standard output and error are exchanged; a naive dup2 would make one of them both."""
    code = (
        BOTH
        + """
    os.write(1, b"ours\\n")
    script = "echo out; echo err >&2"
    pyspaces.run(["sh", "-c", script], stdout=2, stderr=1, user=True, check=True)
"""
    )
    done = outcome([sys.executable, "-c", code])
    assert (done.returncode, done.stdout, done.stderr) == (0, "ours\nerr\n" * 2, "out\n" * 2)


@ONCE
def test_a_caller_without_standard_streams() -> None:
    code = (
        BOTH
        + """
    for closed in ("0", "1", "2", "0 1 2"):
        pid = os.fork()
        if pid:
            assert os.waitpid(pid, 0)[1] == 0, (by_server, closed)
            continue
        for number in closed.split():
            os.close(int(number))
        words = ["sh", "-c", "cat; echo ok"]
        done = pyspaces.run(words, input=b"in ", capture_output=True, user=True)
        launch.use_server(False)
        os._exit(0 if done.stdout == b"in ok\\n" else 1)
"""
    )
    done = outcome([sys.executable, "-c", code])
    assert (done.returncode, done.stderr) == (0, "")


def test_a_command_that_is_missing_is_what_subprocess_raises() -> None:
    with pytest.raises(FileNotFoundError, match="cannot execute the command: no-such") as caught:
        pyspaces.run(["no-such-command"], user=True)
    assert isinstance(caught.value, SpaceError)
    assert (caught.value.errno, caught.value.filename) == (2, "no-such-command")
    assert caught.value.report is not None
    caught.value.add_note("while it was tried")
    again = pickle.loads(pickle.dumps(caught.value))
    assert again.__notes__ == ["while it was tried"]
    assert isinstance(again, FileNotFoundError)
    assert isinstance(again, SpaceError)
    assert (again.errno, again.filename, str(again)) == (2, "no-such-command", str(caught.value))
    with pytest.raises(
        FileNotFoundError, match="cannot execute the command: /no/such: No"
    ) as caught:
        pyspaces.run(["true"], executable="/no/such", user=True)
    assert caught.value.filename == "/no/such"
    with pytest.raises(PermissionError):
        pyspaces.run(["/etc"], user=True)
    with pytest.raises(FileNotFoundError) as caught:
        pyspaces.run(["true"], user=True, cwd="/no-such-directory")
    assert caught.value.filename == "/no-such-directory"


def test_a_failed_launch_says_why_though_something_else_reaps_its_child() -> None:
    action = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        with pytest.raises(FileNotFoundError, match="cannot execute the command: no-such"):
            pyspaces.run(["no-such-command"], user=True)
        with pytest.raises(NotADirectoryError, match="working directory: /etc/passwd"):
            pyspaces.run(["true"], user=True, cwd="/etc/passwd")
    finally:
        signal.signal(signal.SIGCHLD, action)


@pytest.mark.needs("pidns")
def test_process_1_reaps_though_its_caller_ignores_the_end_of_children() -> None:
    words = ["grep", "SigIgn", "/proc/self/status"]
    action = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        plain = subprocess.run(words, capture_output=True, check=False)
        done = pyspaces.run(words, user=True, pid=True, init=True, timeout=60, capture_output=True)
    finally:
        signal.signal(signal.SIGCHLD, action)
    assert done.stdout == plain.stdout


@pytest.mark.as_ordinary
def test_a_refusal_by_the_kernel_is_an_os_error() -> None:
    with pytest.raises(PermissionError, match=r"hint: .*user=True") as caught:
        pyspaces.run(["true"], net=True)
    assert isinstance(caught.value, SpaceError)


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"hostname": "x" * 65, "user": True}, "hostname"),
    ({"user": 1000}, "user: is whether"),
    ({"group": 5}, "group: use setgid"),
    ({"pty": True}, "pty: use a pseudo-terminal"),
    ({"hold": True}, "hold: there is always a command"),
    ({"preexec_fn": print}, "preexec_fn: cannot run"),
    ({"plan": settings.plan_from({"command": ["true"]}), "pid": True}, "plan: cannot be combined"),
]


NUMBERS: list[tuple[dict[str, Any], type[Exception]]] = [
    ({"pass_fds": ["a"]}, ValueError),
    ({"pass_fds": [-1]}, ValueError),
    ({"pass_fds": [1 << 40]}, ValueError),
    ({"process_group": "a"}, TypeError),
    ({"process_group": 1.5}, TypeError),
    ({"process_group": 1 << 40}, UsageFault),
    ({"umask": 1 << 40}, UsageFault),
    ({"stdout": subprocess.STDOUT}, OSError if sys.version_info < (3, 13) else ValueError),
    ({"stdin": -7}, OSError),
]


@ONCE
@pytest.mark.parametrize(("words", "kind"), NUMBERS)
def test_numbers_that_are_none_are_no_internal_error(
    words: dict[str, Any], kind: type[Exception]
) -> None:
    with pytest.raises(kind) as caught:
        pyspaces.run(["true"], **words)
    assert "internal error" not in str(caught.value)


@ONCE
@pytest.mark.parametrize(
    ("words", "call"),
    [
        ({"process_group": 999999}, "setpgid: Operation not permitted"),
        ({"pass_fds": [777]}, "pass_fds: Bad file descriptor"),
        ({"stdout": 777}, "dup2: Bad file descriptor"),
    ],
)
def test_what_cannot_be_handed_over_is_named_and_is_not_the_program(
    words: dict[str, Any], call: str
) -> None:
    with pytest.raises(OSError, match=f"cannot execute the command: {call}$") as caught:
        pyspaces.run(["true"], **words)
    assert caught.value.filename is None


@ONCE
@pytest.mark.parametrize(("words", "text"), WRONG)
def test_settings_that_cannot_be_meant(words: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match=text) as caught:
        pyspaces.run(["true"], **words)
    assert isinstance(caught.value, UsageFault)
    again = pickle.loads(pickle.dumps(caught.value))
    assert (str(again), again.faults) == (str(caught.value), caught.value.faults)


def test_the_settings_of_the_last_command_do_not_hide_a_fault_of_the_next() -> None:
    """A plan of namespaces alone is kept for the next command with the same."""
    for _ in range(2):
        assert pyspaces.run(["true"], user=True, pid=True).returncode == 0
        with pytest.raises(UsageFault, match="user: is whether"):
            pyspaces.run(["true"], user=1, pid=True)  # type: ignore[arg-type]
        with pytest.raises(UsageFault, match="pid: takes True or False"):
            pyspaces.run(["true"], user=True, pid=1)  # type: ignore[arg-type]
        with pytest.raises(UsageFault, match="holds a NUL"):
            pyspaces.run(["tr\0ue"], user=True, pid=True)
        with pytest.raises(UsageFault, match="no command"):
            pyspaces.run([], user=True, pid=True)
        with pytest.raises(TypeError, match="unexpected keyword"):
            pyspaces.run(["true"], user=True, pidd=True)  # type: ignore[call-arg]
        assert pyspaces.run(["sh", "-c", "exit 3"], user=True, pid=True).returncode == 3


@pytest.mark.as_root
def test_other_ids_are_mapped_after_a_change_of_user() -> None:
    text = """
        import os, pyspaces
        from pyspaces.kernel import libc
        words = ["cat", "/proc/self/uid_map", "/proc/self/gid_map"]
        for user in (0, 1234, 1235):
            if user:
                os.setresgid(user, user, 0), os.setresuid(user, user, 0)
                libc.set_dumpable(dumpable=True)  # or only root could write the maps
            done = pyspaces.run(words, user=True, capture_output=True, text=True)
            print(done.stdout.split())
            os.setresuid(0, 0, 0), os.setresgid(0, 0, 0)
    """
    lines = facts_of(text).splitlines()
    assert lines == [str(["0", str(user), "1"] * 2) for user in (0, 1234, 1235)]


def test_a_plan_that_holds_namespaces_takes_no_command() -> None:
    plan = settings.plan_from({"user": True, "hold": True, "name": "held"})
    with pytest.raises(UsageFault, match="hold"):
        pyspaces.run(["true"], plan=plan)


def test_a_plan_instead_of_settings() -> None:
    plan = settings.plan_from({"command": ["false"], "user": True, "hostname": "box", "uts": True})
    done = pyspaces.run(["uname", "-n"], plan=plan, stdout=PIPE, text=True)
    assert done.stdout == "box\n"


def test_a_shell_its_arguments_and_its_directory(tmp_path: Any) -> None:
    done = pyspaces.run(
        "pwd; echo $A $0",
        shell=True,
        cwd=tmp_path,
        env={"A": "b"},
        stdout=PIPE,
        text=True,
        user=True,
    )
    assert done.stdout == f"{tmp_path}\nb /bin/sh\n"


def test_it_outlives_the_thread_that_started_it() -> None:
    started: list[Any] = []

    def start() -> None:
        started.append(pyspaces.Popen(["sh", "-c", "read x"], stdin=PIPE, user=True, pid=True))

    thread = threading.Thread(target=start)
    thread.start()
    thread.join()
    with started[0] as process:
        process.communicate(b"\n", timeout=60)
        assert process.returncode == 0


def in_loop(body: Callable[[], Any]) -> None:
    asyncio.run(body(), debug=True)


def test_asyncio_streams_signals_and_errors() -> None:
    async def body() -> None:
        process = await pyspaces.create_subprocess_exec(
            *("sh", "-c", "cat; echo $$ >&2; exit 5"),
            stdin=PIPE,
            stdout=PIPE,
            stderr=PIPE,
            user=True,
            pid=True,
        )
        assert await process.communicate(b"hi") == (b"hi", b"1\n")
        assert process.returncode == 5
        assert process.status is not None
        assert process.status.code == 5
        process = await pyspaces.create_subprocess_shell("exec sleep 1000", user=True)
        process.terminate()
        assert await process.wait() == -signal.SIGTERM
        with pytest.raises(FileNotFoundError):
            await pyspaces.create_subprocess_exec("no-such-command", user=True)
        with pytest.raises(ValueError, match="text: the streams of asyncio carry bytes"):
            await pyspaces.create_subprocess_exec("true", text=True)  # type: ignore[call-arg]

    in_loop(body)


# What asyncio takes, and what it refuses, for the sake of `subprocess`.
MOOT = {"text": False, "encoding": None, "errors": None, "universal_newlines": False, "bufsize": 0}


@ONCE
def test_asyncio_takes_and_refuses_what_asyncio_does() -> None:
    async def of(module: Any) -> None:
        start, start_shell = module.create_subprocess_exec, module.create_subprocess_shell
        assert await (await start("true", **MOOT, shell=False)).wait() == 0
        assert await (await start_shell("exit 3", **MOOT, shell=True)).wait() == 3
        refused: list[Callable[[], Any]] = [
            lambda: start("true", shell=True),
            lambda: start("true", bufsize=1),
            lambda: start_shell("true", shell=False),
            lambda: start_shell(["true"]),
        ]
        for call in refused:
            with pytest.raises(ValueError, match=r"shell|bufsize|cmd"):
                await call()

    in_loop(lambda: of(asyncio))
    in_loop(lambda: of(pyspaces))


@pytest.mark.filterwarnings("ignore::ResourceWarning")  # asyncio's own, of its transport
def test_a_loop_that_is_closed_early_leaves_no_descriptor() -> None:
    async def body() -> int:
        return (await pyspaces.create_subprocess_exec("sleep", "1000", user=True)).pid

    pid = asyncio.run(body())
    gc.collect()
    # Nobody has the transport any more, so the command is killed; the next Popen sees to the rest.
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, 0)
    pyspaces.run(["true"], user=True)


def test_a_cancelled_task_ends_the_command_and_all_beneath_it() -> None:
    async def body() -> None:
        script = "sleep 1000 & exec sleep 1000"
        process = await pyspaces.create_subprocess_exec(
            "sh", "-c", script, user=True, pid=True, stdout=PIPE
        )
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(process.communicate(), 0.05)
        assert process.returncode == -signal.SIGKILL

    in_loop(body)


@pytest.mark.anyone
@pytest.mark.parametrize("count", [8, pytest.param(1000, marks=pytest.mark.stress)])
def test_many_at_once_leave_nothing_behind(count: int) -> None:
    async def one(number: int) -> bytes:
        process = await pyspaces.create_subprocess_exec(
            "echo", str(number), user=True, pid=True, stdout=PIPE
        )
        return (await process.communicate())[0]

    async def body() -> None:
        found = await asyncio.gather(*(one(number) for number in range(count)))
        assert found == [b"%d\n" % number for number in range(count)]

    in_loop(body)
