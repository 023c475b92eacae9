"""What the settings do to a Python function: an init above it, its environment, ids and tree."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from conftest import outcome, processes_with

from pyspaces import Container, NoResult, get_context
from pyspaces.errors import SpaceError
from pyspaces.kernel import libc

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.needs("userns", "pidns", "proc")

INITS = pytest.mark.parametrize("init", [{}, {"init": True}, {"init_wait": True}], ids=str)


def result_of(target: Callable[..., Any], *args: Any, **settings: Any) -> Any:
    container = Container(target, args=args, user=True, **settings)
    container.start()
    try:
        return container.result(60)
    finally:
        container.close()


@contextlib.contextmanager
def running(target: Callable[..., Any], *args: Any, **settings: Any) -> Iterator[Container]:
    """Start a container with a pid namespace; end it, also when the test has failed."""
    container = Container(target, args=args, user=True, **{"pid": True} | settings)
    container.start()
    try:
        yield container
    finally:
        container.kill()
        container.join()
        container.close()


# --- an init above the function --------------------------------------------------------------


@pytest.mark.parametrize("kind", ["init", "init_wait"])
def test_the_function_is_the_child_of_our_process_1(kind: str) -> None:
    def look() -> tuple[int, int, str]:
        # Process 1 takes its name once the function has been started, or that would have it too.
        while (name := Path("/proc/1/comm").read_text()) != "pyspaces-init\n":
            time.sleep(0.01)
        return os.getpid(), os.getppid(), name

    assert result_of(look, mount=True, **{kind: True}) == (2, 1, "pyspaces-init\n")


def end(how: str) -> None:
    if how == "return":
        return
    if how == "raise":
        raise ValueError("on purpose")
    if how.startswith("exit "):
        os._exit(int(how[5:]))
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    os.kill(os.getpid(), int(how))
    time.sleep(1000)


@pytest.mark.anyone
@pytest.mark.crossed(1)
@INITS
@pytest.mark.parametrize(
    ("how", "code"),
    [
        *(("return", 0), ("raise", 1), ("exit 7", 7), ("exit 143", 143), ("exit 137", 137)),
        *(("9", -9), ("15", -15), ("2", -2), ("10", -10)),
    ],
)
def test_the_exit_code_is_that_of_the_function(how: str, code: int, init: dict[str, bool]) -> None:
    """Also of one that exits as a shell would for a signal: 143 is no -15."""
    # Without one of ours the function is process 1, which the kernel spares its own signals.
    container = Container(end, args=(how,), user=True, pid=bool(init), **init)  # type: ignore[arg-type]
    container.start()
    container.join(60)
    assert container.exitcode == code
    if how not in ("return", "raise"):
        with pytest.raises(NoResult):
            container.result()
    container.close()


@INITS
def test_terminate_kill_and_the_sentinel(init: dict[str, bool]) -> None:
    for stop, code in (("terminate", -15), ("kill", -9)):
        with running(time.sleep, 1000, **init) as container:
            assert multiprocessing.connection.wait([container.sentinel], 0.01) == []
            getattr(container, stop)()
            assert multiprocessing.connection.wait([container.sentinel], 60)
            container.join(60)
            assert container.exitcode == code


@INITS
def test_a_handler_for_term_ends_the_function_its_own_way(init: dict[str, bool]) -> None:
    reading, writing = os.pipe()

    def handle() -> None:
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(33))
        os.write(writing, b"x")
        # One long sleep could go on for ever: a signal that comes right before the system call is
        # noticed by Python, and the call does not know of it (36 of 1,500 on a busy machine).
        while True:
            time.sleep(0.01)

    try:
        with running(handle, **init) as container:
            os.read(reading, 1)
            container.terminate()
            container.join(60)
            assert container.exitcode == 33
    finally:
        os.close(reading)
        os.close(writing)


# Its own in each run: two of the suite go on at once.
LONG = f"7654.{time.monotonic_ns()}"


def leave_one_behind(seconds: str) -> int:
    return subprocess.Popen(["sleep", seconds]).pid


def test_an_init_takes_all_with_it_and_one_that_waits_does_not(
    wait_until: Callable[..., None],
) -> None:
    assert result_of(leave_one_behind, LONG, init=True) > 2
    wait_until(lambda: not processes_with(LONG), "the child gone")
    begun = time.monotonic()
    assert result_of(leave_one_behind, "0.3", init_wait=True) > 2
    assert time.monotonic() - begun >= 0.3


def reap_nobody(end: str) -> bool:
    """Leave an orphan; tell whether it comes to that end, which is to be gone or a zombie."""
    done = subprocess.run(
        ["sh", "-c", "sleep 0.05 > /dev/null & echo $!"], check=True, stdout=subprocess.PIPE
    )
    orphan = Path(f"/proc/{int(done.stdout)}/stat")
    limit = time.monotonic() + 50
    while time.monotonic() < limit:
        try:
            state = orphan.read_text()
        except OSError:  # also ESRCH: it went after it was opened
            state = "gone"
        if end in state:
            return True
        time.sleep(0.005)
    return False


def test_the_init_reaps_orphans() -> None:
    assert result_of(reap_nobody, "gone", mount=True, init=True)
    assert result_of(reap_nobody, ") Z", mount=True, pid=True)  # what it is for


def square(number: int) -> tuple[int, int]:
    return number * number, os.getpid()


def test_pools_executors_and_daemons_beneath_an_init() -> None:
    ctx: Any = get_context(user=True, pid=True, init=True)
    expected = [(n * n, 2) for n in range(8)]
    with ctx.Pool(2) as pool:
        assert pool.map(square, range(8)) == expected
    with ProcessPoolExecutor(2, mp_context=ctx) as executor:
        assert list(executor.map(square, range(8))) == expected


def test_a_daemon_beneath_an_init_ends_with_its_parent(wait_until: Callable[..., None]) -> None:
    script = f"""
