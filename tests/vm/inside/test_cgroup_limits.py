"""Limits of all processes of a command together: each reached on purpose, and told."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from conftest import SCRIPT, has_ended, outcome, without

import pyspaces as spaces
from pyspaces import launch, settings
from pyspaces.errors import SpaceError
from pyspaces.launch.inner import steps

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    from conftest import Run

PYTHON = [sys.executable, "-I", "-S", "-c"]
EAT = [*PYTHON, "x = bytearray(300 << 20)"]
ROOT = Path("/sys/fs/cgroup")
CLONE3 = 435


def own() -> Path:
    return ROOT / Path("/proc/self/cgroup").read_text().strip().removeprefix("0::/")


HOME = own().parent  # where launches of these tests create their cgroups


def boxes(where: Path = HOME) -> list[Path]:
    return [path for path in where.rglob("pyspaces-*") if path.is_dir()]


@pytest.fixture(autouse=True)
def removes_all() -> Iterator[None]:
    yield
    assert boxes(ROOT) == []


def recorded(pyspaces: Run, *words: str) -> tuple[subprocess.CompletedProcess[str], dict[str, Any]]:
    """Run a command with the status record on standard error; return its last line, too."""
    done = pyspaces("run", "--status-fd", "2", *words)
    lines = [line for line in done.stderr.splitlines() if line.startswith("{")]
    return done, json.loads(lines[-1])


AROUND = pytest.mark.parametrize(
    "around",
    [[], ["--user", "--pid"], ["--user", "--init", "--cgroup", "--mount"]],
    ids=lambda words: "".join(words) or "plain",
)


@AROUND
def test_too_much_memory_ends_the_command(pyspaces: Run, around: list[str]) -> None:
    # With a shell, and a process 1 of ours, above the process that takes the memory.
    script = f"{sys.executable} -I -S -c 'x = bytearray(300 << 20)'; echo survived"
    done, record = recorded(pyspaces, *around, "--memory", "64M", "--", "sh", "-c", script)
    assert done.returncode == 137
    assert "survived" not in done.stdout
    assert "pyspaces: killed: out of memory (limit 64M)" in done.stderr.splitlines()
    assert (record["limit"], record["signal"]) == ("memory", "SIGKILL")
    assert record["cgroup"]["oom_kills"] >= 1
    assert 60 << 20 <= record["cgroup"]["memory_peak"] <= 64 << 20


@AROUND
def test_what_fits_runs_and_is_counted(pyspaces: Run, around: list[str]) -> None:
    script = f"{sys.executable} -I -S -c 'x = bytearray(30 << 20)'"
    done, record = recorded(pyspaces, *around, "--memory=64M", "--", "sh", "-c", script)
    assert done.returncode == 0
    assert record["limit"] is None
    counted = record["cgroup"]
    assert 30 << 20 <= counted["memory_peak"] < 64 << 20
    assert counted["oom_kills"] == counted["pids_refused"] == 0
    assert counted["user"] + counted["system"] > 0


def test_the_report_tells_of_all_processes(pyspaces: Run) -> None:
    done = pyspaces("run", "--memory", "64M", "--report", "--", "true")
    names = [line[:14].strip() for line in done.stderr.splitlines()]
    assert {"all CPU time", "all memory", "all I/O"} <= set(names)


def test_swap_counts_as_memory_unless_asked_for(pyspaces: Run) -> None:
    cat = f"cat {ROOT}$(cut -d: -f3 /proc/self/cgroup)/memory.swap.max"
    for words, expected in (
        (["--memory", "64M"], "0"),
        (["--memory", "64M", "--swap", "1g"], str(1 << 30)),
        (["--memory", "64M", "--swap", "unlimited"], "max"),
        (["--swap", "4k"], "4096"),
        (["--pids", "9"], "max"),
    ):
        done = pyspaces("run", *words, "--", "sh", "-c", cat)
        assert (done.returncode, done.stderr) == (0, ""), words
        if words != ["--pids", "9"]:  # the file is there only with the controller
            assert done.stdout.strip() == expected, words


def test_too_many_processes(pyspaces: Run) -> None:
    code = (
        "import os\n"
        "number = 0\n"
        "while True:\n"
        "    try:\n"
        "        if os.fork() == 0:\n"
        "            os.read(os.pipe()[0], 1)\n"
        "    except OSError as error:\n"
        "        print(number, error.errno); break\n"
        "    number += 1\n"
    )
    done, record = recorded(pyspaces, "--pids", "8", "--", *PYTHON, code)
    # They are left when the command ends, and are killed.
    assert done.stdout.split() == ["7", "11"]
    assert record["cgroup"]["pids_refused"] == 1


def test_cpu_time_is_throttled(pyspaces: Run) -> None:
    code = "import time; end = time.monotonic() + 2\nwhile time.monotonic() < end: pass"
    _, record = recorded(pyspaces, "--cpus", "0.25", "--", *PYTHON, code)
    # Two seconds, of which it may have a quarter, and its start.
    used = record["cgroup"]["user"] + record["cgroup"]["system"]
    assert used < 0.6 * record["wall"]
    assert record["cgroup"]["throttled"] > 0.5


def test_every_file_is_as_asked_for(pyspaces: Run) -> None:
    options = ["--memory=1G", "--pids=77", "--cpus=1.5", "--io-weight=42"]
    files = ("memory.max", "memory.oom.group", "pids.max", "cpu.max", "io.weight", "io.bfq.weight")
    script = f"cd {ROOT}$(cut -d: -f3 /proc/self/cgroup) && cat {' '.join(files)}"
    done = pyspaces("run", *options, "--", "sh", "-c", script)
    lines = [str(1 << 30), "1", "77", "150000 100000", "default 42", "default 42"]
    assert (done.stdout.splitlines(), done.stderr) == (lines, "")


DISK = Path("/sys/block/vda")


READERS = " ".join(
    f"dd if=/dev/vda of=/dev/null bs=4k iflag=direct status=none skip={place}000 &"
    for place in range(4)
)


def read_in(box: Path) -> int:
    words = [word.split("=") for word in (box / "io.stat").read_text().split() if "=" in word]
    return sum(int(number) for name, number in words if name == "rbytes")


@pytest.mark.as_root
def test_a_disk_is_divided_by_weight(wait_until: Callable[..., None]) -> None:
    """One that serves 50 reads in a second, each of two commands with four that wait for it."""
    # Else a queue is preferred at its beginning, and the disk gets many requests at once.
    for name, text in (("low_latency", "0"), ("strict_guarantees", "1"), ("slice_idle", "50")):
        (DISK / "queue/iosched" / name).write_text(text)
    with contextlib.ExitStack() as running:

        def started(weight: str) -> Path:
            others = boxes()
            words = [SCRIPT, "run", "--io-weight", weight, "--", "sh", "-c"]
            words.append(f"while :; do {READERS} wait; done")
            launcher = running.enter_context(subprocess.Popen(words))
            running.callback(launcher.terminate)
            wait_until(lambda: len(boxes()) > len(others), "it has a cgroup")
            (box,) = set(boxes()).difference(others)
            wait_until(lambda: read_in(box) > 0, "it reads")
            return box

        light, heavy = started("1"), started("10000")
        before = read_in(light), read_in(heavy)
        wait_until(lambda: read_in(heavy) - before[1] > 300 * 4096, "the heavier one reads")
        after = read_in(light), read_in(heavy)
    assert after[0] - before[0] < (after[1] - before[1]) // 3


@pytest.mark.as_root
def test_a_weight_without_effect_is_told(pyspaces: Run) -> None:
    costs = ROOT / "io.cost.qos"
    number = (DISK / "dev").read_text().strip()

    def told() -> str:
        done = pyspaces("run", "--io-weight", "7", "--", "true")
        assert done.returncode == 0
        return done.stderr

    assert told() == ""
    (DISK / "queue/scheduler").write_text("none")
    try:
        assert told() == (
            "pyspaces: io-weight: has no effect on vda: the I/O scheduler there is not bfq, and no"
            " cost model is enabled\n"
        )
        costs.write_text(f"{number} enable=1")
        assert told() == ""
    finally:
        costs.write_text(f"{number} enable=0")
        (DISK / "queue/scheduler").write_text("bfq")


def test_its_cgroup_is_the_root_of_its_namespace(pyspaces: Run) -> None:
    words = ("--user", "--cgroup", "--mount", "--memory", "64M")
    script = "cat /proc/self/cgroup; mount -t cgroup2 none /mnt; cat /mnt/memory.max"
    done = pyspaces("run", *words, "--", "sh", "-c", script)
    assert (done.stdout.split(), done.stderr) == (["0::/", str(64 << 20)], "")


def test_without_clone3_it_is_moved_before_anything_else(pyspaces: Run) -> None:
    words = ("--user", "--cgroup", "--pids", "7", "--", "cat", "/proc/self/cgroup")
    done = outcome([*without(CLONE3), SCRIPT, "run", *words])
    assert (done.stdout, done.stderr) == ("0::/\n", "")


def test_what_is_left_behind_is_killed(pyspaces: Run) -> None:
    script = "sleep 1000 >/dev/null 2>&1 & echo $!"
    done = pyspaces("run", "--pids", "9", "--", "sh", "-c", script)
    assert has_ended(int(done.stdout))


def test_a_killed_launcher_leaves_what_the_next_one_sweeps(
    pyspaces: Run, wait_until: Callable[..., None]
) -> None:
    words = [SCRIPT, "run", "--pids", "9", "--", "sh", "-c", "echo $$; exec sleep 1000"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as launcher:
        assert launcher.stdout is not None
        pid = int(launcher.stdout.readline())
        launcher.kill()
    wait_until(lambda: not Path(f"/proc/{pid}").exists(), "the command dies with its launcher")
    (left,) = boxes()
    # What is alive, or another's, is not swept.
    other = left.with_name("pyspaces-1-2-3-4")
    other.mkdir()
    try:
        assert pyspaces("run", "--pids", "9", "--", "true").returncode == 0
        assert boxes() == [other]
    finally:
        other.rmdir()


def test_a_launcher_that_is_asked_to_end_removes_it(wait_until: Callable[..., None]) -> None:
    words = [SCRIPT, "run", "--pids", "9", "--", "sh", "-c", "echo; exec sleep 1000"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as launcher:
        assert launcher.stdout is not None
        launcher.stdout.readline()
        launcher.send_signal(signal.SIGTERM)
    assert launcher.returncode == -signal.SIGTERM


def test_the_library_limits_functions_and_commands() -> None:
    container = spaces.Container(target=bytearray, args=(300 << 20,), user=True, memory="64M")
    container.start()
    container.join()
    assert container.exitcode == -signal.SIGKILL
    plan = settings.plan_from({"memory": 64 << 20, "command": EAT})
    with launch.start(plan, tell=lambda text: None) as running:
        assert running.wait().signal == signal.SIGKILL


def test_threads_launch_side_by_side() -> None:
    plan = settings.plan_from({"pids": 5, "command": ["true"]})
    found: list[int | None] = []

    def run() -> None:
        with launch.start(plan) as running:
            found.append(running.wait().code)

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [0] * 4


def test_a_command_that_enters_is_limited_too(pyspaces: Run) -> None:
    holding = [SCRIPT, "run", "--user", "--pid", "--", "sh", "-c", "echo; exec sleep 1000"]
    with subprocess.Popen(holding, stdout=subprocess.PIPE, text=True) as target:
        try:
            assert target.stdout is not None
            target.stdout.readline()
            (child,) = Path(f"/proc/{target.pid}/task/{target.pid}/children").read_text().split()
            done = pyspaces("enter", child, "--memory", "64M", "--", *EAT)
        finally:
            target.terminate()
    assert done.returncode == 137
    assert "killed: out of memory (limit 64M)" in done.stderr


def test_too_little_for_the_launch_itself_is_told(pyspaces: Run) -> None:
    done = pyspaces("run", "--memory", "64K", "--", "true")
    assert done.returncode != 0
    assert "pyspaces: the new process was killed: out of memory (limit 64K)" in done.stderr


@pytest.mark.as_root
def test_a_limit_above_is_not_taken_for_its_own(tree: Path) -> None:
    (tree / "cgroup.subtree_control").write_text("+memory")
    (tree / "memory.max").write_text(str(48 << 20))
    (tree / "memory.swap.max").write_text("0")
    inner = tree / "inner"
    inner.mkdir()
    done = launched_in(inner, SCRIPT, "run", "--memory", "1G", "--status-fd", "1", "--", *EAT)
    assert done.returncode == 137
    assert "pyspaces: killed: out of memory, on the host or in a cgroup above" in done.stderr
    assert json.loads(done.stdout.splitlines()[-1])["limit"] is None


def test_a_namespace_that_is_refused_is_told_and_nothing_is_left(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(context: object) -> None:
        raise OSError(18, "x")

    (row,) = (row for row in steps.STEPS if row == ("resources", "CREATE_NAMESPACE"))
    step = steps.step_of(row).replace(act=refuse)
    monkeypatch.setattr(steps, "STEPS", (step,))
    plan = settings.plan_from({"user": True, "cgroup": True, "pids": 9, "command": ["true"]})
    with pytest.raises(SpaceError, match="cannot create the cgroup namespace"):
        launch.start(plan)


# --- where it cannot be ---------------------------------------------------------------------------


@pytest.fixture
def tree() -> Iterator[Path]:
    """A cgroup of root, which is removed with what a test has created in it."""
    top = ROOT / "tree.slice"
    top.mkdir()
    yield top
    for path in sorted(top.rglob("*/"), reverse=True):
        if path.is_dir():
            path.rmdir()
    top.rmdir()


def launched_in(where: Path, *words: str, shell: bool = False) -> subprocess.CompletedProcess[str]:
    """Launch from a cgroup; with a shell in it beside the launcher, if asked for."""
    script = f'echo $$ >{where}/cgroup.procs && {"" if shell else "exec "}"$@"'
    return outcome(["sh", "-c", script, "sh", *words])


def delegate(where: Path) -> None:
    for path in (where, where / "cgroup.procs", where / "cgroup.subtree_control"):
        os.chown(path, 1000, 1000)


AS_USER = ["setpriv", "--reuid=1000", "--regid=1000", "--clear-groups"]
LIMITED = [SCRIPT, "run", "--memory", "64M", "--", "cat", "/proc/self/cgroup"]


@pytest.mark.as_root
def test_what_is_not_writable_is_named(tree: Path) -> None:
    done = launched_in(tree, *AS_USER, *LIMITED)
    assert done.returncode == 125
    assert done.stderr.splitlines() == [
        "pyspaces: cannot limit the command by a cgroup: no cgroup can be used here that has the"
        " controller memory",
        f"  {tree}: the directory is not writable for this user",
        f"  {ROOT}: the directory is not writable for this user",
    ]


@pytest.mark.as_root
def test_processes_beside_the_launcher_are_named(tree: Path) -> None:
    delegate(tree)
    done = launched_in(tree, *AS_USER, *LIMITED, shell=True)
    assert done.returncode == 125
    assert f"  {tree}: has processes of its own: " in done.stderr
    assert "(sh)" in done.stderr


@pytest.mark.as_root
def test_alone_in_its_cgroup_the_launcher_moves_one_level_down(tree: Path) -> None:
    delegate(tree)
    done = launched_in(tree, *AS_USER, *LIMITED)
    assert done.stderr == ""
    assert Path(done.stdout.strip()).parent.name == tree.name
    # And back again: the cgroup is as it was.
    assert [path for path in tree.iterdir() if path.is_dir()] == []
    assert (tree / "cgroup.subtree_control").read_text().strip() == ""


THREADS = """
import threading
from pyspaces import launch, settings
plan = settings.plan_from({"pids": 5, "command": ["true"]})
def run():
    for _ in range(3):
        with launch.start(plan) as running:
            assert running.wait().code == 0
