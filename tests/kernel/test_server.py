"""The launch server: what is created by it is as what the caller itself would have created."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import random
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest
from conftest import IS_ROOT, PROBE, has_ended
from served import children, facts_of, program, seen, servers, start

import pyspaces
from pyspaces import Container, SpaceError, launch, recent, settings
from pyspaces.kernel import procfs
from pyspaces.launch import starting
from pyspaces.launch.server import choice, client

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from typing import Any

pytestmark = pytest.mark.needs("userns")
PYTHON = [sys.executable, "-I", "-S"]


@pytest.fixture(autouse=True)
def by_server() -> Iterator[None]:
    launch.use_server(True)
    yield
    launch.use_server(False)


@pytest.fixture
def no_fork(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is started in the test goes through the server."""

    def refuse(*_: object) -> None:
        raise AssertionError("forked")

    monkeypatch.setattr(starting, "_spawn", refuse)


@pytest.fixture
def no_server(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing that is started in the test may go through the server."""

    def refuse(*_: object) -> None:
        raise AssertionError("asked a server")

    monkeypatch.setattr(client, "_create", refuse)


def told(*command: str, **values: Any) -> Any:
    """Return what a command prints, as JSON."""
    return json.loads(seen(*command, **values))


def anonymous(pid: int) -> int:
    """Return the KiB of resident memory that a process has to itself."""
    return int((procfs.status_field(pid, "RssAnon") or "").split()[0])


def descriptors_inside() -> list[int]:
    """Return the descriptors of a command."""
    # That of the listing is closed by the time that it is looked at.
    listing = (
        "[int(n) for n in os.listdir('/proc/self/fd') if os.path.exists(f'/proc/self/fd/{n}')]"
    )
    found: list[int] = told(*PYTHON, "-c", f"import os, json; print(json.dumps(sorted({listing})))")
    return found


# --- a child as any other ------------------------------------------------------------------------


@pytest.mark.usefixtures("no_fork")
def test_the_command_is_a_child_of_the_caller() -> None:
    with start("sleep", "60") as running:
        (server,) = servers()
        assert {server, running.pid} <= set(children())
        assert os.waitpid(running.pid, os.WNOHANG) == (0, 0)
        signal.pidfd_send_signal(running.pidfd, signal.SIGTERM)
        assert running.wait(60).signal == signal.SIGTERM
    with start("sh", "-c", "exit 7") as running:
        pid, word = os.waitpid(running.pid, 0)
        assert (pid, os.waitstatus_to_exitcode(word)) == (running.pid, 7)
    assert servers() == [server]


@pytest.mark.usefixtures("no_fork")
def test_usage_and_stops_are_those_of_the_command() -> None:
    with start("sh", "-c", "kill -STOP $$; exit 3") as running:
        stopped = os.waitid(os.P_PID, running.pid, os.WSTOPPED)
        assert stopped
        assert stopped.si_status == signal.SIGSTOP
        running.send_signal(signal.SIGCONT)
        assert running.wait(60).code == 3
        assert running.usage
        assert running.usage.peak_memory > 100_000


WORLDS = [
    {},
    {"pid": True},
    {"all": True, "hostname": "box"},
    {"user": False},
    {"pid": True, "init": True},
    {"mount": True, "mounts": [["ro-bind", "/etc", "/opt"], ["tmpfs", "/mnt"]]},
    {"pid": True, "mounts": [["host-ro"], ["throwaway"]], "cap_drop": ["ALL"]},
    {"workdir": "/usr", "clearenv": True, "setenv": [["A", "B"]]},
    {"new_session": True, "time": True, "boottime": "5"},
    {"setuid": "0", "no_new_privs": True},
]


def world(**values: Any) -> Any:
    facts = told(*PYTHON, PROBE, "world", **values)
    if values.get("time") or values.get("all"):
        facts.pop("mounts", None)
    return facts


@pytest.mark.needs("pidns", "netns", "timens", "proc")
@pytest.mark.parametrize("values", WORLDS, ids=lambda values: "-".join(values) or "user")
def test_the_command_finds_what_it_would_find_without_a_server(values: dict[str, Any]) -> None:
    if not values.get("user", True) and os.geteuid():
        values = {}
    reading, writing = os.pipe()
    os.set_inheritable(reading, True)
    os.dup2(reading, 77)
    try:
        through = world(**values)
        assert servers()
        launch.use_server(False)
        assert through == world(**values)
        assert 77 in through["fds"]
    finally:
        for descriptor in (reading, writing, 77):
            os.close(descriptor)


# --- what is sent each time ----------------------------------------------------------------------


@pytest.mark.usefixtures("no_fork")
def test_directory_umask_and_environment_are_those_of_the_moment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = "import os,json; print(json.dumps([os.getcwd(), os.umask(0), os.environ.get('NOW')]))"
    facts = [told(*PYTHON, "-c", code)]
    server = servers()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NOW", "é\udc80")
    before = os.umask(0o037)
    try:
        facts.append(told(*PYTHON, "-X", "utf8", "-c", code))
    finally:
        os.umask(before)
    assert facts[1] == [str(tmp_path), 0o037, "é\udc80"]
    assert facts[0][0] != facts[1][0]
    assert servers() == server


@pytest.mark.usefixtures("no_fork")
def test_a_directory_without_a_path_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    code = f"import os; print(int(os.stat('.').st_ino == {os.stat('.').st_ino}))"
    assert told(*PYTHON, "-c", code) == 1
    monkeypatch.chdir("/")


@pytest.mark.usefixtures("no_fork")
def test_signals_are_as_the_caller_has_them() -> None:
    names = ("SigBlk", "SigIgn")
    code = (
        "import json; rows = dict(line.split(':') for line in open('/proc/self/status') if "
        "line.startswith('Sig')); print(json.dumps([int(rows[n].strip().split('/')[0], 16) "
        f"for n in {names!r}]))"
    )
    # Python itself ignores two more.
    python = 1 << (signal.SIGPIPE - 1) | 1 << (signal.SIGXFSZ - 1)
    assert told(*PYTHON, "-c", code) == [0, python]
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR2])
    action = signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    try:
        blocked, ignored = told(*PYTHON, "-c", code)
    finally:
        signal.signal(signal.SIGUSR1, action)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGUSR2])
    assert blocked == 1 << (signal.SIGUSR2 - 1)
    assert ignored == python | 1 << (signal.SIGUSR1 - 1)


@pytest.mark.usefixtures("no_fork")
def test_every_inheritable_descriptor_arrives_and_no_other() -> None:
    files = [os.open("/dev/null", os.O_RDONLY) for _ in range(20)]
    numbers = {3, 4, 5, 9, 60, 200}
    spare = {number: os.dup(number) for number in numbers if _is_open(number)}
    try:
        for number in numbers:
            os.dup2(files[0], number)
        expected = sorted(
            int(name)
            for name in os.listdir("/proc/self/fd")
            if _is_open(int(name)) and os.get_inheritable(int(name))
        )
        assert numbers <= set(expected)
        assert descriptors_inside() == expected
    finally:
        for number in numbers:
            os.close(number)
        for number, copy in spare.items():
            os.dup2(copy, number, inheritable=False)
            os.close(copy)
        for file in files:
            if _is_open(file):
                os.close(file)


def _is_open(number: int) -> bool:
    try:
        os.fstat(number)
    except OSError:
        return False
    return True


def test_each_descriptor_is_the_one_that_has_its_number() -> None:
    """Whatever numbers the server itself has them by, from 5 on, and its own, 3 and 4."""
    text = """
        import json, sys
        seen("true")
        taken = {int(name) for name in os.listdir("/proc/self/fd")}
        files = {n: os.memfd_create(f"file-{n}") for n in range(60, 120)}
        wanted = {n: f"/memfd:file-{n + 60} (deleted)" for n in range(3, 50) if n not in taken}
        for number in wanted:
            os.dup2(files[number + 60], number)
        code = "import os, sys; print([os.readlink(f'/proc/self/fd/{n}') for n in sys.argv[1:]])"
        found = seen(sys.executable, "-I", "-S", "-c", code, *map(str, wanted))
        assert found == f"{list(wanted.values())}\\n", found
        assert len(wanted) > 30 and len(servers()) == 1
        print("right")
    """
    assert facts_of(text) == "right\n"


@pytest.mark.usefixtures("no_fork")
def test_a_launch_is_not_taken_for_the_one_before_it() -> None:
    """A plan like the last one is not sent and read anew; what differs arrives all the same."""
    echo = ("sh", "-c", 'echo "$0 $A $(hostname)"')
    for _ in range(2):
        assert seen(*echo[:2], "echo one") == "one\n"
        assert seen(*echo[:2], "echo two") == "two\n"
        assert seen(*echo, "x", setenv=[["A", "1"]], uts=True, hostname="box") == "x 1 box\n"
        assert seen(*echo, "y", setenv=[["A", "1"]], uts=True, hostname="box") == "y 1 box\n"
        assert seen(*echo, "y", setenv=[["A", "2"]], uts=True, hostname="box") == "y 2 box\n"
        assert seen(*echo, "y", setenv=[["A", "2"]], uts=True, hostname="bix") == "y 2 bix\n"


@pytest.mark.usefixtures("no_fork")
def test_launches_of_more_kinds_than_are_known_are_told_apart(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The caller and the server know the last few; these come in a random order."""
    kinds = [*itertools.product(("box", "bix"), ("1", "2", "3"), (0o21, 0o22, 0o27))]
    assert len(kinds) > 2 * recent._MOST
    order = [(*kind, word) for kind in kinds for word in ("one", "two")] * 2
    random.Random(18).shuffle(order)
    before = os.umask(0)
    try:
        for hostname, value, umask, word in order:
            monkeypatch.setenv("A", value)
            os.umask(umask)
            echo = ("sh", "-c", 'echo "$0 $A $(hostname) $(umask)"', word)
            found = seen(*echo, uts=True, hostname=hostname)
            assert found == f"{word} {value} {hostname} {umask:04o}\n"
    finally:
        os.umask(before)


@pytest.mark.usefixtures("no_fork")
@pytest.mark.needs("pidns")
def test_the_pipe_of_process_1_is_that_of_its_own_launch() -> None:
    """Long words are in a file that comes along, and the descriptors behind it move."""
    for word in ("x", "y" * 40_000, "x"):
        done = pyspaces.run(["sh", "-c", "exit 3", word], user=True, pid=True, init=True)
        assert done.returncode == 3


@pytest.mark.usefixtures("no_fork")
@pytest.mark.parametrize("what", ["environment", "words"])
def test_what_is_large_is_not_kept(what: str) -> None:
    def run(letter: str) -> None:
        large = [letter * 100_000] * 10
        # Another environment each time: words alone are in no key.
        variables, words = {"B": letter}, large
        if what == "environment":
            variables, words = {f"A{number}": word for number, word in enumerate(large)}, []
        command = ["/bin/sh", "-c", "echo ${#A9} ${#9}", *words]
        done = pyspaces.run(command, user=True, env=variables, capture_output=True)
        assert done.stdout == (b"100000 0\n" if what == "environment" else b"0 100000\n")

    run("a")
    (server,) = servers()
    before = anonymous(server), anonymous(os.getpid())
    for letter in "bcdefgh":
        run(letter)
    # Each has 1,000 KiB.
    assert anonymous(server) - before[0] < 3000
    assert anonymous(os.getpid()) - before[1] < 3000


@pytest.mark.usefixtures("no_fork")
def test_nothing_is_kept_without_a_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("A", secret := "once")
    seen("true")
    assert secret in repr(vars(client._State.requests))
    launch.use_server(False)
    assert secret not in repr(vars(client._State.requests))


@pytest.mark.usefixtures("no_fork")
def test_variables_are_in_the_order_that_the_caller_has(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two environments that differ in this alone are equal, as dicts are."""
    for order in (("ZA", "ZB"), ("ZB", "ZA"), ("ZA", "ZB")):
        for name in order:
            monkeypatch.delenv(name, raising=False)
            monkeypatch.setenv(name, "1")
        done = pyspaces.run(["env"], user=True, capture_output=True, text=True)
        found = [line for line in done.stdout.splitlines() if line in ("ZA=1", "ZB=1")]
        assert found == [f"{name}=1" for name in order]


@pytest.mark.usefixtures("no_fork")
def test_the_same_command_again_finds_what_has_changed_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Word for word the same, for which the server prepares nothing anew."""
    code = (
        "import os, json, signal as s; print(json.dumps([os.getcwd(), os.umask(0), "
        "os.environ.get('A'), sorted(s.pthread_sigmask(0, ())), os.listdir('/proc/self/fd')]))"
    )
    found = []
    for turn in range(3):
        found.append([told(*PYTHON, "-c", code) for _ in range(2)])
        monkeypatch.chdir(tmp_path)
        found.append([told(*PYTHON, "-c", code) for _ in range(2)])
        os.umask(before := os.umask(0)), os.umask(before | 0o7)
        kept = os.open("/", os.O_PATH)
        os.set_inheritable(kept, True)
        found.append([told(*PYTHON, "-c", code) for _ in range(2)])
        monkeypatch.setenv("A", str(turn))
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR2])
        found.append([told(*PYTHON, "-c", code) for _ in range(2)])
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGUSR2])
        os.umask(before)
        os.close(kept)
        monkeypatch.undo()
    assert all(first == second for first, second in found)
    (here, *_), (there, *_), (kept_open, *_), (blocked, *_) = found[:4]
    assert (here[2], there[0], blocked[2]) == (None, str(tmp_path), "0")
    assert there == [str(tmp_path), *here[1:]]
    assert kept_open[1] == there[1] | 0o7
    assert len(kept_open[4]) == len(there[4]) + 1
    assert (kept_open[3], blocked[3]) == ([], [signal.SIGUSR2])
    assert found[4:6] == found[8:10] == found[:2]
    assert [turn[0][2] for turn in found[3::4]] == ["0", "1", "2"]
    assert len(servers()) == 1


