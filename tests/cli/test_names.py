"""Names of running commands, holds, and `pyspaces stop`: as a user has them."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
from children import state_of
from conftest import IS_ROOT, PROBE, SCRIPT, outcome

from pyspaces.errors import SpaceError
from pyspaces.features.existing import registry, runtime
from pyspaces.kernel import processes, procfs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from conftest import Run

    Wait = Callable[..., None]

PYTHON = [sys.executable, "-I", "-S", PROBE]


@pytest.fixture
def name(request: pytest.FixtureRequest) -> Iterator[str]:
    """Give a name that nobody else has; end what the test left under it."""
    chosen = f"test-{os.getpid()}-{abs(hash(request.node.name)) % 10**6}"
    yield chosen
    if registry.find(chosen):
        subprocess.run([SCRIPT, "stop", "--grace", "0", chosen], check=False)


@contextmanager
def running(name: str, *words: str) -> Iterator[subprocess.Popen[str]]:
    """Run a command under a name; give its launcher once the name stands for the command."""
    with subprocess.Popen(
        [SCRIPT, "run", "--name", name, *words], stdin=subprocess.PIPE, text=True
    ) as launcher:
        try:
            while not ((holder := registry.find(name)) and holder.ready):
                assert launcher.poll() is None
                time.sleep(0.005)
            yield launcher
        finally:
            launcher.kill()


@pytest.mark.needs("userns", "netns")
def test_a_named_command_is_listed_and_entered(pyspaces: Run, name: str) -> None:
    with running(name, "--user", "--net", "--", "sleep", "1000"):
        holder = registry.find(name)
        assert holder is not None
        rows = json.loads(pyspaces("list", "--ours", "--json").stdout)["namespaces"]
        ours = {row["type"]: row["ns"] for row in rows if row["name"] == name}
        assert ours.keys() == {"user", "net"}
        assert set(ours.values()) == holder.new_inodes()
        inside = json.loads(pyspaces("enter", name, "--", *PYTHON, "ns").stdout)
        assert inside["net"] == f"net:[{ours['net']}]"
        done = pyspaces("enter", name, "--net", "-U", "--", "sh", "-c", "exit 7")
        assert (done.returncode, done.stdout, done.stderr) == (7, "", "")


@pytest.mark.needs("userns")
def test_a_name_vanishes_with_its_command(pyspaces: Run, name: str) -> None:
    with running(name, "--user", "--", "cat") as launcher:
        directory = Path(runtime.directory())
        assert (directory / name).exists()
        assert launcher.stdin
        launcher.stdin.close()
        assert launcher.wait() == 0
        assert not (directory / name).exists()
    done = pyspaces("enter", name, "true")
    assert done.returncode == 125
    assert done.stderr.startswith(f"pyspaces: name: {name}: is not registered\n  names: ")


@pytest.mark.needs("userns")
def test_what_is_left_of_a_killed_launcher_is_cleaned_up(
    pyspaces: Run, name: str, wait_until: Wait
) -> None:
    with running(name, "--user", "--", "sleep", "1000") as launcher:
        launcher.kill()
        launcher.wait()
        # The kernel kills the command, too. Whoever looks then removes the file.
        wait_until(lambda: registry.find(name) is None, "the command gone")
        assert not Path(runtime.directory(), name).exists()
        done = pyspaces("run", "--name", name, "--user", "--", "true")
        assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.needs("userns")
def test_a_name_is_held_once(pyspaces: Run, name: str) -> None:
    with running(name, "--user", "--", "sleep", "1000"):
        holder = registry.find(name)
        assert holder is not None
        done = pyspaces("run", "--name", name, "--user", "--", "true")
        assert done.returncode == 125
        assert done.stderr == (
            f"pyspaces: --name: {name}: is held by process {holder.pid} (sleep 1000)\n"
            f"hint: choose another name, or end that one: pyspaces stop {name}\n"
        )
        assert registry.find(name) == holder


@pytest.mark.needs("userns")
def test_of_many_at_once_one_gets_the_name(name: str) -> None:
    words = [SCRIPT, "run", "--name", name, "--user", "--", "cat"]
    pipes = {"stdin": subprocess.PIPE, "stderr": subprocess.PIPE}
    launchers = [subprocess.Popen(words, text=True, **pipes) for _ in range(8)]  # type: ignore[call-overload]
    try:
        limit = time.monotonic() + 60
        while sum(launcher.poll() is None for launcher in launchers) > 1:
            assert time.monotonic() < limit
            time.sleep(0.01)
    finally:
        ended = [launcher.communicate() for launcher in launchers]
    assert sorted(launcher.returncode for launcher in launchers) == [0, *[125] * 7]
    assert sum("is held by process" in error for _, error in ended) == 7


def test_a_launch_that_fails_gives_the_name_back(pyspaces: Run, name: str) -> None:
    done = pyspaces("run", "--name", name, "--", "/nonexistent")
    assert done.returncode == 127
    assert registry.find(name) is None
    assert not Path(runtime.directory(), name).exists()


@pytest.mark.parametrize(
    ("word", "why"),
    [
        ("", "a name cannot be empty"),
        ("4711", "'4711': a name of nothing but digits would be a process id"),
        ("a/b", "'a/b': a name is made of letters, digits and ._-"),
        ("\u00fc", "'\u00fc': a name is made of letters, digits and ._-"),
        (".hidden", "'.hidden': a name begins with a letter or a digit"),
        ("x" * 65, f"{'x' * 16!r}...: a name has 64 characters at most"),
    ],
)
def test_wrong_names(pyspaces: Run, word: str, why: str) -> None:
    done = pyspaces("run", f"--name={word}", "--", "true")
    assert (done.returncode, done.stderr) == (2, f"pyspaces: --name: {why}\n")


def test_the_name_of_a_running_command_is_no_pid_that_was_used_again(name: str) -> None:
    """What a file says of a process counts for that process only, not for a later one."""
    claim = registry.Claim(name)
    try:
        file = Path(runtime.directory(), name)
        text = file.read_text()
        start = text.split()[2]
        file.write_text(text.replace(f" {start} ", f" {int(start) - 1} ", 1))
        assert registry.find(name) is None
        assert not file.exists()
    finally:
        claim.give_up()


@pytest.mark.needs("userns", "pidns", "proc")
def test_a_pid_that_is_really_used_again_is_not_entered(name: str, tmp_path: Path) -> None:
    """In a pid namespace of one's own the kernel can be told which number comes next."""
    script = f"""
        export XDG_RUNTIME_DIR={tmp_path}
        {SCRIPT} run --name {name} --uts -- sleep 1000 & launcher=$!
        until {SCRIPT} list --ours -n -o name,pid -t uts | grep -q '^{name} '; do :; done
        pid=$({SCRIPT} list --ours -n -o pid -t uts)
        kill -9 $launcher; wait $launcher
        while [ -e /proc/$pid ]; do :; done
        cp {tmp_path}/pyspaces/{name} {tmp_path}/copy
        echo $((pid - 1)) > /proc/sys/kernel/ns_last_pid
        unshare -u sleep 1000 & stranger=$!
        cp {tmp_path}/copy {tmp_path}/pyspaces/{name}
        echo $((stranger == pid))
        {SCRIPT} enter {name} -- echo entered
        echo $?
    """
    (tmp_path / "pyspaces").mkdir()
    if IS_ROOT:
        script = f"mount --bind {tmp_path} /run; " + script
    done = outcome(["unshare", "-Urmpf", "--mount-proc", "--kill-child", "sh", "-c", script])
    if done.stdout == "0\n125\n":
        pytest.skip("the kernel gave another number")
    assert done.stdout == "1\n125\n", done.stderr
    assert f"name: {name}: is not registered" in done.stderr


