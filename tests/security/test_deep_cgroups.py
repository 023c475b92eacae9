"""A command that can create cgroups, against the launcher that removes them after it."""

from __future__ import annotations

import os
import resource
import signal
from pathlib import Path

import pytest

from pyspaces.kernel import cgroupfs, spawn
from pyspaces.kernel.libc import KernelError
from pyspaces.library import removing

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

DEPTH = 2300  # more than a path of PATH_MAX bytes can name


def deep(top: Path, depth: int, *more: str) -> int:
    """Create directories in each other; return a descriptor of the deepest. more: in that one."""
    here = os.open(top, os.O_DIRECTORY)
    for _ in range(depth):
        os.mkdir("y", dir_fd=here)
        there = os.open("y", os.O_DIRECTORY, dir_fd=here)
        os.close(here)
        here = there
    for name in more:
        os.mkdir(name, dir_fd=here)
    return here


@pytest.mark.anyone
def test_cgroups_at_any_depth_are_removed(tmp_path: Path) -> None:
    """Before: ENAMETOOLONG, a path of 4 KiB on the terminal, and a cgroup that stayed for good."""
    top = tmp_path / "box"
    top.mkdir()
    (top / "beside").mkdir()
    os.close(deep(top, DEPTH, "a", "b"))
    with_few_descriptors(lambda: cgroupfs.remove(str(top)))
    assert not top.exists()
    cgroupfs.remove(str(top))  # one that is not there is fine


def with_few_descriptors(do: Callable[[], object]) -> object:
    """Return what `do` returns, with room for a few more descriptors than are open."""
    open_now = len(os.listdir("/proc/self/fd"))
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (open_now + 32, hard))
    try:
        return do()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.anyone
def test_a_process_at_any_depth_is_found_and_killed(tmp_path: Path) -> None:
    """In directories as those of a cgroup; before, it lay beyond what a path can name."""
    command = spawn.spawn(signal.pause)
    try:
        here = deep(tmp_path, DEPTH, "a", "b")
        assert not cgroupfs.is_populated(str(tmp_path))
        with open(os.open("cgroup.procs", os.O_CREAT | os.O_WRONLY, dir_fd=here), "w") as file:
            file.write(f"{command.pid}\n")
        os.close(here)
        assert with_few_descriptors(lambda: cgroupfs.is_populated(str(tmp_path)))
        with_few_descriptors(lambda: cgroupfs.kill_each(str(tmp_path)))
        assert os.waitstatus_to_exitcode(os.waitpid(command.pid, 0)[1]) == -signal.SIGKILL
    finally:
        os.close(command.pidfd)
    removing.remove(str(tmp_path))


@pytest.mark.anyone
def test_what_cannot_be_removed_is_named_by_a_short_path(tmp_path: Path) -> None:
    os.close(deep(tmp_path, 20))
    (tmp_path / ("y/" * 20) / "file").touch()  # as a process keeps a cgroup
    with pytest.raises(KernelError) as caught:
        cgroupfs.remove(str(tmp_path))
    assert caught.value.filename == f"{tmp_path}{'/y' * 8}"
