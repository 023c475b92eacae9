"""The import budget: a launch loads these modules and no others. A count, not a stopwatch."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import outcome

import pyspaces

ROOT = Path(pyspaces.__file__).parents[1]

# By room; a room itself is loaded with what is in it.
ROOMS = {
    "pyspaces": "errors pattern record status visible",
    "pyspaces.features": "clocks environment hostname life loopback",
    "pyspaces.features.existing": "values",
    "pyspaces.features.ids": "capabilities idmap",
    "pyspaces.kernel": "constants libc namespaces nsfs procfs spawn",
    "pyspaces.launch": "channel command in_place running services signals starting",
    "pyspaces.launch.inner": "directory execute identity seal steps",
    "pyspaces.launch.outer": "ending prepare process_1 stops watch",
    "pyspaces.mounts": "proc propagation root",
    "pyspaces.plan": "plan",
    "pyspaces.settings": "fitting joining life mounts reading shape table",
}
OURS = {*ROOMS, *(f"{room}.{name}" for room, names in ROOMS.items() for name in names.split())}

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
        done = outcome(
            [sys.executable, "-I", "-S", str(script), repr(values), str(ROOT)],
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
