"""The launch server killed, stopped, lying or gone: the caller launches all the same, and waits
for nobody for ever."""

from __future__ import annotations

import marshal
import os
import select
import signal
import sys
import threading
from pathlib import Path

import pytest
from conftest import has_ended
from served import children, facts_of, program, seen, servers, start

from pyspaces import launch
from pyspaces.launch import rights
from pyspaces.launch.server import client, process, wire

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from typing import Any

pytestmark = pytest.mark.needs("userns")
# A server of which a part is replaced by the text in the middle.
FAULTY = (
    "import os, sys, time; sys.path.append(sys.argv[1])\n"
    "from pyspaces.launch import rights\nfrom pyspaces.launch.server import serving, wire\n"
    "real = rights.send\n"
    "{}\n"
    "serving.serve()\n"
)


@pytest.fixture(autouse=True)
def by_server() -> Iterator[None]:
    launch.use_server(True)
    yield
    launch.use_server(False)


def impatient(
    monkeypatch: pytest.MonkeyPatch, seconds: float, hangs: Callable[[Any], bool]
) -> None:
    """Wait for a server no longer than that where it hangs, and as long as it takes otherwise."""
    real = process._heard

    def heard(socket: Any) -> tuple[bytes, list[int]]:
        with monkeypatch.context() as changed:
            changed.setattr(process, "_PATIENCE", seconds if hangs(socket) else 60.0)
            return real(socket)

    monkeypatch.setattr(process, "_heard", heard)


def runs() -> None:
    with start("sh", "-c", "exit 3") as running:
        assert running.wait(60).code == 3


# --- its end --------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_one_that_was_killed_or_stopped_is_replaced(
    number: int, monkeypatch: pytest.MonkeyPatch, wait_until: Callable[..., None]
) -> None:
    runs()
    (old,) = servers()
    assert client._State.server
    stopped = client._State.server._socket
    impatient(monkeypatch, 0.5, lambda socket: socket is stopped)
    os.kill(old, number)
    wait_until(lambda: has_ended(old) or number == signal.SIGSTOP, "its end")
    runs()
    (new,) = servers()
    assert new != old
    assert children() == [new]


def test_signals_of_a_terminal_or_a_group_do_not_end_it() -> None:
    runs()
    before = servers()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGTSTP, signal.SIGPIPE):
        os.kill(before[0], number)
        runs()
        assert servers() == before


def kill_often(launches: int) -> None:
    ended = threading.Event()

    def kill() -> None:
        while not ended.is_set():
            for server in servers():
                try:
                    os.kill(server, signal.SIGKILL)
                except ProcessLookupError:
                    continue
            ended.wait(0.03)

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        for _ in range(launches):
            runs()
    finally:
        ended.set()
        killer.join()
    launch.use_server(False)
    assert children() == []


@pytest.mark.parametrize("launches", [8, pytest.param(300, marks=pytest.mark.stress)])
def test_killed_at_any_moment_it_leaves_nothing(launches: int) -> None:
    kill_often(launches)