# --- holds -----------------------------------------------------------------------------------


@pytest.mark.needs("userns", "pidns", "proc", "netns")
def test_a_hold_keeps_until_it_is_stopped(pyspaces: Run, name: str) -> None:
    words = ("--user", "--pid", "--mount", "--net", "--uts", "--hostname", "box")
    done = pyspaces("run", "--name", name, *words, "--hold")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    holder = registry.find(name)
    assert holder is not None
    done = pyspaces("enter", name, "--", "sh", "-c", "uname -n; id -u; echo $PPID; ls /proc")
    hostname, uid, parent, first, *_ = done.stdout.splitlines()
    assert (hostname, uid, parent, first) == ("box", "0", "0", "1")
    # Process 1 reaps what falls to it: then there is nobody but it and the shell.
    script = (
        "(sleep 0.01 & sleep 0.01 &); n=0; while set -- /proc/[0-9]*; [ $# -gt 2 ] &&"
        " [ $n -lt 1200 ]; do sleep 0.05; n=$((n+1)); done; echo $#"
    )
    assert pyspaces("enter", name, "--", "sh", "-c", script).stdout == "2\n"
    assert pyspaces("stop", name).returncode == 0
    assert (procfs.stat_fields(holder.pid) or "Z")[0] == "Z"  # if init has not reaped it yet
    assert registry.find(name) is None
    assert pyspaces("stop", name).returncode == 125


