"""The table that a launch reads is the one that click's options make."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pyspaces

ROOT = Path(pyspaces.__file__).parents[1]


def test_the_table_is_up_to_date() -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "scripts/write_table.py", "--check"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
