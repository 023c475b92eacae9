"""A set-user-ID program of the host gives the command nothing that it has given up."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

import pytest
from conftest import SCRIPT, outcome

from pyspaces import run, settings
from pyspaces.launch import preview
from pyspaces.plan import equivalent

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pathlib import Path
    from typing import Any

    from conftest import Run

OTHER = "33"
# Each operation that shows something of outside: its words, and where DIRECTORY is inside.
SHOWN: dict[str, tuple[list[str], str]] = {
    "bind": (["--bind", "DIRECTORY", "/mnt"], "/mnt"),
    "ro-bind": (["--ro-bind", "DIRECTORY", "/mnt"], "/mnt"),
    "dev-bind": (["--dev-bind", "DIRECTORY", "/mnt"], "/mnt"),
    "bind-try": (["--bind-try", "DIRECTORY", "/mnt"], "/mnt"),
    "bind of the root": (["--bind", "/", "/"], "DIRECTORY"),
    "dev-bind of the root": (["--dev-bind", "/", "/"], "DIRECTORY"),
    "ro-overlay": (
        ["--overlay-src", "DIRECTORY", "--overlay-src", "MORE", "--ro-overlay", "/mnt"],
        "/mnt",
    ),
    "tmp-overlay": (["--overlay-src", "DIRECTORY", "--tmp-overlay", "/mnt"], "/mnt"),
    "throwaway": (["--throwaway"], "DIRECTORY"),
}


@pytest.fixture
def program(tmp_path: Path) -> Path:
    """Return a set-user-ID program of this user that says who it is."""
    if os.statvfs(tmp_path).f_flag & os.ST_NOSUID:
        pytest.skip(f"{tmp_path} is mounted with nosuid")
    made = tmp_path / "programs" / "id"
    made.parent.mkdir()
    (tmp_path / "more").mkdir()
    shutil.copy(shutil.which("id") or "", made)
    made.chmod(0o4755)
    for directory in (made.parent, tmp_path, *tmp_path.parents[:2]):
        if directory.stat().st_uid == os.geteuid():
            directory.chmod(0o755)
    return made


def placed(words: list[str], program: Path) -> list[str]:
    more = str(program.parents[1] / "more")
    return [word.replace("DIRECTORY", str(program.parent)).replace("MORE", more) for word in words]


def who(run: Run, *words: str) -> str:
    done = run("run", *words, "-u")
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.strip()


@pytest.mark.as_root
@pytest.mark.needs("overlay")
def test_what_is_bound_is_nosuid(pyspaces: Run, program: Path) -> None:
    for name, (words, place) in SHOWN.items():
        options = ["--allow-new-privs", "--setuid", OTHER, *placed(words, program)]
        found = who(pyspaces, *options, "--", f"{placed([place], program)[0]}/id")
        assert found == OTHER, name


@pytest.mark.as_root
@pytest.mark.parametrize(
    "options",
    [
        ["--bind-suid", "DIRECTORY", "/mnt"],
        ["--bind-suid", "/", "/", "--bind-suid", "DIRECTORY", "/mnt"],
    ],
)
def test_unless_it_is_asked_for(pyspaces: Run, program: Path, options: list[str]) -> None:
    options = ["--allow-new-privs", "--setuid", OTHER, *placed(options, program)]
    assert who(pyspaces, *options, "--", "/mnt/id") == "0"


@pytest.mark.as_root
@pytest.mark.parametrize("root", [[], ["--root", "/"], ["--tmpfs", "/mnt"]])
def test_the_root_itself_is_as_it_was(pyspaces: Run, program: Path, root: list[str]) -> None:
    """A whole system needs its sudo: what is no bind keeps the bits, as with chroot(1)."""
    options = ["--allow-new-privs", "--setuid", OTHER, *root]
    assert who(pyspaces, *options, "--", str(program)) == "0"
    # And without being told: a command that gives up nothing may have what exec gives.
    inside = f"setpriv --reuid {OTHER} --clear-groups {program}"
    assert who(pyspaces, "--mount", *root, "--", "sh", "-c", f'{inside} "$@"', "sh") == "0"


@pytest.mark.as_root
@pytest.mark.parametrize(
    "options",
    [
        ["--setuid", OTHER],
        ["--setuid", OTHER, "--cap-drop", "all"],
        ["--setuid", OTHER, "--keep-caps"],
        ["--user", "-M", "0 0 1,33 33 1", "--setuid", OTHER],
        ["--mount", "--setuid", "www-data"],
    ],
)
def test_who_gives_up_root_cannot_have_it_again(
    pyspaces: Run, program: Path, options: list[str]
) -> None:
    assert who(pyspaces, *options, "--", str(program)) == OTHER
    if "--user" not in options:
        assert who(pyspaces, *options, "--allow-new-privs", "--", str(program)) == "0"


@pytest.mark.as_root
def test_as_it_was_found(pyspaces: Run, program: Path) -> None:
    words = ["--setuid", OTHER, "--cap-drop", "all", "--bind", str(program.parent), "/mnt"]
    for more in ([], ["--pid"], ["--allow-new-privs"], ["--pid", "--init"], ["--no-fork"]):
        assert who(pyspaces, *words, *more, "--", "/mnt/id") == OTHER


@pytest.mark.as_root
@pytest.mark.needs("bwrap")
def test_bwrap_does_the_same(program: Path) -> None:
    done = outcome(
        [
            "bwrap",
            "--bind",
            "/",
            "/",
            "--",
            "setpriv",
            f"--reuid={OTHER}",
            "--clear-groups",
            str(program),
            "-u",
        ]
    )
    assert done.stdout.strip() == OTHER


# The keywords of a launch with `user`, and whether a command of it can gain privileges.
WHEN: list[tuple[dict[str, Any], bool]] = [
    ({}, True),
    ({"cap_drop": "kill"}, True),
    ({"setuid": "0"}, True),
    ({"setuid": "root"}, True),
    ({"cap_drop": "all"}, False),
    ({"cap_drop": "ALL", "cap_add": "kill"}, False),
    ({"cap_drop": "all", "allow_new_privs": True}, True),
    ({"no_new_privs": True}, False),
    ({"allow_new_privs": True}, True),
]


@pytest.mark.needs("userns")
def test_when_no_new_privs_is_set() -> None:
    command = ["grep", "NoNewPrivs", "/proc/self/status"]
    for values, free in WHEN:
        plan = settings.plan_from({"user": True, "command": command, **values})
        shown = preview.text(plan, equivalent.of(plan, equivalent.Caller.of_this_process()))
        assert ("forbid new privileges" in shown) is not free, values
        done = run(command, user=True, capture_output=True, text=True, **values)
        assert done.stdout.split()[1:] == ["0" if free else "1"], values


@pytest.mark.needs("userns")
def test_one_who_is_mapped_and_not_root(pyspaces: Run) -> None:
    words = ("--map-current", "--setuid", str(os.getuid()), "--", "grep", "NoNewPrivs")
    done = pyspaces("run", *words, "/proc/self/status")
    assert done.stdout.split()[1:] == ["0" if os.getuid() == 0 else "1"], done.stderr


def test_both_cannot_be_meant(pyspaces: Run) -> None:
    done = pyspaces("run", "--no-new-privs", "--allow-new-privs", "--", "true")
    assert done.returncode == 2
    assert "allow-new-privs: cannot be combined with --no-new-privs" in done.stderr


@pytest.mark.needs("userns")
def test_a_visitor_has_what_the_target_gives(pyspaces: Run) -> None:
    """What is set-user-ID in there is the target's own: as with nsenter(1) and docker exec."""
    # When this fails, `cat` ends with its input, which is closed then.
    with subprocess.Popen([SCRIPT, "run", "--map-current", "--", "cat"], stdin=subprocess.PIPE,
                          stdout=subprocess.PIPE) as target:  # fmt: skip
        assert target.stdin is not None
        assert target.stdout is not None
        target.stdin.write(b"up\n")
        target.stdin.flush()
        target.stdout.readline()
        children = f"/proc/{target.pid}/task/{target.pid}/children"
        with open(children, encoding="ascii") as file:
            pid = file.read().split()[0]
        done = pyspaces(
            "enter", pid, "--setuid", str(os.getuid()), "--",
            sys.executable, "-c", "print(open('/proc/self/status').read())",
        )  # fmt: skip
        target.stdin.close()
    assert "NoNewPrivs:\t0" in done.stdout, done.stderr
