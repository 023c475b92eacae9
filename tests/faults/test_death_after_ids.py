"""The kernel forgets PR_SET_PDEATHSIG when ids change: the command dies with us all the same."""

from __future__ import annotations

import subprocess
import time

import pytest
from conftest import IS_ROOT, SCRIPT, processes_of, processes_with

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

MAPS = ["-M", "all", "-G", "all"] if IS_ROOT else ["--map-auto"]


@pytest.mark.needs("userns", "many")
def test_a_command_with_other_ids_dies_with_the_launcher(wait_until: Callable[..., None]) -> None:
    token = f"7654.{time.monotonic_ns()}"
    words = [SCRIPT, "run", *MAPS, "--setuid", "33", "--setgid", "33", "--", "sleep", token]
    with subprocess.Popen(words) as launcher:
        try:
            wait_until(
                lambda: any(_name(pid) == "sleep" for pid in processes_of(launcher.pid)),
                "the command",
            )
        finally:
            launcher.kill()
            launcher.wait()
        wait_until(lambda: not processes_with(token), "the command gone")


def _name(pid: int) -> str:
    try:
        with open(f"/proc/{pid}/comm") as file:
            return file.read().strip()
    except OSError:
        return ""
