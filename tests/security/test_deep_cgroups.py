"""A command that can create cgroups, against the launcher that removes them after it."""

from __future__ import annotations

import os
import resource
from pathlib import Path

import pytest

from pyspaces.kernel import cgroupfs
from pyspaces.kernel.libc import KernelError

DEPTH = 2300  # more than a path of PATH_MAX bytes can name


def deep(top: Path, depth: int, *more: str) -> None:
    """Create directories in each other. more: further ones in the deepest."""
    here = os.open(top, os.O_DIRECTORY)
    for _ in range(depth):
        os.mkdir("y", dir_fd=here)
        there = os.open("y", os.O_DIRECTORY, dir_fd=here)
        os.close(here)
        here = there
    for name in more:
        os.mkdir(name, dir_fd=here)
    os.close(here)


@pytest.mark.anyone
def test_cgroups_at_any_depth_are_removed(tmp_path: Path) -> None:
    """Before: ENAMETOOLONG, a path of 4 KiB on the terminal, and a cgroup that stayed for good."""
    top = tmp_path / "box"
    top.mkdir()
    (top / "beside").mkdir()
    deep(top, DEPTH, "a", "b")
    open_before = len(os.listdir("/proc/self/fd"))
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (open_before + 32, hard))
    try:
        cgroupfs.remove(str(top))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert not top.exists()
    cgroupfs.remove(str(top))  # one that is not there is fine


@pytest.mark.anyone
def test_what_cannot_be_removed_is_named_by_a_short_path(tmp_path: Path) -> None:
    deep(tmp_path, 20)
    (tmp_path / ("y/" * 20) / "file").touch()  # as a process keeps a cgroup
    with pytest.raises(KernelError) as caught:
        cgroupfs.remove(str(tmp_path))
    assert caught.value.filename == f"{tmp_path}{'/y' * 8}"