import subprocess
from pyspaces import Container
daemon = Container(subprocess.run, args=(["sleep", "{LONG}"],), daemon=True, user=True, init=True)
daemon.start()
"""
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)
    wait_until(lambda: not processes_with(LONG), "the daemon gone")


def test_many_beneath_an_init_leave_nothing_open() -> None:
    before = len(os.listdir("/proc/self/fd"))
    for number in range(5):
        container = Container(square, args=(number,), user=True, pid=True, init=True)
        container.start()
        assert container.result(60) == (number * number, 2)
        del container
    assert len(os.listdir("/proc/self/fd")) == before


# --- the environment -------------------------------------------------------------------------


def environment() -> tuple[dict[str, str], dict[bytes, bytes], str]:
    """Return it as Python has it, as bytes, and as a program finds it that is executed here."""
    env = outcome(["/usr/bin/env", "-0"], check=True)
    return dict(os.environ), dict(os.environb), env.stdout


def variables_of(output: str) -> dict[str, str]:
    return {row.partition("=")[0]: row.partition("=")[2] for row in output.split("\0") if row}


@pytest.mark.anyone
@pytest.mark.crossed(1)
@INITS
@pytest.mark.parametrize(
    "given",
    [
        {"setenv": {"PYSPACES_A": "ä=1", "PYSPACES_B": ""}},
        {"setenv": [("PYSPACES_A", "1"), ("PYSPACES_A", "2")]},
        {"unsetenv": ["PYSPACES_X", "NEVER_SET"]},
        {"clearenv": True, "setenv": {"PYSPACES_A": "1"}},
        {"keep_env": ["PYSPACES_*"]},
        {},
    ],
    ids=str,
)
def test_the_environment_inside(
    given: dict[str, Any], init: dict[str, bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYSPACES_X", "x")
    before = dict(os.environ)
    wanted = dict(os.environ)
    if given.get("clearenv"):
        wanted = {}
    if "keep_env" in given:
        wanted = {name: value for name, value in wanted.items() if name.startswith("PYSPACES_")}
    if "unsetenv" in given:
        del wanted["PYSPACES_X"]
    wanted |= dict(given.get("setenv", {}))
    text, data, executed = result_of(environment, **init, **given)
    assert text == wanted
    assert data == {os.fsencode(name): os.fsencode(value) for name, value in wanted.items()}
    # What libraries have set behind the back of Python, as readline does, is cleared as well.
    clears = given.get("clearenv") or "keep_env" in given
    hidden = {} if clears else variables_of(environment()[2]).items() - dict(os.environ).items()
    assert variables_of(executed) == wanted | dict(hidden)
    assert dict(os.environ) == before


def test_the_init_hides_the_environment_of_its_parent() -> None:
    """What it was started with: in another interpreter, whose it is; nobody inside may read it."""
    script = """
from pathlib import Path
from pyspaces import Container
def look():
    own = Path("/proc/2/environ").read_bytes()
    try:
        above = Path("/proc/1/environ").read_bytes()
    except PermissionError:
        above = None
    return b"SECRET" in own, above
