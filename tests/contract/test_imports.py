"""The import budget: a launch loads these modules and no others. A count, not a stopwatch."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import pytest
from conftest import outcome

import pyspaces

ROOT = Path(pyspaces.__file__).parents[1]


def modules(rooms: dict[str, str]) -> set[str]:
    """Return modules, given by room; a room itself is loaded with what is in it."""
    return {*rooms, *(f"{room}.{name}" for room, names in rooms.items() for name in names.split())}


# What every launch takes. The last three are loaded while the child sets itself up.
LAUNCH_CORE = modules(
    {
        "pyspaces": "errors feature record status",
        "pyspaces.kernel": "constants foreign libc namespaces nsfs procfs spawn",
        "pyspaces.launch": "channel command services signals starting",
        "pyspaces.launch.inner": "identity steps",
        "pyspaces.launch.outer": "prepare",
        "pyspaces.plan": "plan",
        "pyspaces.settings": "_table reading",
    }
) | {"pyspaces.launch.running", "pyspaces.launch.outer.watch", "pyspaces.launch.outer.ending"}
# What our modules import, and beneath it what that itself needs.
LIBRARY = {
    "__future__",
    "errno",
    "select",
    # os, which an interpreter without `site` has not loaded yet
    *("os", "os.path", "posixpath", "genericpath", "stat", "_stat", "_collections_abc"),
    "_ctypes",
}
EXPECTED = LAUNCH_CORE | LIBRARY
OF_USER = modules({"pyspaces.features": "", "pyspaces.features.ids": "maps"})
# What only some plans take: their features, and what puts these together.
OF_MORE = modules(
    {
        "pyspaces.features": "clocks environment hostname loopback",
        "pyspaces.kernel": "mountapi",
        "pyspaces.launch": "loading",
        "pyspaces.launch.inner": "directory",
        "pyspaces.mounts": "feature proc propagation root",
        "pyspaces.plan": "conflicts",
    }
) | {"pyspaces.pattern", "pyspaces.settings.fitting", "fcntl", "_struct"}
# What the command line needs besides: no click.
OF_COMMAND_LINE = modules({"pyspaces": "cli finding", "pyspaces.commands": "fast launching"})
OF_ENTER = modules(
    {
        "pyspaces.commands": "entering",
        "pyspaces.features": "clocks",
        "pyspaces.features.existing": "joining lookup names registry runtime values",
        "pyspaces.features.ids": "maps",
        "pyspaces.host": "targets",
        "pyspaces.kernel": "cgroupfs ioctl_ns mountapi mountinfo processes through_fork",
        "pyspaces.launch": "loading service",
        "pyspaces.launch.existing": "joined",
        "pyspaces.launch.inner": "directory join keep",
        "pyspaces.mounts": "root",
        "pyspaces.plan": "conflicts",
    }
) | {"fcntl", "struct"}
# `list` and `check` have click. What they look at is theirs; this is what is not.
NOT_OF_LIST = modules(
    {
        "pyspaces.features.ids": "",
        "pyspaces.mounts": "",
        "pyspaces.settings": "",
        "pyspaces.hints": "",
        "pyspaces.library": "",
        "pyspaces.host.check": "",
    }
)
NOT_OF_CHECK = modules({"pyspaces.library": "", "pyspaces.features.existing": "registry joining"})

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
    code, found = launched(command=["true"])
    assert code == 0
    assert found == EXPECTED


BY_HAND = """
import sys
sys.path.insert(0, sys.argv[1])
from pyspaces import launch
from pyspaces.plan import Plan
{more}
plan = Plan(command=("true",), namespaces={namespaces!r}{field})
with launch.start(plan) as running:
    print(running.wait())
"""


@pytest.mark.needs("userns", "timens", "netns")
@pytest.mark.parametrize(
    ("more", "field"),
    [
        ("", ""),
        (
            "from pyspaces.features.ids.identity import Identity",
            ", identity=Identity(keep_groups=True)",
        ),
    ],
)
def test_a_plan_made_by_hand_has_what_its_namespaces_take_loaded_for_the_child(
    tmp_path: Path, more: str, field: str
) -> None:
    """Nothing was read from settings, which would have loaded it."""
    script = tmp_path / "by_hand.py"
    namespaces = ("user", "mount", "net", "uts", "time")
    script.write_text(BY_HAND.format(more=more, field=field, namespaces=namespaces))
    done = outcome([sys.executable, "-I", "-S", str(script), str(ROOT)])
    assert (done.stdout, done.stderr) == ("exited with 0\n", "")


@pytest.mark.needs("userns", "pidns", "proc")
def test_one_with_all_that_there_is_loads_what_it_asks_for(
    launched: Callable[..., tuple[int, set[str]]],
) -> None:
    code, found = launched(
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
    assert found == EXPECTED | OF_USER | OF_MORE


COMMAND_LINE = """
import sys
before = set(sys.modules)
import os
sys.path[:0] = {places}
leave = os._exit
asked = []