def test_a_closed_stream_is_closed_for_the_command() -> None:
    text = """
        os.close(0)
        with start("sh", "-c", "test ! -e /proc/self/fd/0 && test -e /proc/self/fd/1") as running:
            code = running.wait().code
        print(code, len(servers()))
    """
    assert facts_of(text) == "0 1\n"


@pytest.mark.usefixtures("no_fork")
def test_nobody_holds_a_pipe_of_the_command_once_it_runs() -> None:
    for _ in range(20):
        reading, writing = os.pipe()
        os.set_inheritable(writing, True)
        with start("true") as running:
            os.close(writing)
            running.wait(60)
            os.set_blocking(reading, False)
            assert os.read(reading, 1) == b""
        os.close(reading)


def pipes_of(process: int) -> list[str]:
    """Return the pipes that a process has open."""
    found = []
    for name in os.listdir(f"/proc/{process}/fd"):
        with contextlib.suppress(FileNotFoundError):  # closed by now
            found.append(os.readlink(f"/proc/{process}/fd/{name}"))
    return [link for link in found if link.startswith("pipe:")]


@pytest.mark.usefixtures("no_fork")
def test_the_server_has_nothing_of_the_caller_open_once_the_command_runs() -> None:
    with start("true") as first:
        first.wait(60)
    [server] = servers()
    pipes = [os.pipe() for _ in range(80)]
    for _, writing in pipes:
        os.set_inheritable(writing, True)
    # So that it is slow to close them: it gets a processor for 2 % of the time.
    os.setpriority(os.PRIO_PROCESS, server, 18)
    busy = [
        subprocess.Popen([*PYTHON, "-c", "while True: pass"]) for _ in range(os.cpu_count() or 1)
    ]
    found = []
    for _ in range(8):
        with start("true") as running:
            found.append(pipes_of(server))
            running.wait(60)
    for process in busy:
        process.kill()
        process.wait()
    for pair in pipes:
        os.close(pair[0])
        os.close(pair[1])
    assert found == [[]] * 8


