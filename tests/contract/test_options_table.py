"""What scripts write is up to date: the table that a launch reads, filters, documentation."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import pyspaces

ROOT = Path(pyspaces.__file__).parents[1]


@pytest.mark.parametrize("name", ["table", "profile", "options", "hints"])
def test_what_is_written_by_a_script_is_up_to_date(name: str) -> None:
    done = subprocess.run(
        [sys.executable, ROOT / f"scripts/write_{name}.py", "--check"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