threads = [threading.Thread(target=run) for _ in range(3)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print(open("/proc/self/cgroup").read())
"""


@pytest.mark.as_root
def test_so_do_threads_that_launch_side_by_side(tree: Path) -> None:
    delegate(tree)
    done = launched_in(tree, *AS_USER, sys.executable, "-c", THREADS)
    assert (done.stdout.strip(), done.stderr) == (f"0::/{tree.name}", "")
    assert [path for path in tree.iterdir() if path.is_dir()] == []


@pytest.mark.as_root
def test_a_controller_that_is_not_given_is_named(tree: Path) -> None:
    (tree / "cgroup.subtree_control").write_text("+pids")
    inner = tree / "inner"
    inner.mkdir()
    done = launched_in(inner, *AS_USER, *LIMITED)
    assert f"  {inner}: no controller memory: cgroup.controllers has only pids" in done.stderr


@pytest.mark.as_root
def test_what_systemd_manages_is_left_to_it_unless_it_is_delegated(tree: Path) -> None:
    booted, init = Path("/run/systemd/system"), ROOT / "init.scope"
    booted.mkdir(parents=True)
    init.mkdir()
    scope = tree / "app.slice" / "run.scope"
    scope.mkdir(parents=True)
    (tree / "cgroup.subtree_control").write_text("+memory")
    (scope.parent / "cgroup.subtree_control").write_text("+memory")
    try:
        refused = launched_in(scope, *LIMITED)
        os.setxattr(scope, "user.delegate", b"1")
        allowed = launched_in(scope, *LIMITED)
    finally:
        init.rmdir()
        booted.rmdir()
    why = "is managed by systemd, which does not delegate it"
    assert f"  {scope}: {why}" in refused.stderr
    assert f"  {scope.parent}: {why}" in refused.stderr
    assert "hint:" not in refused.stderr
    assert (allowed.returncode, allowed.stderr) == (0, "")
    assert allowed.stdout.startswith("0::/tree.slice/app.slice/run.scope/pyspaces-")
