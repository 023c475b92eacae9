"""Limits by cgroups of version 1, where the host has its controllers there: for root."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import SCRIPT

from pyspaces import launch, settings
from pyspaces.errors import Refusal
from pyspaces.features.cgroup import older
from pyspaces.features.cgroup.values import UNLIMITED, Resources
from pyspaces.kernel import cgroupfs, spawn
from pyspaces.launch.outer.older_box import OlderBox

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    from conftest import Run

CONTROLLERS = ("memory", "pids", "cpu")
PYTHON = [sys.executable, "-I", "-S", "-c"]
EAT = [*PYTHON, "x = bytearray(300 << 20)"]
# Not a feature that a host has to have: most have these controllers in version 2, as tests/vm does.
usable = pytest.mark.skipif(
    older.serves(CONTROLLERS) is None, reason="needs root, and controllers in cgroups of version 1"
)


def left() -> list[Path]:
    """Return what launchers have left that have ended: others may run beside this suite."""
    places = older.find(CONTROLLERS).values()
    found = [path for place in places for path in Path(place).glob("pyspaces-*")]
    return [path for path in found if not Path("/proc", path.name.split("-")[2]).exists()]


@pytest.fixture(autouse=True)
def removes_all() -> Iterator[None]:
    yield
    assert left() == []


def recorded(pyspaces: Run, *words: str) -> tuple[subprocess.CompletedProcess[str], dict[str, Any]]:
    """Run a command with the status record on standard error; return its last line, too."""
    done = pyspaces("run", "--status-fd", "2", *words)
    lines = [line for line in done.stderr.splitlines() if line.startswith("{")]
    return done, json.loads(lines[-1])


@usable
def test_too_much_memory_ends_the_process_that_takes_it(pyspaces: Run) -> None:
    for words, more in (([], ""), (["--swap", "4M"], " and 4M of swap")):
        done, record = recorded(pyspaces, "--memory", "64M", *words, "--", *EAT)
        assert done.returncode == 137
        assert f"pyspaces: killed: out of memory (limit 64M{more})" in done.stderr.splitlines()
        assert (record["limit"], record["cgroup"]["oom_kills"]) == ("memory", 1)
        assert 60 << 20 <= record["cgroup"]["memory_peak"] <= 64 << 20


@usable
def test_processes_cpu_time_and_what_is_counted(pyspaces: Run) -> None:
    script = "for n in 1 2 3 4 5 6 7 8 9; do sleep 1000 & done 2>/dev/null"
    _, record = recorded(pyspaces, "--pids", "4", "--", "sh", "-c", script)
    assert record["cgroup"]["pids_refused"] >= 1
    # A share of what it takes, not of the time that passes: on a busy machine it may get less.
    code = "import time\nwhile time.process_time() < 0.2: pass"
    _, record = recorded(pyspaces, "--cpus", "0.1", "--", *PYTHON, code)
    used = record["cgroup"]["user"] + record["cgroup"]["system"]
    assert 0 < used < 0.6 * record["wall"]
    assert record["cgroup"]["throttled"] > 0


@usable
@pytest.mark.needs("userns", "pidns")
def test_inside_a_user_namespace_it_is_limited_from_the_first_process_on(pyspaces: Run) -> None:
    words = ("--user", "--pid", "--init", "--cgroup", "--mount", "--pids", "9", "--memory", "64M")
    done = pyspaces("run", *words, "--", "cat", "/proc/self/cgroup")
    rows = [line.split(":") for line in done.stdout.splitlines()]
    # Its cgroup is the root of its cgroup namespace.
    assert {row[2] for row in rows if row[1] in ("memory", "pids")} == {"/"}


@usable
def test_what_goes_on_to_fork_is_ended_with_the_command(pyspaces: Run) -> None:
    # Each waits for the one that it starts, so that there are always some.
    script = "f() { sleep 0.01; f & wait; }; f & exec sleep 0.2"
    done = pyspaces("run", "--pids", "200", "--", "sh", "-c", script)
    assert done.returncode == 0


@usable
def test_a_killed_launcher_leaves_what_the_next_one_sweeps(
    pyspaces: Run, wait_until: Callable[..., None]
) -> None:
    words = [SCRIPT, "run", "--pids", "9", "--", "sh", "-c", "echo $$; exec sleep 1000"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as launcher:
        try:
            assert launcher.stdout is not None
            pid = int(launcher.stdout.readline())
        finally:
            launcher.kill()
    wait_until(lambda: not Path(f"/proc/{pid}").exists(), "the command dies with its launcher")
    assert left()
    assert pyspaces("run", "--pids", "9", "--", "true").returncode == 0


@usable
def test_the_library_and_the_launch_server_have_it_too() -> None:
    plan = settings.plan_from({"memory": 64 << 20, "pids": 9, "command": EAT})
    for by_server in (False, True):
        launch.use_server(by_server)
        with launch.start(plan, tell=lambda text: None) as running:
            assert running.wait(60).signal == signal.SIGKILL


@usable
def test_a_cgroup_that_cannot_be_made_leaves_none(tmp_path: Path) -> None:
    places = {**older.find(CONTROLLERS), "io": str(tmp_path / "none")}
    with pytest.raises(OSError, match="none"):
        OlderBox(places)


@usable
def test_a_child_is_moved_to_all_of_them_and_killed_there() -> None:
    box = OlderBox(older.find(CONTROLLERS))
    child = spawn.spawn(signal.pause)
    try:
        box.admit(child)
        name = os.path.basename(box.path)
        rows = [path for _, path in cgroupfs.cgroups_of(child.pid) if path.endswith(name)]
        assert len(rows) == len(CONTROLLERS)
    finally:
        box.close()
        assert os.waitstatus_to_exitcode(os.waitpid(child.pid, 0)[1]) == -signal.SIGKILL
        os.close(child.pidfd)


def test_what_is_written_and_what_version_1_cannot_do() -> None:
    rows = [(row.file, row.text) for row in older.settings(Resources(memory=64, pids=7, cpus=0.5))]
    assert rows == [
        ("memory.limit_in_bytes", "64"),
        ("memory.memsw.limit_in_bytes", "64"),
        ("pids.max", "7"),
        ("cpu.cfs_period_us", "100000"),
        ("cpu.cfs_quota_us", "50000"),
    ]
    with_swap = [row.text for row in older.settings(Resources(memory=64, swap=6))]
    assert with_swap == ["64", "70"]
    assert len(list(older.settings(Resources(memory=64, swap=UNLIMITED)))) == 1
    for wrong, reason in ((Resources(swap=6), "--memory"), (Resources(io_weight=1001), "1000")):
        with pytest.raises(Refusal) as caught:
            list(older.settings(wrong))
        assert reason in caught.value.text
