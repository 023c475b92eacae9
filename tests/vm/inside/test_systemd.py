"""Limits by cgroups where systemd manages these: with a delegated scope."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest
from conftest import SCRIPT, outcome

from pyspaces.features.cgroup import systemd

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

MANAGER = ["systemd-run", "--scope", "-q", *([] if os.geteuid() == 0 else ["--user"])]
DELEGATED = [*MANAGER, "-p", "Delegate=yes", "--"]
EAT = ["python3", "-I", "-S", "-c", "x = bytearray(300 << 20)"]
PLACE = ["cat", "/proc/self/cgroup"]


def test_a_delegated_scope_is_used() -> None:
    limits = ["--memory", "64M", "--pids", "20", "--cpus", "1.5"]
    done = outcome([*DELEGATED, SCRIPT, "run", *limits, "--", *PLACE])
    assert (done.returncode, done.stderr) == (0, "")
    assert Path(done.stdout.strip()).parent.name.endswith(".scope")


def test_the_limit_holds_there() -> None:
    done = outcome([*DELEGATED, SCRIPT, "run", "--memory", "64M", "--", *EAT])
    assert done.returncode == 137
    assert "killed: out of memory (limit 64M)" in done.stderr


def test_the_manager_says_what_is_delegated() -> None:
    assert systemd.may_be_asked()
    unit = "import os, sys; from pyspaces.features.cgroup import systemd as s, place; "
    code = unit + "from pyspaces.kernel import cgroupfs; print(s.is_delegated(cgroupfs.own()))"
    python = str(Path(SCRIPT).with_name("python"))
    assert outcome([*DELEGATED, python, "-c", code]).stdout == "True\n"
    assert outcome([*MANAGER, "--", python, "-c", code]).stdout == "False\n"


def test_systemd_is_asked_for_a_scope_where_nothing_is_delegated() -> None:
    limits = ["--memory", "64M", "--pids", "20"]
    for around in ([], ["--user", "--pid", "--init", "--cgroup"], ["--sandbox"]):
        done = outcome([SCRIPT, "run", *limits, *around, "--", *PLACE])
        assert (done.returncode, done.stderr) == (0, "")
        if around:
            assert done.stdout == "0::/\n"
        else:
            assert Path(done.stdout.strip()).parent.name.endswith(".scope")


def test_the_limit_holds_in_that_scope_and_is_told() -> None:
    done = outcome([SCRIPT, "run", "--memory", "64M", "--status-fd", "1", "--", *EAT])
    assert done.returncode == 137
    assert "killed: out of memory (limit 64M)" in done.stderr
    record = json.loads(done.stdout.splitlines()[-1])
    assert record["limit"] == "memory"
    assert record["cgroup"]["memory_peak"] <= 64 << 20


def scopes() -> list[str]:
    """Return the cgroups of ours; others come and go meanwhile."""
    names = (name for _, names, _ in os.walk("/sys/fs/cgroup") for name in names)
    return [name for name in names if name.startswith("pyspaces-")]


def test_no_scope_is_left(wait_until: Callable[..., None]) -> None:
    assert outcome([SCRIPT, "run", "--pids", "20", "--", "true"]).returncode == 0
    wait_until(lambda: not scopes(), "systemd removes the scope")
    words = [SCRIPT, "run", "--pids", "20", "--", "sh", "-c", "echo; exec sleep 1000"]
    with subprocess.Popen(words, stdout=subprocess.PIPE) as launcher:
        assert launcher.stdout is not None
        launcher.stdout.readline()
        assert any(name.endswith(".scope") for name in scopes())
        launcher.kill()
    wait_until(lambda: not scopes(), "systemd removes the scope")


@pytest.mark.as_ordinary
def test_a_controller_that_systemd_does_not_delegate_is_named() -> None:
    done = outcome([SCRIPT, "run", "--io-weight", "50", "--", "true"])
    assert done.returncode == 125
    *_, reason, hint = done.stderr.splitlines()
    assert reason == "  systemd delegates only cpu memory pids"
    assert hint == (
        "hint: as root: systemctl edit user@.service, with [Service] and"
        " Delegate=cpu io memory pids"
    )


@pytest.mark.as_ordinary
def test_where_no_manager_runs_for_the_user_the_hint_says_so(tmp_path: Path) -> None:
    elsewhere = {**os.environ, "XDG_RUNTIME_DIR": str(tmp_path)}
    done = outcome([SCRIPT, "run", "--pids", "5", "--", "true"], env=elsewhere)
    assert done.returncode == 125
    hint = "hint: no systemd runs for this user: as root, loginctl enable-linger 1000"
    assert done.stderr.splitlines()[-1] == hint
