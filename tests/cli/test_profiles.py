"""`run --profile`, `run --save-profile`, and `pyspaces profile`."""

from __future__ import annotations

import json
import os
import tomllib
from pathlib import Path

import pytest

from pyspaces import Container, Sandbox, SpaceError, UsageFault, get_context, run
from pyspaces.settings.profiles import reading, writing

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from conftest import Run

SHIPPED = ("build", "fakeroot", "shell", "test", "untrusted")
PROJECT = """
[profile.ci]
description = "what a server does"
extends = "base"
hostname = "ci"
net = false
[profile.ci.environment]
A = "1"
B = false
[profile.base]
user = true
net = true
setenv = {B = "2", C = "3"}
"""
SHOW = ("sh", "-c", 'echo "$(hostname) $(id -u) $A.$B.$C"')


@pytest.fixture(autouse=True)
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's directory of profiles; the current directory is one with nothing in it."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    for name in "ABC":
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "config/pyspaces").mkdir(parents=True)
    (tmp_path / "project").mkdir()
    monkeypatch.chdir(tmp_path / "project")
    return tmp_path / "config/pyspaces"


@pytest.mark.needs("userns", "pidns", "netns", "overlay")
def test_those_that_ship_do_what_they_say(pyspaces: Run) -> None:
    look = (
        "echo a > written; echo b > /tmp/pyspaces-never; mkdir /etc/pyspaces-never;"
        " echo $(ls -d /proc/[0-9]* | wc -l) $(grep -c : /proc/net/dev)"
    )
    seen: dict[str, tuple[str, bool]] = {}
    for name in ("build", "test", "untrusted"):
        done = pyspaces("run", "--profile", name, "--", "sh", "-c", look)
        assert done.returncode == 0, done.stderr
        processes, devices = done.stdout.split()
        assert int(processes) < 9
        seen[name] = (devices, Path("written").exists())
        Path("written").unlink(missing_ok=True)
    assert seen == {"build": ("1", True), "test": ("1", True), "untrusted": ("1", False)}
    assert not Path("/tmp/pyspaces-never").exists()
    assert not Path("/etc/pyspaces-never").exists()
    for name, host in (("fakeroot", os.uname().nodename), ("shell", "pyspaces")):
        done = pyspaces("run", "--profile", name, "--", "sh", "-c", "id -u; uname -n")
        assert done.stdout.split() == ["0", host]


@pytest.mark.needs("userns", "netns")
def test_profiles_of_each_place_and_what_is_typed(pyspaces: Run, config: Path) -> None:
    Path("pyproject.toml").write_text(
        "[tool.other]\n[tool.pyspaces.profile.py]\nuser = true\nhostname = 'py'"
    )
    (config / "mine.toml").write_text("hostname = 'mine'\nsetenv = {A = 'mine'}")
    Path(".pyspaces.toml").write_text(PROJECT)
    Path("file.toml").write_text("hostname = 'file'")
    for line, expected in (
        (("--profile", "ci"), "ci 0 1..3"),
        (("--profile=ci", "--hostname", "typed", "--setenv", "B", "9"), "typed 0 1.9.3"),
        (("--profile", "py"), "py 0 .."),
        (("--profile", "ci", "--profile", "mine", "--unsetenv", "C"), "mine 0 mine.."),
        (("--profile", "mine", "--profile", "ci", "--profile", "./file.toml"), "file 0 1..3"),
    ):
        done = pyspaces("run", *line, "--", *SHOW)
        assert (done.stdout, done.stderr) == (expected + "\n", ""), line
        # By click as by the small parser.
        assert pyspaces("run", "--verbose", *line, "--", *SHOW).stdout == expected + "\n", line


def test_what_is_found_is_listed_and_shown(pyspaces: Run, config: Path) -> None:
    Path(".pyspaces.toml").write_text(PROJECT + "\n[profile.broken]\nuesr = true\n")
    (config / "mine.toml").write_text("description = 'my own'\nmap-root = true")
    done = pyspaces("profile", "list")
    rows = [line.split(maxsplit=2) for line in done.stdout.splitlines()]
    assert rows[0] == ["NAME", "PLACE", "DESCRIPTION"]
    assert ["ci", "project", "what a server does"] in rows
    assert ["mine", "user", "my own"] in rows
    assert [row[0] for row in rows if row[1] == "pyspaces"] == [*SHIPPED]
    assert done.stderr.endswith("broken (./.pyspaces.toml): uesr: unknown setting\n")
    data = json.loads(pyspaces("profile", "list", "--json").stdout)
    assert {"name": "ci", "place": "project", "path": "./.pyspaces.toml"}.items() <= data[0].items()
    assert data[0]["extends"] == ["project:base"]
    assert len(pyspaces("profile", "list", "-n").stdout.splitlines()) == len(rows) - 1
    for name in (*SHIPPED, "mine", "ci"):
        # What is shown is a profile, and the same one.
        one = reading.read(name)
        Path("again.toml").write_text(writing.toml_of(one.settings, description=one.description))
        again = reading.read("again.toml")
        assert again.description == one.description != ""
        assert _text(again.settings) == _text(one.settings).replace(
            '"."', json.dumps(str(Path.cwd()))
        ), name
    shown = pyspaces("profile", "show", "ci")
    assert shown.stdout.splitlines()[:2] == [
        "# ./.pyspaces.toml",
        "# with the settings of project:base",
    ]
    assert "write `pyspaces profile list`" in pyspaces("profile", "ls").stderr
    done = pyspaces("profile", "show", "cii")
    fault = "pyspaces: profile: cii: no such profile\nhint: did you mean ci?\n"
    assert (done.returncode, done.stderr) == (2, fault)


