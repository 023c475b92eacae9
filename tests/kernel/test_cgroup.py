"""A cgroup for a command, as far as this host has what that takes; tests/vm has the limits.

Where there is no controller, the errors; as root, cgroups without one.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from conftest import SCRIPT

from pyspaces import launch, settings
from pyspaces.errors import SpaceError
from pyspaces.features.cgroup import older, place
from pyspaces.kernel import cgroupfs, processes, spawn
from pyspaces.kernel.libc import KernelError
from pyspaces.launch.outer.box import Box, sweep

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from conftest import Run

    from pyspaces.kernel.spawn import Spawned


def _has(*controllers: str) -> bool:
    try:
        place.find(controllers)
    except KernelError:
        return False
    return True


# No features that a host has to have: what they are for is tested in tests/vm in any case.
creates = pytest.mark.skipif(not _has(), reason="needs root, and cgroups of version 2")
lacks = pytest.mark.skipif(
    _has("memory") or older.serves({"memory", "pids"}) is not None,
    reason="this host has the controller: see test_cgroup_older.py and tests/vm",
)


@lacks
def test_without_a_controller_the_launch_fails_before_the_command(
    pyspaces: Run, tmp_path: Path
) -> None:
    done = pyspaces("run", "--memory", "64M", "--", "touch", str(tmp_path / "ran"))
    assert done.returncode == 125
    first, *reasons = done.stderr.splitlines()
    assert first == (
        "pyspaces: cannot limit the command by a cgroup: no cgroup can be used here that has the"
        " controller memory"
    )
    assert reasons
    assert not list(tmp_path.iterdir())


@lacks
def test_each_cgroup_that_was_tried_is_named_with_its_reason() -> None:
    with pytest.raises(place.NoPlace) as caught:
        place.find({"memory", "pids"})
    assert "controllers memory, pids" in caught.value.text
    try:
        own = cgroupfs.own()
    except KernelError:
        assert "no mount of version 2 has the cgroup of this process" in caught.value.reasons
    else:
        assert caught.value.reasons[0].startswith(f"{own}: ")


@lacks
def test_the_failure_is_recorded(tmp_path: Path) -> None:
    plan = settings.plan_from({"pids": 5, "memory": "64M", "command": ["true"]})
    with pytest.raises(SpaceError) as caught:
        launch.start(plan)
    assert caught.value.report is not None
    assert caught.value.report.code == "cgroup"


@pytest.mark.needs("userns")
def test_without_its_file_system_there_is_no_cgroup(pyspaces: Run) -> None:
    words = (
        "--user",
        "--mount",
        "--tmpfs",
        "/sys",
        "--",
        SCRIPT,
        "run",
        "--pids",
        "5",
        "--",
        "true",
    )
    done = pyspaces("run", *words)
    assert done.returncode == 125
    assert "  no mount of version 2 has the cgroup of this process" in done.stderr.splitlines()


@pytest.fixture
def box() -> Iterator[Box]:
    """A cgroup without controllers, as `Cgroup` makes it."""
    made = Box(place.find(frozenset()))
    yield made
    made.close()
    assert not Path(made.path).exists()


def sleeping(box: Box, flags: int = 0) -> Spawned:
    cgroup = cgroupfs.open_directory(box.path)
    try:
        return spawn.spawn(signal.pause, flags=flags, cgroup=cgroup)
    finally:
        os.close(cgroup)


@creates
def test_a_child_starts_in_the_cgroup_and_dies_with_it(box: Box) -> None:
    child = sleeping(box)
    try:
        assert Path(f"/proc/{child.pid}/cgroup").read_text().count(Path(box.path).name) == 1
        assert box.counted()["user"] >= 0
        box.close()
        assert os.waitstatus_to_exitcode(os.waitpid(child.pid, 0)[1]) == -signal.SIGKILL
    finally:
        os.close(child.pidfd)


@creates
def test_before_linux_5_14_they_are_killed_one_by_one(box: Box) -> None:
    nested = Path(box.path, "nested")
    nested.mkdir()
    child = sleeping(box)
    try:
        (nested / "cgroup.procs").write_text(str(child.pid))
        cgroupfs.kill_each(box.path)
        assert os.waitstatus_to_exitcode(os.waitpid(child.pid, 0)[1]) == -signal.SIGKILL
    finally:
        os.close(child.pidfd)


@creates
def test_a_child_outside_is_moved_in(box: Box) -> None:
    child = spawn.spawn(signal.pause)
    try:
        box.admit(child)
        assert Path(box.path, "cgroup.procs").read_text().split() == [str(child.pid)]
    finally:
        os.kill(child.pid, signal.SIGKILL)
        os.waitpid(child.pid, 0)
        os.close(child.pidfd)


@creates
def test_only_what_is_empty_and_of_a_dead_launcher_is_swept(box: Box) -> None:
    above = Path(box.path).parent
    namespace = os.stat("/proc/self/ns/pid").st_ino
    started = processes.start_time("self")
    dead = above / f"pyspaces-{namespace}-{os.getpid()}-{(started or 0) - 1}-1"
    foreign = above / f"pyspaces-{namespace + 1}-{os.getpid()}-1-1"
    other = above / f"pyspaces-test-{os.getpid()}"
    made = [dead / "nested", foreign, other]
    try:
        for path in made:
            path.mkdir(parents=True)
        sweep(str(above))
        assert not dead.exists()
        assert foreign.exists()
        assert other.exists()
        assert Path(box.path).exists()
    finally:
        for path in (dead / "nested", dead, foreign, other):
            if path.exists():
                path.rmdir()


@creates
def test_what_a_hostile_command_has_nested_is_removed(box: Box) -> None:
    deep = Path(box.path)
    for _ in range(100):
        deep /= "x" * 20
        deep.mkdir()


def test_the_cgroup_of_a_target_and_one_of_its_own_exclude_each_other(pyspaces: Run) -> None:
    done = pyspaces("enter", str(os.getpid()), "--join-cgroup", "--pids", "5", "--", "true")
    assert (done.returncode, done.stderr) == (
        2,
        "pyspaces: --pids: cannot be combined with --join-cgroup: the command has its own cgroup\n",
    )


@pytest.mark.parametrize("words", [["--no-fork"], ["--hold", "--name", "x"]], ids="".join)
def test_without_a_launcher_nobody_would_remove_it(pyspaces: Run, words: list[str]) -> None:
    command = [] if "--hold" in words else ["--", "true"]
    done = pyspaces("run", *words, "--memory", "1G", *command)
    assert done.returncode == 2
    assert f"{words[0][2:]}: cannot be combined with --memory" in done.stderr


def test_the_preview_names_the_limits(pyspaces: Run) -> None:
    words = ("--user", "--cgroup", "--memory", "512m", "--cpus", "1.50", "--dry-run")
    lines = pyspaces("run", *words, "--", "true").stdout.splitlines()
    assert "create a cgroup: memory 512M, cpus 1.5" in lines
    assert "create the namespaces: user" in lines
    assert "create the cgroup namespace: its root is the cgroup of the command" in lines
