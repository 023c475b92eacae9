"""--create-targets in a directory that somebody else fills: all that is created is in the root."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from conftest import SCRIPT, outcome

pytestmark = pytest.mark.needs("userns", "proc")


@pytest.mark.parametrize("up", ["", "/..", "/../..", "/proc/self/root", "/proc/1/cwd/.."])
def test_a_link_leads_a_target_nowhere_outside(tmp_path: Path, up: str) -> None:
    victim, hostile = tmp_path / "victim", tmp_path / "hostile"
    victim.mkdir()
    hostile.mkdir()
    (hostile / "out").symlink_to(f"{up}{victim}")
    (hostile / "far").symlink_to("../" * 40 + str(victim)[1:])
    for target in ("/mnt/out/x", "/mnt/out", "/mnt/far/x/y", "/mnt/far"):
        for words in (["--tmpfs", target], ["--dir", target], ["--symlink", "x", target]):
            shown = ("--bind", str(hostile), "/mnt", *words)
            line = (SCRIPT, "run", "--user", "--pid", "--empty-root", "--create-targets", *shown)
            done = outcome([*line, "--", "/true"])
            # Refused, or without a command in such a root.
            assert done.returncode in (125, 127), done.stderr
    assert os.listdir(victim) == []
    assert sorted(os.listdir(hostile)) == ["far", "out"]