def _text(settings: dict[str, Any]) -> str:
    return json.dumps(settings, sort_keys=True)


def test_a_file_without_an_ending_is_told_how_to_be_named(pyspaces: Run) -> None:
    done = pyspaces("run", "--clearenv", "--save-profile", "mine")
    assert "to use it: --profile ./mine\n" in done.stderr
    done = pyspaces("run", "--profile", "mine", "--", "true")
    assert (done.returncode, done.stderr) == (
        2,
        "pyspaces: --profile: mine: no such profile\nhint: write ./mine to name the file\n",
    )
    assert pyspaces("run", "--profile", "./mine", "--", "true").returncode == 0
    Path("lab.toml").write_text("user = true\n")
    done = pyspaces("run", "--profile", "lab", "--", "true")
    assert done.stderr.endswith("hint: write ./lab.toml to name the file\n")


@pytest.mark.needs("userns")
def test_a_command_line_is_saved_and_not_run(pyspaces: Run, tmp_path: Path, config: Path) -> None:
    Path("sub").mkdir()
    (tmp_path / "other").mkdir()
    line = ("--user", "--profile", "fakeroot", "--setenv", "A", "x\ny", "--bind", "sub", "/mnt")
    for file, source in (("here.toml", "sub"), (f"{tmp_path}/other/x.toml", f"{Path.cwd()}/sub")):
        done = pyspaces("run", *line, "--save-profile", file, "--", "touch", "never")
        assert (done.returncode, done.stderr) == (
            0,
            f"pyspaces: {file}: written; nothing was run; to use it: --profile {file}\n",
        )
        assert tomllib.loads(Path(file).read_text()) == {
            "user": True,
            "map-root": True,
            "mounts": [["bind", source, "/mnt"]],
            "environment": {"A": "x\ny"},
        }
        done = pyspaces("run", "--profile", file, "printenv", "A")
        assert done.stdout == "x\ny\n", done.stderr
    assert not Path("never").exists()
    # It is found by its name there.
    done = pyspaces("run", *line, "--save-profile", f"{config}/quiet.toml")
    assert done.stderr.endswith("to use it: --profile quiet\n")
    assert pyspaces("run", "--profile", "quiet", "--", "true").returncode == 0
    done = pyspaces("run", *line, "--save-profile", f"{config}/quiet")
    assert done.stderr.endswith(f"to use it: --profile {config}/quiet\n")
    done = pyspaces("run", *line, "--save-profile", "no/such/x.toml")
    assert (done.returncode, done.stderr) == (
        125,
        "pyspaces: --save-profile: no/such/x.toml: No such file or directory\n"
        "hint: create its directory: mkdir -p no/such\n",
    )
    for words, fault in (
        (("--status-fd", "2"), "save-profile: status-fd: is the number of an open descriptor"),
        (("--hostname", "a" * 99), "hostname: "),
        (("--dry-run",), "save-profile: cannot be combined with --dry-run"),
        (("--plan", "x"), "save-profile: cannot be combined with --plan"),
    ):
        done = pyspaces("run", *words, "--save-profile", "new.toml")
        assert (done.returncode, fault in done.stderr) == (2, True), done.stderr
    assert not Path("new.toml").exists()


def test_a_profile_can_hold_and_is_not_combined_with_a_plan(pyspaces: Run) -> None:
    Path("hold.toml").write_text("hold = true\nname = 'x'\nuser = true")
    done = pyspaces("run", "--profile", "hold.toml", "--dry-run")
    assert (done.returncode, done.stderr) == (0, "")
    done = pyspaces("run", "--profile", "build", "--plan", "x")
    assert done.stderr == "pyspaces: --plan: cannot be combined with --profile\n"
    assert pyspaces("enter", "1", "--profile", "build").returncode == 2


@pytest.mark.needs("userns", "netns")
def test_programs_name_profiles_as_well() -> None:
    Path("p.toml").write_text("user = true\nnet = true\nhostname = 'p'\nhost-ro = true")
    look = ["sh", "-c", "uname -n; grep -c : /proc/net/dev; test -e /home || echo none"]
    done = run(look, profile="p.toml", capture_output=True, text=True)
    assert done.stdout == "p\n1\nnone\n"
    done = run(look, profile=Path("p.toml"), hostname="q", host_ro=False, capture_output=True)
    assert done.stdout == b"q\n1\n"
    Path("bad.toml").write_text("timeout = 3\npid-file = 'x'\ninit = true\nno-fork = true")
    uses: list[Callable[[], object]] = [
        lambda: Container(len, profile="bad.toml"),
        lambda: get_context(profile="bad.toml"),
        lambda: run(["true"], profile="bad.toml"),
        lambda: Sandbox(profile="bad.toml"),
    ]
    for use in uses:
        with pytest.raises(UsageFault) as caught:
            use()
        faults = "\n".join(caught.value.faults)
        for name in ("timeout", "pid_file", "no_fork"):
            assert f"profile: {name}: " in faults
        assert ("profile: init: " in faults) == (use is uses[-1])
    with pytest.raises(SpaceError, match="no such profile"):
        Container(len, profile="nope")
