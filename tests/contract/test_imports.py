"""The import budget: a launch loads these modules and no others. A count, not a stopwatch."""

from __future__ import annotations

import json
import os
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
    "pyspaces": "errors feature pattern record status visible",
    "pyspaces.features": "clocks environment hostname life limits loopback outputs",
    "pyspaces.features.confinement": "landlock seccomp",
    "pyspaces.features.existing": "values",
    "pyspaces.features.ids": "capabilities identity idmap maps",
    "pyspaces.kernel": "constants foreign libc namespaces nsfs procfs spawn",
    "pyspaces.launch": "channel command running services signals starting",
    "pyspaces.launch.inner": "directory execute identity seal steps",
    "pyspaces.launch.outer": "ending prepare process_1 stops watch",
    "pyspaces.mounts": "feature proc propagation root",
    "pyspaces.plan": "conflicts features plan",
    "pyspaces.settings": "fitting presets reading table",
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
    *("struct", "_struct", "_ctypes"),
}

EXPECTED = OURS | LIBRARY
# What the command line needs besides: no click.
OF_COMMAND_LINE = {
    *("pyspaces.__main__", "pyspaces.cli", "pyspaces.settings._table"),
    *("pyspaces.commands", *(f"pyspaces.commands.{name}" for name in ("fast", "launching", "say"))),
    "gc",
}
OF_ENTER = {
    *("pyspaces.launch.service", "pyspaces.launch.existing", "pyspaces.launch.existing.joined"),
    "pyspaces.kernel.mountinfo",
    *("pyspaces.commands.entering", "pyspaces.host", "pyspaces.host.targets"),
    *(f"pyspaces.features.existing.{name}" for name in ("joining", "names", "registry")),
    *("pyspaces.launch.inner.join", "pyspaces.kernel.cgroupfs"),
}

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


def loaded(script: Path, *words: str) -> set[str]:
    """Return what an interpreter loads for a command line, beyond what a bare one loads."""
    script.write_text(
        f"import sys; sys.path.insert(0, {str(ROOT)!r})\n"
        "from pyspaces.__main__ import main\n"
        "main()\n"
    )
    told = []
    for rest in (["-c", ""], [str(script), *words]):
        done = subprocess.run(
            [sys.executable, "-I", "-S", "-X", "importtime", *rest],
            capture_output=True, text=True, check=False, timeout=60, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        assert (done.returncode, done.stdout) == (0, "")
        lines = [line for line in done.stderr.splitlines() if line.startswith("import time:")]
        told.append({line.rpartition("|")[2].strip() for line in lines})
    return told[1] - told[0]


@pytest.mark.needs("userns", "pidns")
def test_the_usual_command_line_loads_this_and_no_click(tmp_path: Path) -> None:
    found = loaded(tmp_path / "run.py", "run", "--user", "--pid", "--", "true")
    assert found - EXPECTED - OF_COMMAND_LINE == set()
    assert OF_COMMAND_LINE - {"gc"} - found == set()


@pytest.mark.needs("userns", "pidns")
def test_nor_does_enter(tmp_path: Path) -> None:
    found = loaded(tmp_path / "enter.py", "enter", str(os.getpid()), "--uts", "--", "true")
    assert found - EXPECTED - OF_COMMAND_LINE - OF_ENTER == set()


def test_what_would_cost_most_is_not_on_the_list() -> None:
    assert not (EXPECTED | OF_COMMAND_LINE | OF_ENTER) & {
        *("click", "typing", "dataclasses", "inspect", "re", "subprocess", "logging", "traceback"),
        *("signal", "enum", "functools", "collections", "operator", "ctypes", "types"),
        *("socket", "selectors", "json", "tomllib", "pathlib", "threading", "argparse", "shutil"),
    }
