"""The launcher killed with SIGKILL at every point of the handshake.

The command never runs unmapped, and nothing survives.
"""

from __future__ import annotations

import subprocess
import sys
import uuid
from pathlib import Path

import pytest
from conftest import SCRIPT, again, outcome, processes_with

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.needs("userns", "timens", "netns", "proc")
SUICIDE = Path(__file__).with_name("suicide.py")
BEFORE = ["before the maps", "before the word"]
AFTER = ["after the word", *(f"at stage {n}" for n in range(1, 8)), "before exec", "after exec"]


@pytest.mark.parametrize("point", [*BEFORE, *AFTER])
@pytest.mark.parametrize("number", again(1, 3))
def test_nothing_survives(
    point: str, number: int, tmp_path: Path, wait_until: Callable[..., None]
) -> None:
    token, marker = uuid.uuid4().hex, tmp_path / "uid"
    done = outcome([sys.executable, SUICIDE, point, token, marker])
    assert done.returncode == -9, done.stderr
    wait_until(lambda: not processes_with(token), f"everything gone after death {point}")
    if point in BEFORE:
        assert not marker.exists()
    elif marker.exists():
        assert marker.read_text() in ("0\n", "")


def test_killing_a_running_launcher_ends_the_command(wait_until: Callable[..., None]) -> None:
    # Without a pid namespace only the command itself goes; what it started lives on.
    for options, end in ((["--user"], "exec sleep 1000"), (["--user", "--pid"], "sleep 1000; :")):
        token = uuid.uuid4().hex
        with subprocess.Popen(
            [SCRIPT, "run", *options, "--", "sh", "-c", f": {token}; echo up; {end}"],
            stdout=subprocess.PIPE,
        ) as launcher:
            try:
                assert launcher.stdout is not None
                assert launcher.stdout.readline() == b"up\n"
            finally:
                launcher.kill()
        wait_until(lambda token=token: not processes_with(token), "the command gone")
