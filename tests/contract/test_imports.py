"""The import budget: a launch loads these modules and no others. A count, not a stopwatch."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import pyspaces

ROOT = Path(pyspaces.__file__).parents[1]

OURS = {
    "pyspaces",
    *(
        f"pyspaces.{name}"
        for name in ("capabilities", "channel", "clocks", "environment", "errors")
    ),
    *(f"pyspaces.{name}" for name in ("gear", "hostname", "idmap", "launch", "life", "namespaces")),
    *(f"pyspaces.{name}" for name in ("existing", "network", "pattern", "plan", "record")),
    "pyspaces.launch.signals",
    "pyspaces.visible",
    *(f"pyspaces.{name}" for name in ("spawn", "status")),
    *(f"pyspaces.hints{name}" for name in ("", ".mounts")),
    *(f"pyspaces.kernel{name}" for name in ("", ".constants", ".libc", ".nsfs", ".procfs")),
    *(f"pyspaces.mounts{name}" for name in ("", ".proc", ".propagation", ".root")),
    *(
        f"pyspaces.launch.outer{name}"
        for name in ("", ".ending", ".prepare", ".process_1", ".stops", ".watch")
    ),
    *(
        f"pyspaces.settings{name}"
        for name in ("", ".fitting", ".joining", ".life", ".mounts", ".reading", ".shape", ".table")
    ),
    *(
        f"pyspaces.launch.inner{name}"
        for name in ("", ".directory", ".execute", ".identity", ".seal", ".steps")
    ),
}

# What our modules import, and beneath it what that itself needs.
LIBRARY = {
    "__future__",
    "errno",
    "fcntl",
    "select",
    # os, which an interpreter without `site` has not loaded yet
    *("os", "os.path", "posixpath", "genericpath", "stat", "_stat", "_collections_abc"),
    # struct and ctypes
    *("struct", "_struct", "ctypes", "_ctypes", "ctypes._endian", "types"),
    # signal, which makes its numbers with enum
    *("signal", "enum"),
}
if sys.version_info < (3, 13):  # before, signal and enum were made with functools and operator
    LIBRARY |= {
        *("functools", "_functools", "operator", "_operator", "collections", "_collections"),
        *("itertools", "keyword", "reprlib"),
    }

EXPECTED = OURS | LIBRARY

LAUNCH = """
import sys
before = set(sys.modules)
mapping, root = sys.argv[1:]
sys.path.insert(0, root)
from pyspaces import launch, settings
values = eval(mapping)
ended = launch.run(settings.plan_from(values))
after = set(sys.modules)
import json
print(json.dumps([ended.status.code, sorted(after - before)]))
"""


@pytest.fixture
def launched(tmp_path: Path) -> Callable[..., tuple[int, set[str]]]:
    """Launch in a fresh interpreter; return the exit code and the modules that it took.

    Isolated and without `site`: what a .pth file of this environment loads would hide ours. From
    a file: for `-c`, Python 3.13 loads linecache before the first line runs.
    """
    script = tmp_path / "launch.py"
    script.write_text(LAUNCH)

    def launch(**values: Any) -> tuple[int, set[str]]:
        done = subprocess.run(
            [sys.executable, "-I", "-S", str(script), repr(values), str(ROOT)],
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
            stdin=subprocess.DEVNULL,
        )
        assert done.returncode == 0, done.stderr
        code, names = json.loads(done.stdout)
        return code, set(names)

    return launch


def test_a_launch_without_namespaces_loads_this_and_nothing_else(
    launched: Callable[..., tuple[int, set[str]]],
) -> None:
    code, modules = launched(command=["true"])
    assert code == 0
    assert modules - EXPECTED == set()
    assert EXPECTED - modules == set()


@pytest.mark.needs("userns", "pidns", "proc")
def test_nor_does_a_launch_with_all_that_there_is_load_more(
    launched: Callable[..., tuple[int, set[str]]],
) -> None:
    code, modules = launched(
        command=["true"],
        all=True,
        hostname="box",
        domainname="box",
        boottime="1",
        monotonic="1",
        workdir="/",
        clearenv=True,
        setenv=[("A", "B")],
    )
    assert code == 0
    assert modules == EXPECTED


def test_what_would_cost_most_is_not_on_the_list() -> None:
    assert not EXPECTED & {
        *("click", "typing", "dataclasses", "inspect", "re", "subprocess", "logging", "traceback"),
        *("socket", "selectors", "json", "tomllib", "pathlib", "threading", "argparse", "shutil"),
    }
