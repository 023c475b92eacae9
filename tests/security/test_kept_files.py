"""--keep in a directory of another user, who changes it meanwhile: no other file is covered."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from conftest import IS_ROOT

from pyspaces.features.existing.keeping import Kept, drop
from pyspaces.features.existing.values import Keep
from pyspaces.kernel import mountapi

pytestmark = pytest.mark.skipif(not IS_ROOT, reason="only root binds a namespace to a file")
# In a mount namespace of its own: puts a link in the place of the file as soon as that is there.
CODE = """
import os, sys
sys.path[:0] = sys.argv[3:]
import test_kept_files
getattr(test_kept_files, sys.argv[4])(sys.argv[1], sys.argv[2])
"""


def run(way: str, *paths: Path) -> list[str]:
    """Run a function of this file in a mount namespace of its own; return the lines it prints."""
    here = Path(__file__)
    places = [str(here.parent), way, str(here.parent.parent)]
    words = ["unshare", "--mount", "--propagation", "private", sys.executable, "-c", CODE]
    done = subprocess.run(
        [*words, *map(str, paths), *places],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.stderr == ""
    return done.stdout.splitlines()


def race(path: str, victim: str) -> None:
    """Keep this process's network namespace, and lose the race; print what was covered."""
    really, looks = os.open, os.path.lexists

    def lose(found: Any) -> Any:
        if looks(path) and not os.path.islink(path):
            os.unlink(path)
            os.symlink(victim, path)
        return found

    os.open = lambda *words, **more: lose(really(*words, **more))
    os.path.lexists = lambda name: lose(looks(name))  # type: ignore[assignment]
    try:
        Kept([Keep(namespace="net", path=path)]).bind_outer(os.getpid())
    except OSError as error:
        print("refused", error.errno)
    with open("/proc/self/mountinfo") as rows:
        print([row.split()[4] for row in rows if " nsfs " in row and victim in row])


@pytest.mark.parametrize("exists", [False, True], ids=["new", "there"])
def test_a_link_in_the_place_of_the_file_leads_nowhere(tmp_path: Path, exists: bool) -> None:
    victim, path = tmp_path / "victim", tmp_path / "net"
    victim.touch()
    if exists:
        path.touch()
    assert run("race", path, victim)[-1] == "[]"


def race_of_drop(path: str, other: str) -> None:
    """Drop a namespace while its directory gives its name to another one; print what is left."""
    Kept([Keep(namespace="net", path=path)]).bind_outer(os.getpid())
    mountapi.mount("tmpfs", other, "tmpfs", 0)
    really, directory = mountapi.umount, os.path.dirname(path)

    def lose(*words: Any) -> None:
        if not os.path.islink(directory):
            os.rename(directory, f"{directory}-moved")
            os.symlink(os.path.dirname(other), directory)
        really(*words)

    mountapi.umount = lose  # type: ignore[assignment]
    try:
        drop([path])
    except OSError as error:
        print("refused", error.errno)
    print(os.path.ismount(other), os.path.lexists(f"{directory}-moved/net"))


def test_what_is_dropped_is_what_was_looked_at(tmp_path: Path) -> None:
    for name in ("theirs", "other/net"):
        (tmp_path / name).mkdir(parents=True)
    assert run("race_of_drop", tmp_path / "theirs/net", tmp_path / "other/net") == ["True False"]