def test_the_child_of_one_that_could_not_tell_of_it_is_ended(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    dying = "rights.send = lambda s, d, f: os._exit(9) if d[:1] == wire.CREATED else real(s, d, f)"
    monkeypatch.setattr(process, "_MAIN", FAULTY.format(dying))
    with start("sleep", "60") as running:
        # Twice there was a child; this one is forked.
        assert children() == [running.pid]
        running.send_signal(signal.SIGTERM)
        running.wait(60)


@pytest.mark.parametrize(
    "ending", ["sys.exit()", "os.kill(os.getpid(), 9)", "os.execv('/bin/true', ['true'])"]
)
def test_it_ends_with_its_caller_however_that_ends(
    ending: str, wait_until: Callable[..., None]
) -> None:
    done = program(f"seen('true'); print(*servers(), flush=True)\n{ending}")
    (number,) = map(int, done.stdout.split())
    wait_until(lambda: has_ended(number), "its end")


def test_nor_does_it_matter_who_else_holds_the_socket(wait_until: Callable[..., None]) -> None:
    """A fork of which Python knows nothing, as one by a library."""
    text = """
    import ctypes
    seen("true")
    number, holder = servers()[0], ctypes.CDLL(None).fork()
    if holder == 0:
        os.close(1), os.close(2)
        time.sleep(30)
        os._exit(0)
    print(number, holder, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
    """
    number, holder = map(int, program(text).stdout.split())
    try:
        wait_until(lambda: has_ended(number), "its end")
        assert not has_ended(holder)
    finally:
        os.kill(holder, signal.SIGKILL)


# --- callers that wait for any child --------------------------------------------------------------


def test_a_loop_that_does_not_block_finds_commands_only() -> None:
    text = """
    found, pids = [], []
    for _ in range(3):
        running = start("sh", "-c", "exit 3")
        pids.append(running.pid)
        while not found[len(pids) - 1:]:
            pid, word = os.waitpid(-1, os.WNOHANG)
            if pid:
                found.append(pid)
            time.sleep(0.001)
    for _ in range(100):
        assert os.waitpid(-1, os.WNOHANG) == (0, 0)
    assert found == pids, (found, pids)
    assert len(servers()) == 1
    """
    assert facts_of(text) == ""


def test_a_loop_that_waits_for_all_children_ends() -> None:
    text = """
    for turn in range(2):
        pids = {start("sh", "-c", "sleep 0.1; exit 3").pid for _ in range(3)}
        (server,) = servers()
        found = {}
        while True:
            try:
                pid, word = os.wait()
            except ChildProcessError:
                break
            found[pid] = os.waitstatus_to_exitcode(word)
        assert found == {**dict.fromkeys(pids, 3), server: 0}, (found, pids, server)
        launch.use_server(None)  # which does not end one
        launch.use_server(True)
    """
    assert facts_of(text) == ""


def test_it_stays_while_there_is_another_child_to_wait_for() -> None:
    text = """
    import subprocess
    seen("true")
    before = servers()
    with start("sleep", "1.5") as running:
        subprocess.run(["sleep", "1"])
        os.waitpid(running.pid, 0)
    seen("true")
    assert servers() == before
    """
    assert facts_of(text) == ""


# --- wrong answers --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "answer",
    [
        *(b"C", b"Cx", b"C-1", b"Z", b"E1\0clone3", b"Ex\0clone3\0", b"U1", b"C" + b"1" * 60_000),
        *(pytest.param(a, marks=pytest.mark.stress) for a in (b"C12", b"E", b"E1", b"\0", b"A")),
    ],
    ids=lambda answer: repr(answer[:12]),
)
def test_an_answer_that_is_none_of_ours_ends_the_server(
    answer: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    lying = f"serving._answer = lambda s, d, f: (rights.close(f), real(s, {answer!r}, []))"
    monkeypatch.setattr(process, "_MAIN", FAULTY.format(lying))
    runs()
    assert servers() == [] or answer[:1] == wire.UNABLE


def test_one_that_never_answers_is_not_waited_for_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    # Each says hello first.
    impatient(monkeypatch, 0.5, lambda socket: client._State.server is not None)
    slow = "serving._answer = lambda s, d, f: time.sleep(1000)"
    monkeypatch.setattr(process, "_MAIN", FAULTY.format(slow))
    runs()
    assert children() == []


@pytest.mark.parametrize(
    "text",
    [
        "os._exit(0)",
        "raise SystemExit('no')",
        "time.sleep(1000)",
        "os.write(3, b'hello'); time.sleep(1000)",
        "wire.program = lambda: (0, 0)",
        "wire.program = lambda: 5",
        "serving.facts = lambda rows: {}",
        "rights.send = lambda s, d, f: real(s, d, [])",
        "os.write(3, b'x' * 100_000); time.sleep(1000)",
    ],
)
def test_one_that_does_not_greet_as_ours_do_is_not_used(
    text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    impatient(monkeypatch, 0.5, lambda _: text == "time.sleep(1000)")
    monkeypatch.setattr(process, "_MAIN", FAULTY.format(text))
    runs()
    assert children() == []
    monkeypatch.setattr(process, "start", lambda: pytest.fail("another was tried"))
    runs()


@pytest.mark.parametrize("executable", ["", None, "/bin/true", "/nonexistent", "python3", "/"])
def test_without_an_interpreter_to_execute_the_caller_forks(
    executable: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", executable)
    runs()
    assert children() == []


def test_a_frozen_program_is_not_executed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mark = tmp_path / "mark"
    script = tmp_path / "program"
    script.write_text(f"#!/bin/sh\ntouch {mark}\n")
    script.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(script))
    monkeypatch.setattr(sys, "frozen", True, raising=False)
    runs()
    assert not mark.exists()


# --- wrong requests -------------------------------------------------------------------------------


def request(**changes: object) -> bytes:
    """Return a request for two descriptors of its own and one more, as bytes."""
    asked: dict[str, object] = {"command": ("true",), "handed": (None, None)}
    values: dict[str, object] = {
        "plan": marshal.dumps({"version": 2}),
        "variables": {},
        "mask": (),
        "ignored": (),
        "umask": 0,
        "held": False,
        "flags": 0,
        "targets": (0,),
        "own": 2,
    }
    assert tuple(values) == wire.Request._fields
    assert changes.keys() <= {*asked, *values, "packed"}
    asked |= {name: value for name, value in changes.items() if name in asked}
    values |= {name: value for name, value in changes.items() if name in values}
    packed = changes.get("packed", marshal.dumps((*values.values(),)))  # type: ignore[arg-type]
    return marshal.dumps((packed, *asked.values()))  # type: ignore[arg-type]


def in_memory(data: bytes, size: int | None = None) -> int:
    descriptor = os.memfd_create("request")
    os.write(descriptor, data)
    if size is not None:
        os.truncate(descriptor, size)
    return descriptor


def four(**changes: object) -> list[int]:
    """Return the descriptors of a request."""
    return [in_memory(request(**changes)), *three()]


def three(count: int = 3) -> list[int]:
    """Return the descriptors of a request that is in the message."""
    return [os.open("/", os.O_PATH) for _ in range(count)]


WRONG: dict[str, tuple[bytes, Callable[[], Sequence[int]]]] = {
    "an empty one": (b"", list),
    "no descriptor": (b"A", list),
    "another word": (b"B", lambda: [in_memory(request())]),
    "too long a word": (b"AA", lambda: [in_memory(request())]),
    "a message that is cut": (b"A" * 100_000, list),
    "a pipe": (b"A", lambda: list(os.pipe())),
    "a directory": (b"A", lambda: [os.open("/", os.O_RDONLY)]),
    "nothing": (b"A", lambda: [in_memory(b"")]),
    "rubbish": (b"A", lambda: [in_memory(os.urandom(5000))]),
    "too large": (b"A", lambda: [in_memory(request(), wire.LARGEST_REQUEST + 1)]),
    "too few fields": (b"A", lambda: [in_memory(marshal.dumps(({}, {})))]),
    "deep": (b"A", lambda: [in_memory(b"(\x01\0\0\0" * 100_000)]),
    "a large number": (b"A", lambda: [in_memory(request(own=1 << 80))]),
    "no descriptors for it": (b"A", lambda: [in_memory(request())]),
    "wrong types": (b"A", lambda: four(variables=[("A", "B")])),
    "truth for a number": (b"A", lambda: four(own=True)),
    "another plan": (b"A", lambda: four(plan=marshal.dumps({"version": 1}))),
    "an unknown field": (b"A", lambda: four(plan=marshal.dumps({"version": 2, "x": 1}))),
    "rubbish for a plan": (b"A", lambda: four(plan=os.urandom(50))),
    "a plan that is no dict": (b"A", lambda: four(plan=marshal.dumps(["version"]))),
    "no command": (b"A", lambda: four(command=None)),
    "nothing handed": (b"A", lambda: four(handed=None)),
    "too much handed": (b"A", lambda: four(handed=(None, None, None))),
    "a request that is not packed": (b"A", lambda: four(packed=())),
    "rubbish for a request": (b"A", lambda: four(packed=os.urandom(50))),
    "more targets": (b"A", lambda: four(targets=(0, 1, 2))),
    "more of its own": (b"A", lambda: four(own=4)),
    "rubbish in the message": (b"A" + os.urandom(5000), three),
    "too few fields in the message": (b"A" + marshal.dumps(({}, {})), three),
    "a message for another number": (b"A" + request(), lambda: three(2)),
    "a message for one number less": (b"A" + request(), lambda: three(4)),
}


@pytest.mark.parametrize("what", WRONG)
def test_a_request_that_is_none_of_ours_ends_the_dialogue(what: str) -> None:
    word, descriptors = WRONG[what]
    server = process.start()
    sent = descriptors()
    try:
        rights.send(server._socket, word, sent)
        poller = select.poll()
        poller.register(server._pidfd, select.POLLIN)
        assert poller.poll(60_000), "it goes on"
        ended = os.waitid(os.P_PIDFD, server._pidfd, os.WEXITED | os.WNOWAIT)
        assert ended
        assert ended.si_status in (0, 1)
    finally:
        rights.close(sent)
        server.end()


def test_an_interrupted_launch_leaves_no_answer_for_the_next(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real = process._heard
    turns = iter(range(3))

    def interrupted(socket: Any) -> tuple[bytes, list[int]]:
        if next(turns) == 1:  # the first is the hello
            raise KeyboardInterrupt
        return real(socket)

    monkeypatch.setattr(process, "_heard", interrupted)
    with pytest.raises(KeyboardInterrupt):
        start("true")
    assert children() == []
    monkeypatch.undo()
    assert seen("echo", "two") == "two\n"
