"""Whatever is renamed while a tree is built, nothing but the tree is touched."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from conftest import IS_ROOT, outcome, without

LOOK = str(Path(__file__).with_name("renames.py"))
# As in renames.py, which compares its own with the table of settings.
NAMES = (
    *("bind", "ro-bind", "dev-bind", "bind-try", "ro-bind-try", "dev-bind-try", "bind-suid"),
    *("bind-fd", "ro-bind-fd", "tmpfs", "proc", "sysfs", "mqueue", "dev", "mask", "overlay"),
    *("tmp-overlay", "ro-overlay", "dir", "symlink", "file", "bind-data", "ro-bind-data"),
    *("remount-ro", "chmod", "read-only"),
)
LACKING = {"all there": [], "no mount_setattr": [442]}
ROUNDS = pytest.mark.parametrize("rounds", [1, pytest.param(4, marks=pytest.mark.stress)])
# A plain run as root has one; the other ways are an ordinary user's, too.
OTHER_WAY = pytest.mark.stress if IS_ROOT else ()


def look(directory: Path, rounds: int, name: str, *namespaces: str, lacking: list[int]) -> None:
    done = outcome(
        [*without(*lacking), sys.executable, LOOK, str(directory), str(rounds), name, *namespaces],
        timeout=230,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["faults"] == []
    assert found["count"] == 2 * rounds * (len(NAMES) if name == "all" else 1)
    # One half is refused at any rate; of the other some find a place.
    assert found["count"] / 2 <= found["failed"] < found["count"]


@pytest.mark.needs("userns", "overlay", "proc")
@ROUNDS
@pytest.mark.parametrize("way", [pytest.param(way, marks=OTHER_WAY) for way in LACKING])
def test_every_operation(tmp_path: Path, way: str, rounds: int) -> None:
    look(tmp_path, rounds, "all", "user", lacking=LACKING[way])


@pytest.mark.as_root
@pytest.mark.needs("overlay", "proc")
@ROUNDS
@pytest.mark.parametrize("way", ["all there", pytest.param("no mount_setattr", marks=OTHER_WAY)])
def test_every_operation_of_root(tmp_path: Path, way: str, rounds: int) -> None:
    look(tmp_path, rounds, "all", lacking=LACKING[way])


@pytest.mark.stress
@pytest.mark.needs("userns", "overlay", "proc")
@pytest.mark.parametrize(("way", "rounds"), [("all there", 200), ("no mount_setattr", 50)])
@pytest.mark.parametrize("name", NAMES)
def test_each_hundreds_of_times(tmp_path: Path, name: str, way: str, rounds: int) -> None:
    """In two forms, and by .ci/run as two users: a thousand times each."""
    look(tmp_path, rounds, name, "user", lacking=LACKING[way])
