"""Subordinate ids through newuidmap and newgidmap, and each of their refusals, provoked."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import SCRIPT

from pyspaces import accounts

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    Run = Callable[..., subprocess.CompletedProcess[str]]

pytestmark = pytest.mark.needs("userns", "newuidmap")
UID = os.geteuid()
ordinary = pytest.mark.as_ordinary


def ranges() -> list[tuple[int, int]]:
    return accounts.subordinate_ranges("uid", accounts.caller())


@ordinary
def test_files_can_be_given_to_other_users(pyspaces: Run, tmp_path: Path) -> None:
    done = pyspaces(
        "run", "--map-auto", "--",
        "sh", "-c", f"cd {tmp_path}; touch f; chown 1:1 f; stat -c %u f; rm f",
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (0, "1\n", "")


@ordinary
def test_programs_change_to_other_users(pyspaces: Run) -> None:
    done = pyspaces(
        "run", "-M", "auto", "--",
        "setpriv", "--reuid", "33", "--regid", "33", "--clear-groups", "id", "-u",
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, "33\n"), done.stderr


@ordinary
def test_every_range_is_mapped_whole(pyspaces: Run) -> None:
    done = pyspaces("run", "--map-auto", "--", "cat", "/proc/self/uid_map")
    rows = [tuple(map(int, line.split())) for line in done.stdout.splitlines()]
    assert rows[0] == (0, UID, 1)
    assert [row[1:] for row in rows[1:]] == ranges()
    assert [row[0] for row in rows[1:]] == [
        1 + sum(count for _, count in ranges()[:index]) for index in range(len(ranges()))
    ]


@ordinary
def test_subids_keep_their_numbers(pyspaces: Run) -> None:
    done = pyspaces("run", "-M", "root", "-M", "subids", "--", "cat", "/proc/self/uid_map")
    rows = [tuple(map(int, line.split())) for line in done.stdout.splitlines()]
    assert rows == [(0, UID, 1), *((first, first, count) for first, count in ranges())]


@ordinary
def test_a_range_outside_what_the_user_owns(pyspaces: Run) -> None:
    done = pyspaces("run", "-M", "root", "-M", "1,5,1", "--", "true")
    assert done.returncode == 125
    assert "newuidmap: uid range [1-2) -> [5-6) not allowed" in done.stderr
    assert "hint: 1 5 1: not all of these outside ids are subordinate uids of" in done.stderr


@ordinary
def test_no_new_privileges(pyspaces: Run) -> None:
    done = subprocess.run(
        ["setpriv", "--no-new-privs", SCRIPT, "run", "--map-auto", "--", "true"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 125
    assert "hint: no_new_privs is set on this process" in done.stderr


@ordinary
def test_a_copy_that_has_lost_its_bit(pyspaces: Run, tmp_path: Path) -> None:
    found = shutil.which("newuidmap")
    assert found is not None
    shutil.copyfile(found, tmp_path / "newuidmap")
    (tmp_path / "newuidmap").chmod(0o755)
    path = f"{tmp_path}:{os.environ['PATH']}"
    done = pyspaces("run", "--map-auto", "--", "true", env={**os.environ, "PATH": path})
    assert done.returncode == 125
    assert f"hint: {tmp_path}/newuidmap has lost its set-user-ID bit" in done.stderr


@pytest.mark.as_root
def test_a_user_without_ranges_is_told_how_to_get_some(tmp_path: Path) -> None:
    script = (
        "from pyspaces import accounts as a; print(a.no_ranges('uid', a.User(uid=77, name='x')))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert "cannot map subordinate uids: user x (77) has no range of them" in done.stdout
    assert "sudo usermod --add-subuids" in done.stdout