@pytest.mark.usefixtures("no_fork")
def test_a_large_environment_and_many_words_are_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(15):
        monkeypatch.setenv(f"LARGE_{number}", "x" * 100_000)
    with start("sh", "-c", 'test ${#LARGE_14} = 100000 && test "$#" = 5000', *["w"] * 5001) as run:
        assert run.wait(60).code == 0


# --- what a server has from its start ------------------------------------------------------------

CHANGES = {
    "limits": "import resource; resource.setrlimit(resource.RLIMIT_CORE, (0, 0))",
    "nice": "os.nice(3)",
    "affinity": "os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})",
    "oom": "__import__('pathlib').Path('/proc/self/oom_score_adj').write_text('900')",
    "session": "os.setsid()",
    "no_new_privs": "import ctypes; ctypes.CDLL(None).prctl(38, 1, 0, 0, 0)",
    "scheduling": "os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))",
}


def changed_one_by_one(changes: Sequence[str], text: str) -> str:
    """Return a program that does what `text` says for each of these, in a process of its own."""
    once = textwrap.indent(textwrap.dedent(text), "    ")
    return f"""
from pyspaces.launch.server import client

def once(change):
{once}

for change in {list(changes)!r}:
    child = os.fork()
    if child == 0:
        try:
            once(change)
        except BaseException:
            import traceback
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    assert os.waitpid(child, 0) == (child, 0), change
"""


