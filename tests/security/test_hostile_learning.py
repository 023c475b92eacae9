"""What a command can do to the profile that is made of its calls, and to who watches it."""

from __future__ import annotations

import ctypes.util
import json
import sys
from pathlib import Path

import pytest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from conftest import Run

pytestmark = pytest.mark.skipif(ctypes.util.find_library("seccomp") is None, reason="no libseccomp")
# Twice as many numbers as an answer had room for, and only then a call that is not made otherwise.
MADE_UP = """
import ctypes, os
call = ctypes.CDLL(None).syscall
for number in range(20_000):
    call(100_000 + number)
os.sched_yield()
"""


def test_numbers_that_it_makes_up_crowd_nothing_out(pyspaces: Run, tmp_path: Path) -> None:
    """The profile lacked what came after them, without a word, and each was a line of its own."""
    file = tmp_path / "profile"
    done = pyspaces("run", "--seccomp-learn", str(file), "--", sys.executable, "-c", MADE_UP)
    assert done.returncode == 0
    assert "sched_yield" in json.loads(file.read_text())["syscalls"][0]["names"]
    lines = done.stderr.splitlines()
    assert lines[0] == "pyspaces: call 100000 has no name here: the profile lacks it"
    assert lines[-1] == "pyspaces: more calls have no name here: the profile lacks them"
    assert len(lines) == 17
