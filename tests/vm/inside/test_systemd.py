"""Limits by cgroups where systemd manages these: with a delegated scope."""

from __future__ import annotations

import os
from pathlib import Path

from conftest import SCRIPT, outcome

from pyspaces.features.cgroup import systemd

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