@pytest.mark.parametrize(
    "changes",
    [
        ("limits", "session", "no_new_privs"),
        pytest.param(("nice", "affinity", "oom", "scheduling"), marks=pytest.mark.stress),
    ],
    ids=", ".join,
)
def test_a_caller_that_has_changed_gets_a_new_server(changes: tuple[str, ...]) -> None:
    text = """
    before, old = look(), servers()
    launch.use_server(False)
    plain = look()
    launch.use_server(True)
    assert look() == plain == before
    exec(change)
    after, between = look(), servers()
    # One that the server had created before it was known to differ has gone.
    assert children() == between, (children(), between)
    client._State.not_before = 0.0  # a second later
    new = look(), servers()
    launch.use_server(False)
    assert after == new[0] == look() != before, (before, after, new)
    assert len(old) == len(new[1]) == 1 and old != new[1], (old, new)
    """
    assert facts_of(changed_one_by_one([CHANGES[name] for name in changes], text)) == ""


@pytest.mark.as_root
def test_a_root_that_has_moved_gets_a_new_server() -> None:
    changes = (
        "os.setgroups([4, 20])",
        "from pyspaces.kernel import libc; libc.unshare(0x04000000)",  # uts
        "os.chroot('/'); from pyspaces.kernel import libc; libc.unshare(0x20000)",  # mount
        "os.setresgid(3, 3, 3); from pyspaces.kernel import libc; libc.set_dumpable(dumpable=True)",
    )
    text = """
    before, old = look(), servers()
    exec(change)
    client._State.not_before = 0.0  # a second later
    new = look(), servers()
    launch.use_server(False)
    assert new[0] == look(), (new[0], look())
    assert len(old) == len(new[1]) == 1 and old != new[1], (old, new)
    """
    assert facts_of(changed_one_by_one(changes, text)) == ""