@pytest.mark.needs("userns")
def test_a_hold_takes_nothing_of_its_caller_with_it(name: str, wait_until: Wait) -> None:
    reading, writing = os.pipe()
    # More than the limit on descriptors allows, which may have been lowered since it was opened.
    high = fcntl.fcntl(writing, fcntl.F_DUPFD_CLOEXEC, 200)
    try:
        limited = ("sh", "-c", 'ulimit -n 100; exec "$@"', "sh")
        words = (*limited, SCRIPT, "run", "--name", name, "--user", "--hold")
        assert outcome(words, pass_fds=[writing, high], cwd="/usr").returncode == 0
        os.close(writing)
        os.close(high)
        assert os.read(reading, 1) == b""  # end of file: nobody else has it
        holder = registry.find(name)
        assert holder is not None
        # From the lowest one on: the end of that pipe need not be the last one.
        wait_until(lambda: not os.listdir(f"/proc/{holder.pid}/fd"), "all are closed")
        assert os.readlink(f"/proc/{holder.pid}/cwd") == "/"
        assert os.getsid(holder.pid) == holder.pid
        # Nor the command line of the launcher.
        assert processes.words_of(holder.pid) == ["pyspaces-hold"]
        assert procfs.read_or_none(f"/proc/{holder.pid}/comm") == "pyspaces-hold"
    finally:
        os.close(reading)


@pytest.mark.needs("userns", "timens")
def test_a_hold_of_clocks(pyspaces: Run, name: str) -> None:
    words = ("--user", "--boottime", "1000000", "--hold")
    assert pyspaces("run", "--name", name, *words).returncode == 0
    shown = pyspaces("enter", name, "--", "cat", "/proc/uptime").stdout.split()[0]
    assert float(shown) > 1_000_000


def test_a_hold_needs_a_name_and_no_command(pyspaces: Run) -> None:
    done = pyspaces("run", "--user", "--hold", "--", "true")
    assert (done.returncode, done.stderr.splitlines()) == (
        2,
        [
            "pyspaces: --hold: takes no command; without --hold, the command itself holds",
            "  --hold: needs a name, by which to stop it: add --name",
        ],
    )


@pytest.mark.needs("userns")
def test_stop_ends_a_command_as_a_signal_to_its_launcher_would(pyspaces: Run, name: str) -> None:
    with running(name, "--user", "--", "sleep", "1000") as launcher:
        done = pyspaces("stop", name)
        assert (done.returncode, done.stderr) == (0, "")
        assert launcher.wait() == -signal.SIGTERM


@pytest.mark.needs("userns", "pidns")
def test_stop_kills_what_takes_no_notice(pyspaces: Run, name: str) -> None:
    script = "trap '' TERM; echo; while :; do read line; done"
    with running(name, "--user", "--pid", "--", "sh", "-c", script) as launcher:
        holder = registry.find(name)
        assert holder is not None
        while not int(
            next(
                line.split()[1]
                for line in Path(f"/proc/{holder.pid}/status").read_text().splitlines()
                if line.startswith("SigIgn")
            ),
            16,
        ) & 1 << (signal.SIGTERM - 1):
            pass
        assert pyspaces("stop", "--grace", "0.2", name).returncode == 0
        assert launcher.wait() == 128 + signal.SIGKILL