box = Container(look, user=True, pid=True, mount=True, init=True)
box.start()
print(box.result(60))
"""
    done = outcome([sys.executable, "-c", script], env=os.environ | {"SECRET": "x"}, check=True)
    assert done.stdout == "(True, None)\n"


# --- the rest --------------------------------------------------------------------------------


def test_the_tree_by_keywords(tmp_path: Path) -> None:
    def look() -> tuple[bool, list[str]]:
        here = Path(tmp_path)
        outcome = []
        for path in ("/usr/x", "/tmp/x", here / "x"):
            try:
                Path(path).write_text("x")
                outcome.append("written")
            except OSError as error:
                outcome.append(type(error).__name__)
        return Path("/root").exists(), outcome

    mounts = [["tmpfs", "/tmp"], ["dir", tmp_path], ["bind", tmp_path, tmp_path]]
    made = result_of(look, host_ro=True, read_only=True, mounts=mounts)
    assert made == (False, ["OSError", "written", "written"])
    assert (tmp_path / "x").read_text() == "x"


def test_what_is_thrown_away_is_told_once_the_end_is_noticed(tmp_path: Path) -> None:
    (tmp_path / "kept").write_text("x")
    report = tmp_path / "changes"
    overlay = [["overlay-src", tmp_path], ["tmp-overlay", tmp_path]]

    def change() -> None:
        (tmp_path / "kept").write_text("y")

    result_of(change, mounts=overlay, overlay_diff=report)
    assert (tmp_path / "kept").read_text() == "x"
    assert report.read_text() == f"changed {tmp_path}/kept\n"


@pytest.mark.as_root
def test_another_user_without_capabilities() -> None:
    def look() -> tuple[int, int, list[int], int]:
        return os.getuid(), os.getgid(), os.getgroups(), libc.capabilities()[0]

    ids = {"uid_map": [(0, 0, 1), (7, 7000, 1)], "gid_map": [(0, 0, 1), (8, 8000, 2)]}
    for init in ({}, {"init": True}):
        made = result_of(look, **ids, setuid=7, setgid=8, groups=[9], **init)
        assert made == (7, 8, [9], 0)


@pytest.mark.as_root
def test_a_list_of_outside_ids() -> None:
    def look() -> tuple[str, str]:
        return Path("/proc/self/uid_map").read_text(), Path("/proc/self/gid_map").read_text()

    uids, gids = result_of(look, uid_map=[1000, 1001], gid_map=[5, 7, 6], setuid=0)
    assert [line.split() for line in uids.splitlines()] == [["0", "1000", "1"], ["1", "1001", "1"]]
    assert [line.split()[:2] for line in gids.splitlines()] == [["0", "5"], ["1", "7"], ["2", "6"]]


def test_names_directory_session_and_clock() -> None:
    def look() -> tuple[str, str, bool]:
        return os.getcwd(), libc_domain(), os.getsid(0) == os.getpid()

    assert result_of(look, workdir=Path("/usr"), domainname="home", new_session=True) == (
        "/usr",
        "home",
        True,
    )


def libc_domain() -> str:
    return Path("/proc/sys/kernel/domainname").read_text().strip()


def test_a_clock() -> None:
    ahead = result_of(lambda: time.clock_gettime(time.CLOCK_BOOTTIME), boottime=100000)
    assert ahead - time.clock_gettime(time.CLOCK_BOOTTIME) > 99000


def test_a_function_tied_to_the_thread_that_starts_it(wait_until: Callable[..., None]) -> None:
    script = f"""
import os, subprocess
from pyspaces import Container
words = ["sleep", "{LONG}"]
Container(subprocess.run, args=(words,), user=True, pid=True, kill_child="KILL").start()
while subprocess.run(["pgrep", "-f", "^sleep {LONG}"]).returncode:
    pass
os._exit(0)
"""
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)
    wait_until(lambda: not processes_with(LONG), "the function gone")


def test_a_registered_name_is_given_back_at_the_end(pyspaces: Callable[..., Any]) -> None:
    name = f"box{os.getpid()}"
    with running(time.sleep, 1000, pid=False, uts=True, registered=name) as container:
        assert name in pyspaces("list").stdout
        other = Container(len, args=("",), user=True, registered=name)
        with pytest.raises(SpaceError, match=f"name: {name}: is held by"):
            other.start()
        # Not its parent is asked, which is this program.
        assert pyspaces("stop", name).returncode == 0
        container.join(60)
        assert container.exitcode == -15
    assert name not in pyspaces("list").stdout.split()


@pytest.mark.as_ordinary
def test_the_hint_of_a_start_that_fails_is_in_the_words_of_python() -> None:
    container = Container(len, args=("",), uts=True)
    with pytest.raises(SpaceError) as caught:
        container.start()
    assert (caught.value.hint or "").endswith("add user=True")


# --- processes of others under the context ---------------------------------------------------


def exit_with_pid() -> None:
    os._exit(40 + os.getpid())


@INITS
def test_a_plain_process_is_adopted_by_the_context(
    init: dict[str, bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where a program makes the context the default of `multiprocessing`."""
    context: Any = get_context(user=True, pid=True, **init)  # type: ignore[arg-type]
    monkeypatch.setattr(multiprocessing.context._default_context, "_actual_context", context)
    process = multiprocessing.Process(target=exit_with_pid)
    process.start()
    process.join(60)
    assert process.exitcode == (42 if init else 41)
    process.close()


def test_a_container_keeps_its_own_settings_under_such_a_context(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    context: Any = get_context(user=True, pid=True)
    monkeypatch.setattr(multiprocessing.context._default_context, "_actual_context", context)
    assert result_of(lambda: os.uname().nodename, hostname="own") == "own"
    assert result_of(os.getpid) > 1


def test_a_plain_process_without_a_context_is_told_what_to_do() -> None:
    process = multiprocessing.Process(target=len)
    process.__dict__["_Popen"] = Container._Popen
    with pytest.raises(TypeError, match=r"pyspaces\.Container, or with get_context"):
        process.start()


def test_a_group_is_refused_as_a_value() -> None:
    context: Any = get_context()
    with pytest.raises(ValueError, match="group: has to be None"):
        context.Process(group=5)