@pytest.mark.as_root
def test_what_has_the_ids_of_before_ends_though_it_cannot_be_killed() -> None:
    text = """
    from pyspaces.kernel import libc, processes
    from pyspaces.launch.server import client
    assert seen("id", "-u") == "0\\n"
    (server,) = servers()
    client._State.not_before = float("inf")  # 20 launches may take a second, after which it is anew
    os.setresuid(3, 3, 3)
    libc.set_dumpable(dumpable=True)
    for _ in range(20):
        assert seen("sh", "-c", "cat /proc/self/uid_map").split() == ["0", "3", "1"]
        assert processes.children_of(os.getpid()) == [server]
    """
    assert facts_of(text) == ""


@pytest.mark.as_root
def test_the_command_is_in_the_cgroup_of_the_moment(wait_until: Callable[..., None]) -> None:
    mounts = [line.split() for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    places = [words[4] for words in mounts if words[words.index("-") + 1] == "cgroup2"]
    if not places:
        pytest.skip("no cgroup2 is mounted")
    group = Path(places[0], f"pyspaces-server-{os.getpid()}")
    group.mkdir()
    try:
        text = f"""
        from pyspaces.launch.server import client
        before = look()
        with open("{group}/cgroup.procs", "w") as file:
            file.write("0")
        client._State.not_before = 0.0  # a second later
        assert "/{group.name}\\n" in look()
        print("/{group.name}" in before, len(servers()))
        """
        assert facts_of(text) == "False 1\n"
    finally:
        wait_until(lambda: not (group / "cgroup.procs").read_text(), "an empty cgroup")
        group.rmdir()


def test_a_caller_that_no_server_can_match_forks() -> None:
    """A server has the saved ids of its start, and exec makes them the effective ones."""
    change = "os.setresuid(0, 0, 5)" if os.geteuid() == 0 else "os.setresuid(-1, -1, -1)"
    text = f"""
    from pyspaces.kernel import libc
    {change}
    libc.set_dumpable(dumpable=True)  # which the change of ids has ended
    with start("true") as running:
        assert running.wait().code == 0
    print(len(servers()))
    """
    assert facts_of(text) == ("0\n" if os.geteuid() == 0 else "1\n")


def test_threads_that_differ_do_not_start_one_server_after_the_other() -> None:
    text = """
    seen("true")
    old = servers()
    def run():
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 17)
        found.append(seen("cut", "-d ", "-f19", "/proc/self/stat"))
    for _ in range(5):
        found = []
        thread = threading.Thread(target=run)
        thread.start(); thread.join()
        assert found == ["17\\n"]
        assert seen("cut", "-d ", "-f19", "/proc/self/stat") == f"{os.nice(0)}\\n"
    print(len(servers()))
    """
    assert facts_of(text) == "1\n"


# --- what falls back to the fork ------------------------------------------------------------------


@pytest.mark.usefixtures("no_server")
def test_what_needs_the_memory_of_the_caller_or_its_process_forks(tmp_path: Path) -> None:
    found: list[int] = []
    container = Container(os.getpid, user=True)
    container.start()
    assert container.result(60) == container.pid
    container.close()
    plan = settings.plan_from({"command": ["true"], "user": True})
    with launch.start(plan, before=lambda: found.append(1)) as running:
        assert running.wait(60).code == 0
    with launch.start(plan, function=lambda: None) as running:
        assert running.wait(60).code == 0
    with start("true", status_file=str(tmp_path / "status")) as running:
        assert running.wait(60).code == 0
    assert servers() == []


@pytest.mark.usefixtures("no_server")
@pytest.mark.needs("pidns")
def test_joining_namespaces_forks() -> None:
    with (
        launch.start(
            settings.plan_from({"hold": True, "user": True, "name": f"served-{os.getpid()}"})
        ) as held,
        launch.start(
            settings.plan_from({"command": ["true"], "join": [f"user={held.pid}"]})
        ) as running,
    ):
        assert running.wait(60).code == 0
        held.send_signal(signal.SIGTERM)
        held.wait(60)


def test_a_caller_that_is_not_dumpable_has_no_server() -> None:
    text = """
    from pyspaces.kernel import libc
    seen("true")
    (server,) = servers()
    libc.set_dumpable(dumpable=False)
    launch.start(settings.plan_from({"command": ["true"]})).wait()
    print(len(servers()))
    """
    assert facts_of(text) == "0\n"


def test_descriptors_that_are_passed_are_counted_as_well() -> None:
    """The server took so many for nonsense, and ended."""
    seen("true")
    before = servers()
    files = [os.memfd_create("many") for _ in range(240)]
    try:
        done = pyspaces.run(["true"], user=True, pass_fds=files)
        assert done.returncode == 0
        done = pyspaces.run(["true"], user=True, pass_fds=files[:150])
        assert done.returncode == 0
    finally:
        for file in files:
            os.close(file)
    assert servers() == before


@pytest.mark.skipif(not IS_ROOT, reason="needs root")
@pytest.mark.needs("pidns")
def test_a_caller_whose_children_are_in_another_pid_namespace_forks() -> None:
    """A server there reports numbers of another namespace, or is process 1 of one, and ends it.

    The caller's group and session are in neither.
    """
    text = """
        import pyspaces
        from pyspaces.kernel import constants, libc
        other = launch.start(settings.plan_from({"command": ["sleep", "100"], "pid": True}))
        libc.setns(other.pidfd, constants.CLONE_NEWPID)
        launch.use_server(False)
        launch.use_server(True)
        for code in (7, 8):
            done = pyspaces.run(["sh", "-c", f"exit {code}"], uts=True)
            assert done.returncode == code, done
        assert not servers()
        other.send_signal(signal.SIGKILL)
        print("right")
    """
    assert facts_of(text, by=("unshare", "--pid", "--fork")) == "right\n"


def test_a_policy_that_children_do_not_have_is_no_difference() -> None:
    text = """
        os.sched_setscheduler(0, os.SCHED_OTHER | os.SCHED_RESET_ON_FORK, os.sched_param(0))
        seen("true")
        print(len(servers()))
    """
    assert facts_of(text) == "1\n"


def test_more_descriptors_than_can_be_sent_fork() -> None:
    null = os.open("/dev/null", os.O_RDONLY)
    copies = [os.dup(null) for _ in range(300)]
    try:
        for copy in copies:
            os.set_inheritable(copy, True)
        assert set(copies) <= set(descriptors_inside())
    finally:
        for copy in [null, *copies]:
            os.close(copy)


# --- errors ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "values",
    [
        {"command": ["no such command"]},
        {"command": ["/etc/passwd"]},
        {"command": ["true"], "workdir": "/nowhere"},
        {"command": ["true"], "mount": True, "mounts": [["bind", "/nowhere", "/mnt"]]},
    ],
)
def test_a_launch_that_fails_says_what_it_says_without_a_server(values: dict[str, Any]) -> None:
    errors = []
    for wanted in (True, False):
        launch.use_server(wanted)
        with pytest.raises(SpaceError) as caught:
            launch.start(settings.plan_from({"user": True, **values}))
        errors.append((str(caught.value), caught.value.details, caught.value.exit_status))
    assert errors[0] == errors[1]


