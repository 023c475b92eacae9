"""What a command on a worker can leave in its own directory, to the worker that removes it."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from pyspaces.library import job, removing
from pyspaces.library.job import Job, Task

DEPTH = 1500
DEEP = f"""
import os
for number in range({DEPTH}):
    os.mkdir("d")
    os.chdir("d")
print("done")
"""


@pytest.mark.needs("userns")
def test_a_deep_directory_costs_no_result_and_stays_nowhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before: a RecursionError instead of the result."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    words = (sys.executable, "-I", "-S", "-c", DEEP)
    own = Task(run="deep", settings={"user": True})
    done = job.perform(own, 0, Job(words=words, files={"a": b"1"}), "here")
    assert (done.stdout, done.error) == (b"done\n", None)
    assert not list(tmp_path.iterdir())
    shared = Task(run="deep", settings={"user": True}, shared=str(tmp_path))
    for _ in range(2):  # the second attempt removes what the first has left
        done = job.perform(shared, 0, Job(words=words), "here")
        assert (done.stdout, done.error) == (b"done\n", None)
    removing.remove(str(tmp_path / "deep"))
    assert not list(tmp_path.iterdir())


def test_nothing_outside_is_touched_and_closed_directories_go(tmp_path: Path) -> None:
    """Python before 3.11.8 and 3.12.1 changes the mode of what a link in a closed one leads to."""
    outside, own = tmp_path / "outside", tmp_path / "own"
    for directory in (outside, own, own / "closed", own / "closed" / "inner", own / "open"):
        directory.mkdir()
    secret = outside / "secret"
    secret.write_bytes(b"1")
    secret.chmod(0o640)
    outside.chmod(0o750)
    for directory in (own, own / "closed", own / "closed" / "inner", own / "open"):
        (directory / "link").symlink_to(secret)
        (directory / "up").symlink_to(outside)
    os.mkfifo(own / "open" / "fifo")
    (own / "closed" / "inner").chmod(0o500)
    (own / "closed").chmod(0)
    own.chmod(0o500)
    removing.remove(str(own))
    assert os.listdir(tmp_path) == ["outside"]
    assert secret.stat().st_mode & 0o777 == 0o640
    assert outside.stat().st_mode & 0o777 == 0o750
    removing.remove(str(own))  # a missing one is none


def test_a_link_is_not_a_directory(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "file").touch()
    (tmp_path / "link").symlink_to("a")
    removing.remove(str(tmp_path / "link"))
    assert (tmp_path / "a" / "file").exists()