def tell_and_leave(code):
    print(*asked, "-", *(set(sys.modules) - before), file=sys.stderr)
    leave(code)

os._exit = tell_and_leave
from pyspaces import __main__, finding
find = finding.Finder.find_spec

def find_and_note(name, path=None, target=None):
    spec = find(name, path)
    asked.extend([name] if spec else [])
    return spec

finding.Finder.find_spec = find_and_note
__main__.main()
"""


def told(script: Path, *words: str) -> tuple[set[str], set[str]]:
    """Return which of our modules a command line imports one by one, and all that it loads."""
    places = [str(ROOT), str(Path(click.__file__).parents[1])]
    script.write_text(COMMAND_LINE.format(places=places))
    done = outcome([sys.executable, "-I", "-S", str(script), *words], stdin=subprocess.DEVNULL)
    assert done.returncode == 0, done.stderr
    asked, _, found = done.stderr.splitlines()[-1].partition("-")
    return set(asked.split()), set(found.split())


def loaded(script: Path, *words: str) -> set[str]:
    """Return what an interpreter loads for a command line, beyond what a bare one loads."""
    return told(script, *words)[1]


# Imported while the child sets itself up, which takes longer.
MEANWHILE = {
    "pyspaces.launch.running",
    "pyspaces.launch.outer.watch",
    "pyspaces.launch.outer.ending",
}


@pytest.mark.needs("userns", "pidns", "netns", "proc")
@pytest.mark.parametrize(
    "words", ["--user --pid", "--user --net", "--user --ro-bind /usr /usr", "--sandbox"]
)
def test_modules_of_every_day_are_loaded_at_once(tmp_path: Path, words: str) -> None:
    subprocess.run([sys.executable, "-m", "compileall", "-q", str(ROOT / "pyspaces")], check=True)
    asked, found = told(tmp_path / "run.py", "run", *words.split(), "--", "true")
    assert len(found) > 40
    ready = {name for name in asked if "._ready" in name}
    assert asked - ready <= MEANWHILE


@pytest.mark.needs("userns", "pidns")
def test_the_usual_command_line_loads_this_and_no_click(tmp_path: Path) -> None:
    found = loaded(tmp_path / "run.py", "run", "--user", "--pid", "--", "true")
    wanted = LAUNCH_CORE | OF_USER | OF_COMMAND_LINE | {"pyspaces.__main__"}
    assert found - wanted - LIBRARY - {"gc"} == set()
    assert wanted - found == set()
    assert len(wanted) <= 42  # each costs 50 to 200 µs


@pytest.mark.needs("userns", "pidns", "netns", "proc")
def test_a_sandbox_loads_nothing_that_it_does_not_use(tmp_path: Path) -> None:
    found = loaded(tmp_path / "run.py", "run", "--sandbox", "--", "true")
    ours = {name for name in found if name.startswith("pyspaces")}
    assert found - ours - LIBRARY - {"gc", "fcntl", "_struct"} == set()
    unused = {
        "pyspaces.features.confinement": "landlock compiling profile groups",
        "pyspaces.features.existing": "values",
        "pyspaces.features.ids": "idmap identity",
        "pyspaces.mounts": "masks operations overlays table throwaway",
        "pyspaces.settings": "fitting",
    }
    assert not found & {
        f"{room}.{name}" for room, names in unused.items() for name in names.split()
    }
    assert len(ours) <= 76  # each costs 50 to 200 µs


@pytest.mark.needs("userns", "pidns")
def test_nor_does_enter(tmp_path: Path) -> None:
    found = loaded(tmp_path / "enter.py", "enter", str(os.getpid()), "--uts", "--", "true")
    wanted = LAUNCH_CORE | OF_COMMAND_LINE | OF_ENTER | {"pyspaces.__main__"}
    assert found - wanted - LIBRARY - {"gc"} == set()
    assert wanted - found <= {"struct"}


@pytest.mark.parametrize(("command", "absent"), [("list", NOT_OF_LIST), ("check", NOT_OF_CHECK)])
def test_list_and_check_load_what_they_look_at(
    tmp_path: Path, command: str, absent: set[str]
) -> None:
    found = loaded(tmp_path / "command.py", command)
    assert "click" in found
    assert found & absent - {"pyspaces.features.existing"} == set()


def test_what_would_cost_most_is_not_on_the_lists() -> None:
    assert not (EXPECTED | OF_USER | OF_MORE | OF_COMMAND_LINE | OF_ENTER) & {
        *("click", "typing", "dataclasses", "inspect", "re", "subprocess", "logging", "traceback"),
        *("signal", "enum", "functools", "collections", "operator", "ctypes", "types"),
        *("socket", "selectors", "json", "tomllib", "pathlib", "threading", "argparse", "shutil"),
    }