@pytest.mark.as_ordinary
def test_a_creation_that_the_kernel_refuses_is_told_as_without_a_server(
    request: pytest.FixtureRequest,
) -> None:
    errors = []
    request.getfixturevalue("no_fork")
    for wanted in (True, False):
        launch.use_server(wanted)
        if not wanted:
            request.getfixturevalue("monkeypatch").undo()
        with pytest.raises(SpaceError) as caught:
            launch.start(settings.plan_from({"command": ["true"], "uts": True}))
        assert caught.value.report
        report = caught.value.report.replace(trace="")
        errors.append((str(caught.value), caught.value.hint, report))
    assert "clone3" in errors[0][0]
    assert errors[0] == errors[1]


def test_use_server_takes_three_words() -> None:
    for wrong in (1, "yes", 0, [], object()):
        with pytest.raises(TypeError, match="wanted"):
            launch.use_server(wrong)  # type: ignore[arg-type]


# --- threads and life -----------------------------------------------------------------------------


def test_a_command_of_a_short_lived_thread_lives_on_and_dies_with_the_process() -> None:
    """The first one, too: its thread is not the one to which the server belongs."""
    text = """
    found = []
    for _ in range(3):
        thread = threading.Thread(target=lambda: found.append(start("sleep", "60")))
        thread.start(); thread.join()
    (server,) = servers()
    time.sleep(0.2)
    assert all(running.poll() is None for running in found)
    print(*(running.pid for running in found), server)
    sys.stdout.flush()
    os.kill(os.getpid(), signal.SIGKILL)
    """
    done = program(text)
    assert done.returncode == -signal.SIGKILL, done.stderr
    numbers = list(map(int, done.stdout.split()))
    assert len(numbers) == 4
    limit = time.monotonic() + 60
    while not all(map(has_ended, numbers)):
        assert time.monotonic() < limit
        time.sleep(0.01)


