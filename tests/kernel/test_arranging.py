"""What a launcher arranges with its caller: descriptors that are passed on, words, and locks."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import PROBE, SCRIPT, outcome
from test_beginnings import needs_bwrap
from usage import assert_refused

from pyspaces import launch, settings
from pyspaces.errors import SpaceError
from pyspaces.launch.outer import clock

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from typing import Any

    from conftest import Run

FDS = [sys.executable, "-I", "-S", PROBE, "fds"]
ANYWHERE = ["--dev-bind", "/", "/"]
BOTH = pytest.mark.parametrize(
    "launcher",
    [
        pytest.param([SCRIPT, "run", "--user"], id="pyspaces"),
        pytest.param(["bwrap", "--unshare-user", *ANYWHERE], id="bwrap", marks=needs_bwrap),
    ],
)


@contextlib.contextmanager
def running(
    words: Sequence[str],
    *descriptors: int,
    end: int | None = 0,
    stdin: int = subprocess.DEVNULL,
) -> Iterator[subprocess.Popen[str]]:
    """Start a launcher that inherits descriptors; at the end it has to have exited so."""
    with subprocess.Popen(
        words,
        stdin=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        pass_fds=descriptors,
    ) as launcher:
        try:
            yield launcher
            output, errors = launcher.communicate(timeout=60)
            assert end is None or launcher.returncode == end, (output, errors)
        except BaseException:
            launcher.kill()
            raise


@pytest.fixture
def pipe() -> Iterator[Callable[[], tuple[int, int]]]:
    """Return a function that makes a pipe; what is open of it at the end is closed."""
    made: dict[int, os.stat_result] = {}

    def make() -> tuple[int, int]:
        ends = os.pipe()
        made.update({one: os.fstat(one) for one in ends})
        return ends

    yield make
    for one, status in made.items():
        with contextlib.suppress(OSError):
            if os.path.samestat(os.fstat(one), status):
                os.close(one)


def everything(reading: int, writing: int) -> bytes:
    """Return what comes by a pipe until nobody has the other end open."""
    os.close(writing)
    with open(reading, "rb", closefd=False) as file:
        return file.read()


# --- which descriptors the command gets -------------------------------------------------------


@pytest.mark.parametrize(
    "around",
    [
        [],
        ["--no-fork"],
        ["--rlimit", "core=0"],
        pytest.param(["--user", "--init"], marks=pytest.mark.needs("userns", "pidns")),
    ],
    ids=lambda words: "".join(words) or "plain",
)
def test_only_those_that_are_named_are_passed_on(
    pyspaces: Run, pipe: Callable[[], tuple[int, int]], around: list[str]
) -> None:
    one, other = pipe()
    words = ("run", *around, "--close-fds")
    done = pyspaces(*words, "--keep-fd", str(other), "--", *FDS, pass_fds=(one, other))
    assert (json.loads(done.stdout), done.stderr) == ([0, 1, 2, other], "")
    done = pyspaces("run", *around, "--", *FDS, pass_fds=(one, other))
    assert {one, other} <= set(json.loads(done.stdout))


@pytest.mark.needs("userns", "netns")
def test_the_sockets_of_listen_are_passed_on_too(pyspaces: Run) -> None:
    done = pyspaces("run", "--close-fds", "--listen", "0", "--listen", "0", "--", *FDS)
    assert (json.loads(done.stdout), done.stderr) == ([0, 1, 2, 3, 4], "")


def test_what_cannot_be_meant_is_a_usage_error() -> None:
    rows = [
        (["--close-fds", "--keep-fd", "999"], "keep-fd: 999: is not open"),
        (["--keep-fd", "0"], "keep-fd: requires --close-fds"),
        (["--sync-fd", "999"], "sync-fd: 999: is not open"),
        (["--info-fd", "0"], "info-fd: 0: is not open for writing"),
        (["--json-status-fd", "0"], "json-status-fd: 0: is not open for writing"),
        (["--json-status-fd", "1", "--hold"], "hold: cannot be combined with --json-status-fd"),
        (["--block-fd", "x"], "block-fd: 'x' is not the number of a descriptor"),
        (["--block-fd", "0", "--sync-fd", "0"], "sync-fd: 0: is the descriptor of --block-fd alr"),
        (["--block-fd", "0", "--no-fork"], "no-fork: cannot be combined with --block-fd"),
        (["--lock-file", "/x", "--no-kill-child"], "no-kill-child: cannot be combined with --lock"),
        (["--userns-block-fd", "0", "--map-root"], "userns-block-fd: cannot be combined with --m"),
        (["--lock-file", ""], "lock-file: "),
    ]
    assert_refused(rows, text="")  # a pipe, open for reading only


# --- the word of the caller -------------------------------------------------------------------


@pytest.mark.needs("userns", "netns")
@BOTH
def test_others_set_up_the_network_while_it_waits(
    launcher: list[str], pipe: Callable[[], tuple[int, int]], tmp_path: Path
) -> None:
    """With the same words for bwrap, whose keys are among ours."""
    (told, tell), (wait, go) = pipe(), pipe()
    net = "--net" if launcher[0] == SCRIPT else "--unshare-net"
    words = [*launcher, net, "--info-fd", str(tell), "--block-fd", str(wait)]
    code = "cat /proc/sys/net/ipv4/ip_default_ttl; readlink /proc/self/ns/net"
    mark = tmp_path / "ran"
    with running([*words, "sh", "-c", f"touch {mark}; {code}"], tell, wait) as process:
        facts = json.loads(everything(told, tell))
        child = facts["child-pid"]
        assert not mark.exists()
        joined = ["nsenter", "-t", str(child), "-U", "-n", "--preserve-credentials"]
        setting = "echo 77 >/proc/sys/net/ipv4/ip_default_ttl"
        # As root of the namespace: bwrap maps the caller to itself.
        outcome([*joined, "sh", "-c", setting], check=launcher[0] == SCRIPT)
        assert not mark.exists()
        os.write(go, b"x")
        assert process.stdout is not None
        told_ttl, told_net = process.stdout.read().split()
    assert told_net == f"net:[{facts['net-namespace']}]"
    assert launcher[0] != SCRIPT or told_ttl == "77"


@pytest.mark.needs("userns", "pidns", "netns", "timens")
def test_the_namespaces_are_all_that_are_new(
    pyspaces: Run, pipe: Callable[[], tuple[int, int]]
) -> None:
    told, tell = pipe()
    links = "for n in user mnt pid net uts ipc cgroup; do readlink /proc/self/ns/$n; done"
    words = ("run", "--all", "--info-fd", str(tell), "--", "sh", "-c", links)
    done = pyspaces(*words, pass_fds=(tell,))
    facts = json.loads(everything(told, tell))
    assert facts.pop("child-pid") > 0
    found = [f"{key.removesuffix('-namespace')}:[{number}]" for key, number in facts.items()]
    assert sorted(found) == sorted(done.stdout.split())


@pytest.mark.needs("userns")
@BOTH
def test_lines_say_what_the_child_is_and_how_it_ended(
    launcher: list[str], pipe: Callable[[], tuple[int, int]]
) -> None:
    """With the same words for bwrap."""
    (told, tell), (wait, go) = pipe(), pipe()
    words = [*launcher, "--json-status-fd", str(tell), "--block-fd", str(wait)]
    with running([*words, "sh", "-c", "exit 7"], tell, wait, end=7):
        os.close(tell)
        with open(told, closefd=False) as lines:
            facts = json.loads(lines.readline())  # while it waits
            assert Path(f"/proc/{facts.pop('child-pid')}").exists()
            assert launcher[0] != SCRIPT or [*facts] == ["user-namespace"]
            os.write(go, b"x")
            assert [json.loads(line) for line in lines] == [{"exit-code": 7}]
    # How it ended: by a signal, or not at all, since it could not be executed.
    for command, ends in (("kill -9 $$", ['{ "exit-code": 137 }']), (None, [])):
        told, tell = pipe()
        rest = ["sh", "-c", command] if command else ["/"]
        outcome([*launcher, "--json-status-fd", str(tell), *rest], pass_fds=(tell,))
        assert everything(told, tell).decode().splitlines()[1:] == ends


def test_a_status_that_nobody_reads_changes_nothing(
    pipe: Callable[[], tuple[int, int]],
) -> None:
    told, tell = pipe()
    words = ("run", "--json-status-fd", str(tell), "--block-fd", "0", "--", "sh", "-c", "exit 7")
    with running([SCRIPT, *words], tell, end=None, stdin=subprocess.PIPE) as process:
        os.close(tell)
        assert os.read(told, 1) == b"{"
        os.close(told)
        assert process.stdin is not None
        process.stdin.write("x")
        output, errors = process.communicate(timeout=60)
    assert (process.returncode, output) == (7, "")
    assert errors == f"pyspaces: json-status-fd: {tell}: cannot be written: Broken pipe\n"


@pytest.mark.parametrize("option", ["--block-fd", "--userns-block-fd"])
@pytest.mark.needs("userns")
def test_an_end_without_a_word_is_no_word(pyspaces: Run, tmp_path: Path, option: str) -> None:
    done = pyspaces("run", option, "0", "--", "touch", str(tmp_path / "ran"))
    assert (done.returncode, list(tmp_path.iterdir())) == (125, [])
    what = f"{option}: 0: the other end was closed, and nothing was written"
    assert done.stderr == f"pyspaces: {what}\n"


@pytest.mark.crossed(1)
@pytest.mark.parametrize("option", ["--block-fd", "--userns-block-fd"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.needs("userns")
def test_a_signal_ends_the_wait(
    pipe: Callable[[], tuple[int, int]], tmp_path: Path, option: str, number: signal.Signals
) -> None:
    (told, tell), (wait, _) = pipe(), pipe()
    words = [SCRIPT, "run", "--info-fd", str(tell), option, str(wait), "--", "touch"]
    with running([*words, str(tmp_path / "ran")], tell, wait, end=-number) as process:
        assert json.loads(everything(told, tell))["child-pid"]
        process.send_signal(number)
    assert not list(tmp_path.iterdir())


def test_the_time_of_the_command_is_over(
    pipe: Callable[[], tuple[int, int]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = ["touch", str(tmp_path / "ran")]
    for seconds in (0.2, 1, 10, 60):
        wait, _ = pipe()  # which the launch closes
        plan = settings.plan_from({"command": command, "block_fd": wait, "timeout": 0.1})
        monkeypatch.setattr(clock, "_SET_UP", seconds)
        with pytest.raises(SpaceError, match=r"command, 0\.1 s, was over") as caught:
            launch.start(plan)
        assert not list(tmp_path.iterdir())
        # On a busy machine it may be over before the child is as far as that.
        if "cannot wait for --block-fd: " in str(caught.value):
            return
    pytest.fail(str(caught.value))


def test_a_child_that_is_killed_meanwhile(
    pipe: Callable[[], tuple[int, int]], tmp_path: Path
) -> None:
    (told, tell), (wait, _) = pipe(), pipe()
    words = [SCRIPT, "run", "--info-fd", str(tell), "--block-fd", str(wait), "--", "touch"]
    with running([*words, str(tmp_path / "ran")], tell, wait, end=125):
        os.kill(json.loads(everything(told, tell))["child-pid"], signal.SIGKILL)
    assert not list(tmp_path.iterdir())


# --- the id maps of others --------------------------------------------------------------------


@pytest.mark.needs("userns")
def test_others_write_the_maps(pipe: Callable[[], tuple[int, int]]) -> None:
    (told, tell), (wait, go) = pipe(), pipe()
    words = [SCRIPT, "run", "--info-fd", str(tell), "--userns-block-fd", str(wait)]
    show = "cat /proc/self/uid_map; id -u; id -g"
    with running([*words, "--", "sh", "-c", show], tell, wait) as process:
        child = json.loads(everything(told, tell))["child-pid"]
        Path(f"/proc/{child}/setgroups").write_text("deny")
        Path(f"/proc/{child}/uid_map").write_text(f"7 {os.geteuid()} 1")
        Path(f"/proc/{child}/gid_map").write_text(f"8 {os.getegid()} 1")
        os.write(go, b"x")
        assert process.stdout is not None
        assert process.stdout.read().split() == ["7", str(os.geteuid()), "1", "7", "8"]


@pytest.mark.as_root
@pytest.mark.needs("userns")
def test_ids_of_these_maps_can_be_taken(pipe: Callable[[], tuple[int, int]]) -> None:
    (told, tell), (wait, go) = pipe(), pipe()
    words = [SCRIPT, "run", "--info-fd", str(tell), "--userns-block-fd", str(wait)]
    words += ["--setuid", "5", "--groups", "6", "--", "id"]
    with running(words, tell, wait) as process:
        child = json.loads(everything(told, tell))["child-pid"]
        for kind in ("uid_map", "gid_map"):
            Path(f"/proc/{child}/{kind}").write_text("0 100000 100")
        os.write(go, b"x")
        assert process.stdout is not None
        told_ids = process.stdout.read()
        assert "uid=5" in told_ids
        assert "6" in told_ids.rpartition("groups=")[2]


@pytest.mark.needs("userns")
def test_a_word_without_a_map_is_an_error(
    pipe: Callable[[], tuple[int, int]], tmp_path: Path
) -> None:
    wait, go = pipe()
    os.write(go, b"x")
    words = [SCRIPT, "run", "--userns-block-fd", str(wait), "--", "touch", str(tmp_path / "ran")]
    done = outcome(words, pass_fds=(wait,))
    assert (done.returncode, list(tmp_path.iterdir())) == (125, [])
    assert done.stderr.endswith("had something to read, but nobody has written a user map\n")


# --- what shows that the command runs ---------------------------------------------------------


@pytest.mark.needs("userns")
@BOTH
def test_a_descriptor_is_open_while_the_command_runs(
    launcher: list[str], pipe: Callable[[], tuple[int, int]]
) -> None:
    (wait, end), (read, go) = pipe(), pipe()
    code = f"test ! -e /proc/self/fd/{end} && echo up && read line </proc/self/fd/{read}"
    words = [*launcher, "--sync-fd", str(end), "sh", "-c", code]
    with running(words, end, read) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "up\n"
        os.close(end)
        os.set_blocking(wait, False)
        with pytest.raises(BlockingIOError):
            os.read(wait, 1)
        os.write(go, b"\n")
        os.set_blocking(wait, True)
        assert os.read(wait, 1) == b""


def taken(path: Path, kind: int) -> bool:
    """Return whether another process could lock a file so."""
    with path.open("r+b") as file:
        try:
            fcntl.lockf(file, kind | fcntl.LOCK_NB)
        except OSError:
            return False
        return True


@pytest.mark.needs("userns")
@BOTH
def test_a_file_is_locked_while_the_command_runs(
    launcher: list[str],
    pipe: Callable[[], tuple[int, int]],
    tmp_path: Path,
    wait_until: Callable[..., Any],
) -> None:
    file = tmp_path / "file"
    file.touch()
    read, go = pipe()
    words = [*launcher, "--bind", str(tmp_path), "/mnt", "--lock-file", "/mnt/file"]
    with running(
        [*words, "sh", "-c", f"echo up; read line </proc/self/fd/{read}"], read
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "up\n"
        assert not taken(file, fcntl.LOCK_EX)
        assert taken(file, fcntl.LOCK_SH)
        os.write(go, b"\n")
    if launcher[0] != SCRIPT:  # bwrap ends a moment before its process 1, which has the lock
        wait_until(lambda: taken(file, fcntl.LOCK_EX), "the lock released")
    assert taken(file, fcntl.LOCK_EX)


@pytest.mark.needs("userns")
@BOTH
def test_a_file_that_somebody_writes_is_not_locked(launcher: list[str], tmp_path: Path) -> None:
    file = tmp_path / "file"
    with file.open("w") as writer:
        fcntl.lockf(writer, fcntl.LOCK_EX)
        done = outcome([*launcher, "--lock-file", str(file), "touch", str(tmp_path / "ran")])
    assert done.returncode != 0
    if launcher[0] == SCRIPT:  # bwrap fails while the command runs
        assert not (tmp_path / "ran").exists()
        what = "another process has a write lock on it"
        assert done.stderr == f"pyspaces: cannot lock files: {file}: {what}\n"


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("nonesuch", "No such file or directory"),
        ("pipe", "is not a regular file"),
        (".", "is not a"),
    ],
)
def test_what_cannot_be_locked(pyspaces: Run, tmp_path: Path, name: str, why: str) -> None:
    os.mkfifo(tmp_path / "pipe")
    words = ("run", "--workdir", str(tmp_path), "--lock-file", name, "--", "touch", "ran")
    done = pyspaces(*words)
    assert (done.returncode, (tmp_path / "ran").exists()) == (125, False)
    assert f"cannot lock files: {name}: {why}" in done.stderr


@pytest.mark.needs("userns", "pidns")
@pytest.mark.parametrize("around", [["--pid"], ["--init"], ["--seccomp", "default"]])
def test_a_lock_ends_with_a_command_that_is_killed(
    pipe: Callable[[], tuple[int, int]],
    tmp_path: Path,
    around: list[str],
    wait_until: Callable[..., Any],
) -> None:
    file = tmp_path / "file"
    file.touch()
    words = [SCRIPT, "run", "--user", *around, "--lock-file", str(file), "--", "cat", "/dev/zero"]
    with running(words, end=None) as process:
        assert process.stdout is not None
        process.stdout.read(1)
        assert not taken(file, fcntl.LOCK_EX)
        process.kill()
        process.wait()
        wait_until(lambda: taken(file, fcntl.LOCK_EX), "the lock released")


@pytest.mark.as_root
def test_enter_has_them_too(pyspaces: Run, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    words = ("--info-fd", "1", "--close-fds", "--lock-file", str(file), "--", "cat", "/proc/locks")
    done = pyspaces("enter", str(os.getpid()), "--uts", *words)
    assert (done.returncode, done.stderr) == (0, "")
    assert '"child-pid": ' in done.stdout
    assert f":{file.stat().st_ino} " in done.stdout