@pytest.mark.needs("userns", "pidns")
@pytest.mark.parametrize("who", ["launcher", "command", "both"])
@pytest.mark.parametrize("options", [[], ["--pid"], ["--pid", "--init"]])
def test_stop_continues_what_is_stopped(
    pyspaces: Run, name: str, options: list[str], who: str, tmp_path: Path, wait_until: Wait
) -> None:
    """It was killed when the grace was over, and a stopped launcher was left behind."""
    script = f"trap 'exit 44' TERM; : > {tmp_path}/ready; while :; do sleep 0.01; done"
    with running(name, "--user", *options, "--", "sh", "-c", script) as launcher:
        wait_until((tmp_path / "ready").exists, "the handler is there")
        holder = registry.find(name)
        assert holder is not None
        command = processes.children_of(holder.pid)[0] if "--init" in options else holder.pid
        stopped = {"launcher": [launcher.pid], "command": [command]}
        for pid in stopped.get(who, [command, launcher.pid]):
            os.kill(pid, signal.SIGSTOP)
            wait_until(lambda pid=pid: state_of(pid) == "T", "it is stopped")
        assert pyspaces("stop", "--grace", "20", name).returncode == 0
        assert launcher.wait() == 44


@pytest.mark.needs("userns")
def test_stop_stops_the_others_if_a_name_is_not_registered(pyspaces: Run, name: str) -> None:
    with running(name, "--user", "--", "sleep", "1000"):
        done = pyspaces("stop", f"{name}-b", name, name, f"{name}-c")
        assert done.returncode == 125
        assert [line for line in done.stderr.splitlines() if line[0] != " "] == [
            f"pyspaces: name: {name}-b: is not registered",
            f"pyspaces: name: {name}-c: is not registered",
        ]
        assert registry.find(name) is None


@pytest.mark.skipif(not IS_ROOT, reason="needs root")
def test_stop_goes_on_after_a_process_that_it_may_not_signal(pyspaces: Run, name: str) -> None:
    """The launcher is root's, the command is not: without CAP_KILL root may not kill it."""
    script = "trap '' TERM; echo; while :; do sleep 0.01; done"
    other = f"{name}-b"
    with (
        running(name, "--setuid", "1000", "--", "sh", "-c", script) as launcher,
        running(other, "--user", "--", "sleep", "1000"),
    ):
        holder = registry.find(name)
        assert holder is not None
        words = ("--cap-drop", "kill", "--", SCRIPT, "stop", "--grace", "0.2", name, other)
        done = pyspaces("run", *words)
        assert done.returncode == 125
        assert done.stderr.splitlines() == [
            f"pyspaces: cannot stop {name}: process {holder.pid}: Operation not permitted",
            "hint: if another user has it, stop it as that user, or as root with CAP_KILL",
        ]
        assert registry.find(other) is None
        assert registry.find(name) is not None
        assert pyspaces("stop", "--grace", "0", name).returncode == 0
        launcher.wait()


def test_stop_needs_a_name(pyspaces: Run) -> None:
    assert pyspaces("stop").returncode == 2
    done = pyspaces("stop", "a/b")
    assert (done.returncode, done.stderr[:28]) == (2, "pyspaces: name: 'a/b': a nam")


@pytest.mark.needs("userns")
@pytest.mark.parametrize("seconds", ["inf", "1e10", "nan", "-1"])
def test_a_grace_without_end_is_refused_before_anything_happens(
    pyspaces: Run, name: str, seconds: str
) -> None:
    with running(name, "--user", "--", "sleep", "1000"):
        done = pyspaces("stop", f"--grace={seconds}", name)
        assert done.returncode == 2
        assert done.stderr.startswith("pyspaces: stop: invalid value for '--grace': ")
        assert registry.find(name) is not None


def test_a_hold_takes_nothing_that_is_about_a_command(pyspaces: Run, name: str) -> None:
    words = ("--pty", "--init", "--timeout=1", "--report", "--setenv", "A", "b")
    done = pyspaces("run", "--name", name, "--hold", *words)
    assert done.returncode == 2
    told = [line.split("hold: ")[1] for line in done.stderr.splitlines() if "hold: " in line]
    settings = ("init", "pty", "timeout", "report", "setenv")
    assert told == [
        f"cannot be combined with --{setting}: there is no command" for setting in settings
    ]
    done = pyspaces("run", "--name", name, "--hold")
    assert (done.returncode, done.stderr) == (
        2,
        "pyspaces: --hold: no new namespace to keep\n",
    )
    assert registry.find(name) is None