@pytest.mark.usefixtures("no_fork")
def test_thirty_two_threads_at_once() -> None:
    codes: list[int | None] = []

    def run(number: int) -> None:
        for turn in range(2):
            with start("sh", "-c", f"exit {number + turn}") as running:
                codes.append((running.wait(60).code or 0) - turn)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(32)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(codes) == sorted(list(range(32)) * 2)  # type: ignore[type-var]
    assert len(servers()) == 1


def test_a_forked_child_has_a_server_of_its_own() -> None:
    text = """
    seen("true")
    (server,) = servers()
    child = os.fork()
    if child == 0:
        links = []
        for name in os.listdir("/proc/self/fd"):
            try:
                links.append(os.readlink(f"/proc/self/fd/{name}"))
            except OSError:
                continue
        assert not [link for link in links if "socket" in link or "pidfd" in link], links
        with start("true") as running:
            assert os.waitpid(running.pid, 0)[1] == 0
        (own,) = servers()
        os._exit(0 if own != server else 1)
    assert os.waitpid(child, 0) == (child, 0)
    with start("true") as running:
        assert running.wait().code == 0
    assert servers() == [server]
    """
    assert facts_of(text) == ""


def grows(launches: int, wait_until: Callable[..., None]) -> tuple[int, int]:
    """Return by how many KiB a server has grown, and by how many descriptors this process."""

    def size() -> tuple[int, int]:
        # The last command may have ended before the server has closed all of it.
        wait_until(lambda: len(os.listdir(f"/proc/{server}/fd")) == 5, "nothing else is open")
        return anonymous(server), len(os.listdir("/proc/self/fd"))

    if launches > 1000:
        signal.alarm(3600)  # on a machine with much else to do
    # Its heap settles within a thousand: 320 KiB between 50 and 1,000, nothing until 7,000.
    for _ in range(max(20, launches // 10)):
        with start("true") as running:
            running.wait(60)
    (server,) = servers()
    before = size()
    for _ in range(launches):
        with start("true") as running:
            running.wait(60)
    after = size()
    assert servers() == [server]
    return after[0] - before[0], after[1] - before[1]


@pytest.mark.anyone
@pytest.mark.usefixtures("no_fork")
@pytest.mark.parametrize("launches", [40, pytest.param(10_000, marks=pytest.mark.stress)])
def test_a_server_does_not_grow(launches: int, wait_until: Callable[..., None]) -> None:
    memory, ours = grows(launches, wait_until)
    assert ours == 0
    assert memory <= 256


# --- the rule -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("megabytes", "threads", "served"),
    [(0, 4, 0), (90, 4, 1), (160, 1, 1)],
)
def test_size_and_threads_decide_where_nobody_else_does(
    megabytes: int, threads: int, served: int
) -> None:
    text = f"""
    launch.use_server(None)
    ballast = [bytes(1000) for _ in range({megabytes} * 1000)]
    ended = threading.Event()
    for _ in range({threads} - 1):
        threading.Thread(target=ended.wait, daemon=True).start()
    with start("true") as running:
        running.wait()
    print(len(servers()))
    """
    assert facts_of(text) == f"{served}\n"
    assert choice.LARGE == 128 << 20


def test_no_server_is_asked_that_nobody_wants() -> None:
    seen("true")
    assert len(servers()) == 1
    launch.use_server(False)
    assert servers() == []
    assert children() == []
    seen("true")
    assert servers() == []
