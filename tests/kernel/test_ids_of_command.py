"""--setuid, --setgid and --groups: who the command is, on the real kernel."""

from __future__ import annotations

import grp
import json
import os
import pwd
import sys

import pytest
from conftest import PROBE, SCRIPT
from usage import assert_refused

TYPE_CHECKING = False
if TYPE_CHECKING:
    from conftest import Run

pytestmark = pytest.mark.needs("userns")
UID, GID = os.geteuid(), os.getegid()
IDS = ("--", sys.executable, "-I", "-S", PROBE, "ids")
# Another user may not reach an interpreter below root's home; it reaches a shell.
SHELL_IDS = ("--", "sh", "-c", "id -u; id -g; id -G")
SEVERAL = ("-M", "0 0 70000", "-G", "0 0 70000")


def test_another_mapped_id_is_taken(pyspaces: Run) -> None:
    maps = ("-M", f"5,{UID},1", "-G", f"6,{GID},1")
    done = pyspaces("run", *maps, "--setuid", "5", "--setgid", "6", *IDS)
    assert json.loads(done.stdout)[:2] == [[5] * 3, [6] * 3]


@pytest.mark.as_root
def test_ids_and_groups_as_root(pyspaces: Run) -> None:
    done = pyspaces(
        "run", *SEVERAL, "--setuid", "33", "--setgid", "34", "--groups", "35,36", *SHELL_IDS
    )
    assert (done.stdout, done.stderr) == ("33\n34\n34 35 36\n", "")


@pytest.mark.as_root
def test_names_are_those_of_the_host(pyspaces: Run) -> None:
    user, group = pwd.getpwuid(1), grp.getgrgid(2)
    done = pyspaces(
        "run", *SEVERAL, "--setuid", user.pw_name, "--setgid", group.gr_name,
        "--groups", grp.getgrgid(3).gr_name, *SHELL_IDS,
    )  # fmt: skip
    assert (done.stdout, done.stderr) == ("1\n2\n2 3\n", "")


@pytest.mark.as_root
def test_without_a_user_namespace(pyspaces: Run) -> None:
    done = pyspaces("run", "--setuid", "33", "--setgid", "34", "--groups", "none", *SHELL_IDS)
    assert (done.stdout, done.stderr) == ("33\n34\n34\n", "")


@pytest.mark.as_root
def test_another_user_has_no_capabilities_and_dies_with_the_launcher(pyspaces: Run) -> None:
    """The signal of the parent's death is asked for again after the ids have changed."""
    done = pyspaces("run", *SEVERAL, "--setuid", "33", "--", "grep", "CapEff", "/proc/self/status")
    assert int(done.stdout.split()[1], 16) == 0
    steps = pyspaces("run", "-v", "--setuid", "33", "--", "true").stderr
    assert "take the ids of the command: user 33\n" in steps
    assert steps.index("launcher again") > steps.index("take the ids")


def test_groups_kept(pyspaces: Run) -> None:
    done = pyspaces("run", "--user", "--groups", "keep", *IDS)
    assert len(json.loads(done.stdout)[2]) == len(os.getgroups())


@pytest.mark.as_ordinary
def test_groups_that_the_kernel_denies(pyspaces: Run) -> None:
    done = pyspaces("run", "--user", "--groups", "none", "--", "true")
    assert (done.returncode, done.stdout) == (125, "")
    assert "cannot take the ids of the command" in done.stderr
    assert "setgroups(2) is denied in the new user namespace" in done.stderr


@pytest.mark.as_ordinary
@pytest.mark.parametrize(
    ("options", "name"),
    [(["--setuid", "0"], "CAP_SETUID"), (["--setgid", "0"], "CAP_SETGID")],
)
def test_ids_that_need_a_capability(pyspaces: Run, options: list[str], name: str) -> None:
    done = pyspaces("run", *options, "--", "true")
    assert done.returncode == 125
    assert f"hint: without {name}, a process cannot change its ids: add --user" in done.stderr


def test_refused_before_anything_is_created() -> None:
    rows = [
        (["--setuid", "5"], f"setuid: 5: is not mapped inside (the map is 0 → {UID}"),
        (["--setgid", "5"], "setgid: 5: is not mapped inside"),
        (["--groups", "0,7"], "groups: 7: is not mapped inside"),
        (["--groups", "none,3"], "groups: none cannot be combined with other groups"),
        (["--groups", "keep", "--groups", "0"], "groups: keep cannot be combined"),
        (["--groups", "0", "--setgroups", "deny"], "groups: setgroups(2) is needed"),
        (["--groups", "none", "-G", "none"], "works only with a group map"),
        (["--setuid", "no such user"], "setuid: 'no such user': no such user"),
        (["--setgid", ""], "setgid: '': no such group"),
        (["--setuid", "4294967295"], "setuid: 4294967295: is not an id"),
    ]
    assert_refused([(["--user", *words], error) for words, error in rows])


def test_an_id_that_the_callers_own_namespace_lacks(pyspaces: Run) -> None:
    inner = (SCRIPT, "run", "--setuid", "77", "--", "true")
    done = pyspaces("run", "--user", "--", *inner)
    assert done.returncode == 2
    assert "setuid: 77: does not exist in this user namespace" in done.stderr