@pytest.mark.needs("userns")
def test_a_plan_of_a_hold_takes_no_command_either(pyspaces: Run, name: str, tmp_path: Path) -> None:
    file = tmp_path / "plan"
    words = ("run", "--name", name, "--user", "--workdir", "/usr", "--hold", "--dry-run")
    assert f"until they are released: pyspaces stop {name}\n" in pyspaces(*words).stdout
    file.write_text(pyspaces(*words, "--json").stdout)
    done = pyspaces("run", "--plan", str(file), "--", "true")
    assert (done.returncode, "hold: takes no command" in done.stderr) == (2, True)
    assert pyspaces("run", "--plan", str(file)).returncode == 0
    assert pyspaces("enter", name, "-a", "--root", "--", "pwd").stdout == "/usr\n"


@pytest.mark.needs("userns", "pidns")
def test_a_named_command_beneath_our_process_1(pyspaces: Run, name: str) -> None:
    with running(name, "--user", "--mount", "--init", "--", "sleep", "1000") as launcher:
        done = pyspaces("enter", name, "--", "sh", "-c", "cat /proc/[0-9]*/comm")
        assert "sleep" in done.stdout.split()
        assert pyspaces("stop", name).returncode == 0
        assert launcher.wait() == -signal.SIGTERM


def test_no_name_where_nobody_stays(pyspaces: Run, name: str) -> None:
    done = pyspaces("run", "--name", name, "--no-fork", "--", "true")
    assert (done.returncode, done.stderr) == (
        2,
        "pyspaces: --no-fork: cannot be combined with --name: no launcher is left to release it\n",
    )
    assert registry.find(name) is None


@pytest.mark.needs("userns")
def test_a_command_finds_its_own_name(pyspaces: Run, name: str) -> None:
    """It is registered before it runs."""
    done = pyspaces("run", "--name", name, "--user", "--", "cat", f"{runtime.directory()}/{name}")
    first, *rest = done.stdout.splitlines()
    assert first.split()[3] == "1"  # it stands for the command, not for the launcher
    assert "made user" in rest


# --- the directory ------------------------------------------------------------------------------


@pytest.mark.as_ordinary
def test_the_directory_of_an_ordinary_user(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    assert runtime.directory() == f"{tmp_path}/pyspaces"
    claim = registry.Claim(name)
    assert os.stat(runtime.directory()).st_mode & 0o777 == 0o700
    assert [holder.name for holder in registry.holders()] == [name]
    claim.give_up()
    assert registry.holders() == []
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/proc/1")  # somebody else's
    assert runtime.directory() in (
        f"/run/user/{os.getuid()}/pyspaces",
        f"/tmp/pyspaces-{os.getuid()}",
    )


@pytest.mark.as_ordinary
def test_a_directory_that_others_can_write_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    (tmp_path / "pyspaces").mkdir()
    (tmp_path / "pyspaces").chmod(0o777)
    with pytest.raises(SpaceError, match="somebody else can write to this directory"):
        registry.Claim(name)
    (tmp_path / "pyspaces").chmod(0o700)


@pytest.mark.as_ordinary
def test_a_file_that_makes_no_sense_holds_no_name(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    (tmp_path / "pyspaces").mkdir(mode=0o700)
    for text in ("", "process x y z\n", "process 1\n", "\0\xff"):
        (tmp_path / "pyspaces" / name).write_text(text)
        assert registry.find(name) is None
    registry.Claim(name).give_up()


FEW_DESCRIPTORS = """
import os, resource, sys
from pyspaces.errors import SpaceError
from pyspaces.features.existing import registry
name = sys.argv[1]
claim = registry.Claim(name)
os.closerange(3, 1024)
limits = resource.getrlimit(resource.RLIMIT_NOFILE)
for room in (3, 4):  # none is left, and one: for the directory, and not for the file
    resource.setrlimit(resource.RLIMIT_NOFILE, (room, limits[1]))
    for look in (registry.holders, lambda: registry.find(name), lambda: registry.Claim(name)):
        try:
            print(look())
        except SpaceError:
            continue
    claim.give_up()
    resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert registry.find(name)
claim.give_up()
assert registry.find(name) is None
"""


def test_a_name_that_no_descriptor_is_left_for_is_not_a_free_one(name: str) -> None:
    done = outcome([sys.executable, "-c", FEW_DESCRIPTORS, name])
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
