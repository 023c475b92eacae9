"""--keep in a directory of another user, who changes it meanwhile: no other file is covered."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from conftest import IS_ROOT

from pyspaces.features.existing.keeping import Kept
from pyspaces.features.existing.values import Keep

pytestmark = pytest.mark.skipif(not IS_ROOT, reason="only root binds a namespace to a file")
# In a mount namespace of its own: puts a link in the place of the file as soon as that is there.
CODE = """
import os, sys
sys.path[:0] = sys.argv[3:]
import test_kept_files
test_kept_files.race(sys.argv[1], sys.argv[2])
"""


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
    here = Path(__file__)
    words = ["unshare", "--mount", "--propagation", "private", sys.executable, "-c", CODE]
    done = subprocess.run(
        [*words, str(path), str(victim), str(here.parent), str(here.parent.parent)],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.stderr == ""
    assert done.stdout.splitlines()[-1] == "[]"
