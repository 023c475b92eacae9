"""Id maps and identity inside, on the real kernel."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys

import pytest
from conftest import PROBE, SCRIPT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from conftest import Run

pytestmark = pytest.mark.needs("userns")
UID, GID = os.geteuid(), os.getegid()
PYTHON = (sys.executable, "-I", "-S", PROBE)


def map_rows(text: str) -> list[list[int]]:
    return [[int(field) for field in line.split()] for line in text.splitlines()]


def test_user_alone_is_root_inside(pyspaces: Run) -> None:
    """With every capability, and where the kernel allows it with groups."""
    script = "id -u; id -g; grep CapEff /proc/self/status; cat /proc/self/setgroups"
    done = pyspaces("run", "--user", "--", "sh", "-c", script)
    uid, gid, _, caps, setgroups = done.stdout.split()
    assert (uid, gid) == ("0", "0")
    # All that this kernel knows, whatever the caller has outside.
    with open("/proc/sys/kernel/cap_last_cap") as file:
        assert int(caps, 16) == (1 << int(file.read()) + 1) - 1
    assert setgroups == ("allow" if UID == 0 else "deny")


def test_current_keeps_the_ids(pyspaces: Run) -> None:
    for options in (["-c"], ["-M", "current"]):
        done = pyspaces("run", *options, "--", *PYTHON, "ids")
        uids, gids, _ = json.loads(done.stdout)
        assert (uids, gids) == ([UID] * 3, [GID] * 3)


def test_none_leaves_the_maps_unwritten(pyspaces: Run) -> None:
    done = pyspaces("run", "-M", "none", "--", "cat", "/proc/self/uid_map", "/proc/self/gid_map")
    assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.parametrize("form", ["0 {} 1", "{}"])
def test_every_form_of_the_grammar_reaches_the_kernel(pyspaces: Run, form: str) -> None:
    done = pyspaces(
        "run", "-M", form.format(UID), "-G", form.format(GID), "--",
        "cat", "/proc/self/uid_map", "/proc/self/gid_map",
    )  # fmt: skip
    assert map_rows(done.stdout) == [[0, UID, 1], [0, GID, 1]]


def test_the_first_inside_id_is_taken_where_0_is_not_mapped(pyspaces: Run) -> None:
    done = pyspaces("run", "-M", f"7,{UID},1", "-G", f"8,{GID},1", "--", *PYTHON, "ids")
    uids, gids, _ = json.loads(done.stdout)
    assert (uids, gids) == ([7] * 3, [8] * 3)


def test_a_record_for_uids_alone_leaves_gids_at_root(pyspaces: Run) -> None:
    done = pyspaces("run", "-M", f"7,{UID},1", "--", "cat", "/proc/self/gid_map")
    assert map_rows(done.stdout) == [[0, GID, 1]]


def test_setgroups_can_be_denied(pyspaces: Run) -> None:
    done = pyspaces("run", "--setgroups", "deny", "--", "cat", "/proc/self/setgroups")
    assert done.stdout == "deny\n"


@pytest.mark.as_ordinary
def test_setgroups_allow_is_refused_and_explained(pyspaces: Run) -> None:
    done = pyspaces("run", "--setgroups", "allow", "true")
    assert done.returncode == 125
    assert "gid_map: Operation not permitted" in done.stderr
    assert "hint: without CAP_SETGID, setgroups must be denied" in done.stderr


@pytest.mark.as_root
def test_supplementary_groups_go_where_setgroups_is_allowed(pyspaces: Run) -> None:
    done = subprocess.run(
        [SCRIPT, "run", "--user", "--", *PYTHON, "ids"],
        extra_groups=[5, 6],
        capture_output=True,
        check=True,
    )
    assert json.loads(done.stdout)[2] == []


@pytest.mark.as_root
def test_the_mapped_user_is_another_outside(pyspaces: Run) -> None:
    done = pyspaces(
        "run", "--map-uid", "0,1000,1", "--map-gid", "0,1000,1", "-w", "/", "--",
        "sh", "-c", "cat /proc/self/uid_map; id -u; stat -L -c %u /proc/self; stat -c %u /etc",
    )  # fmt: skip
    lines = done.stdout.splitlines()
    assert lines[0].split() == ["0", "1000", "1"]
    # Inside root; and outside's root, whom nobody maps, is the overflow id.
    assert lines[1:] == ["0", "0", "65534"]


@pytest.mark.as_root
def test_records_add_up(pyspaces: Run) -> None:
    done = pyspaces(
        "run", "-M", "root", "-M", "1,100000,65536", "-M", "100000 200000 5,100010 200010 5", "--",
        "cat", "/proc/self/uid_map",
    )  # fmt: skip
    assert map_rows(done.stdout) == [
        [0, 0, 1], [1, 100000, 65536], [100000, 200000, 5], [100010, 200010, 5],
    ]  # fmt: skip


@pytest.mark.as_root
@pytest.mark.parametrize("count", [6, 340])
def test_maps_up_to_the_largest_are_written(pyspaces: Run, count: int) -> None:
    spec = ",".join(f"{2 * n} {2 * n} 1" for n in range(count))
    done = pyspaces("run", "-M", spec, "--", "cat", "/proc/self/uid_map")
    assert len(done.stdout.splitlines()) == count


@pytest.mark.as_root
def test_all_is_the_map_of_the_caller(pyspaces: Run) -> None:
    with open("/proc/self/uid_map") as file:
        own = map_rows(file.read())
    done = pyspaces("run", "-M", "all", "--", "cat", "/proc/self/uid_map")
    assert map_rows(done.stdout) == [[row[0], row[0], row[2]] for row in own]


def test_a_launch_inside_a_launch(pyspaces: Run) -> None:
    """Ids are those of the namespace around: inside, the caller is 0."""
    done = pyspaces(
        "run", "--user", "--pid", "--", SCRIPT, "run", "--user", "--pid", "--mount", "--",
        "sh", "-c", "echo $$ $(id -u); cat /proc/self/uid_map",
    )  # fmt: skip
    assert done.stdout.split() == ["1", "0", "0", "0", "1"], done.stderr


def test_proc_of_another_pid_namespace_does_not_mislead_us(pyspaces: Run) -> None:
    """In a pid namespace without a fresh /proc, /proc/PID of a new child is a stranger."""
    done = pyspaces(
        "run", "--user", "--pid", "--",
        "sh", "-c", f"for n in 1 2; do {SCRIPT} run --user -- id -u; done",
    )  # fmt: skip
    assert done.stdout.split() == ["0", "0"], done.stderr


@pytest.mark.as_ordinary
@pytest.mark.needs("newuidmap")
def test_a_foreign_id_is_refused_and_the_rule_explained(pyspaces: Run) -> None:
    done = pyspaces("run", "--map-uid", f"0,{UID + 1},1", "--", "true")
    assert done.returncode == 125
    assert f"newuidmap: uid range [0-1) -> [{UID + 1}-{UID + 2}) not allowed" in done.stderr
    assert (
        f"while mapping user ids for the new user namespace (0 → {UID + 1}, count 1)" in done.stderr
    )
    assert f"0 {UID + 1} 1: not all of these outside ids are subordinate uids of" in done.stderr
    cure = re.search(r"(--map-uid \S+) works$", done.stderr.strip())
    assert cure
    assert pyspaces("run", *cure[1].split(), "--", "true").returncode == 0


@pytest.mark.as_ordinary
@pytest.mark.needs("newuidmap")
def test_all_is_refused_to_an_ordinary_user(pyspaces: Run) -> None:
    done = pyspaces("run", "--map-uid", "all", "--", "true")
    assert done.returncode == 125
    assert "not all of these outside ids are subordinate uids of" in done.stderr


def test_outside_ids_that_do_not_exist_are_named(pyspaces: Run) -> None:
    """In a nested launch root inside is privileged, but only over the ids that it has."""
    done = pyspaces("run", "--user", "--", SCRIPT, "run", "-M", "0,5,1", "true")
    assert done.returncode == 125
    assert "hint: 0 5 1: not all of these outside ids exist in this user namespace" in done.stderr
    assert "(it has 0 to 0)" in done.stderr


def test_root_of_the_parent_needs_setfcap(pyspaces: Run) -> None:
    done = pyspaces(
        "run", "--user", "--", "setpriv", "--bounding-set", "-setfcap", "--inh-caps", "-setfcap",
        SCRIPT, "run", "--user", "true",
    )  # fmt: skip
    assert done.returncode == 125
    assert "hint: mapping outside user 0 requires CAP_SETFCAP" in done.stderr


def test_a_caller_without_mapped_ids_is_told_so(pyspaces: Run) -> None:
    done = pyspaces("run", "-M", "none", "--", SCRIPT, "run", "--user", "true")
    assert done.returncode == 125
    assert "own uid is not mapped in its user namespace" in done.stderr
