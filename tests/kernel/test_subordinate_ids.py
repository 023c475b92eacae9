"""Subordinate ids through newuidmap and newgidmap, and each of their refusals, provoked."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from pathlib import Path

import pytest
from conftest import SCRIPT, outcome

from pyspaces.features.ids import accounts

TYPE_CHECKING = False
if TYPE_CHECKING:
    from conftest import Run

pytestmark = pytest.mark.needs("userns", "newuidmap")
UID = os.geteuid()
ordinary = pytest.mark.as_ordinary


def ranges() -> list[tuple[int, int]]:
    return accounts.subordinate_ranges("uid", accounts.caller())


@ordinary
def test_files_can_be_given_to_other_users(pyspaces: Run, tmp_path: Path) -> None:
    done = pyspaces(
        "run", "--map-auto", "--",
        "sh", "-c", f"cd {tmp_path}; touch f; chown 1:1 f; stat -c %u f; rm f",
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (0, "1\n", "")


@ordinary
def test_programs_change_to_other_users(pyspaces: Run) -> None:
    done = pyspaces(
        "run", "-M", "auto", "--",
        "setpriv", "--reuid", "33", "--regid", "33", "--clear-groups", "id", "-u",
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, "33\n"), done.stderr


@ordinary
def test_every_range_is_mapped_whole(pyspaces: Run) -> None:
    done = pyspaces("run", "--map-auto", "--", "cat", "/proc/self/uid_map")
    rows = [tuple(map(int, line.split())) for line in done.stdout.splitlines()]
    assert rows[0] == (0, UID, 1)
    assert [row[1:] for row in rows[1:]] == ranges()
    assert [row[0] for row in rows[1:]] == [
        1 + sum(count for _, count in ranges()[:index]) for index in range(len(ranges()))
    ]


@ordinary
def test_subids_keep_their_numbers(pyspaces: Run) -> None:
    done = pyspaces("run", "-M", "root", "-M", "subids", "--", "cat", "/proc/self/uid_map")
    rows = [tuple(map(int, line.split())) for line in done.stdout.splitlines()]
    assert rows == [(0, UID, 1), *((first, first, count) for first, count in ranges())]


@ordinary
def test_a_range_outside_what_the_user_owns(pyspaces: Run) -> None:
    done = pyspaces("run", "-M", "root", "-M", "1,5,1", "--", "true")
    assert done.returncode == 125
    assert "newuidmap: uid range [1-2) -> [5-6) not allowed" in done.stderr
    assert "hint: 1 5 1: not all of these outside ids are subordinate uids of" in done.stderr


@ordinary
def test_no_new_privileges(pyspaces: Run) -> None:
    done = outcome(["setpriv", "--no-new-privs", SCRIPT, "run", "--map-auto", "--", "true"])
    assert done.returncode == 125
    assert "hint: no_new_privs is set on this process" in done.stderr


@ordinary
def test_a_copy_that_has_lost_its_bit(pyspaces: Run, tmp_path: Path) -> None:
    found = shutil.which("newuidmap")
    assert found is not None
    shutil.copyfile(found, tmp_path / "newuidmap")
    (tmp_path / "newuidmap").chmod(0o755)
    path = f"{tmp_path}:{os.environ['PATH']}"
    done = pyspaces("run", "--map-auto", "--", "true", env={**os.environ, "PATH": path})
    assert done.returncode == 125
    assert f"hint: {tmp_path}/newuidmap has lost its set-user-ID bit" in done.stderr


@pytest.mark.as_root
def test_a_user_without_ranges_is_told_how_to_get_some(tmp_path: Path) -> None:
    script = (
        "from pyspaces.features.ids import accounts as a;"
        " print(a.no_ranges('uid', a.User(uid=77, name='x')))"
    )
    done = outcome([sys.executable, "-c", script], check=True)
    assert "cannot map subordinate uids: user x (77) has no range of them" in done.stdout
    assert "sudo usermod --add-subuids" in done.stdout


@ordinary
def test_ids_behind_a_range_can_be_taken(pyspaces: Run) -> None:
    words = ("--map-auto", "--setuid", "33", "--setgid", "33", "--", "id", "-u")
    done = pyspaces("run", *words)
    assert (done.returncode, done.stdout, done.stderr) == (0, "33\n", "")


@ordinary
def test_helpers_have_no_signal_blocked(pyspaces: Run, tmp_path: Path) -> None:
    """The launcher reads its own signals from a descriptor, and blocks them for that."""
    found = shutil.which("newuidmap")
    own = tmp_path / "newuidmap"
    own.write_text(f'#!/bin/sh\ngrep SigBlk /proc/self/status > {tmp_path}/said\nexec {found} "$@"')
    own.chmod(0o755)
    path = f"{tmp_path}:{os.environ['PATH']}"
    done = pyspaces("run", "--map-auto", "--", "true", env={**os.environ, "PATH": path})
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "said").read_text().split() == ["SigBlk:", "0" * 16]


_NOSUID = """
from pyspaces.features.ids import accounts, newidmap
print(newidmap.explain(newidmap.Refusal(
    kind="uid", path="/proc/newuidmap", process="self", extents=(), ranges=(),
    output="newuidmap: write to uid_map failed: Operation not permitted",
    user=accounts.User(uid=1, name="x"),
)))
"""


def test_a_helper_on_a_nosuid_file_system(tmp_path: Path) -> None:
    """What newuidmap says there, and a file on a mount that is really nosuid."""
    script = _NOSUID.replace("/proc/newuidmap", f"{tmp_path}/newuidmap")
    mount = f"mount -t tmpfs -o nosuid none {tmp_path}; touch {tmp_path}/newuidmap"
    command = ["unshare", "-Urm", "sh", "-ec", f'{mount}; exec "$@"', "sh"]
    done = outcome([*command, sys.executable, "-c", script], check=True)
    expected = "is on a file system mounted with nosuid: remount it with suid\n"
    assert done.stdout == f"{tmp_path}/newuidmap {expected}"


def as_root_with(script: str, *around: str, ranges: str = "root:300000:65536\n") -> str:
    """Return what a launch that fails says, with ranges and mounts that only it sees.

    Root without CAP_SETUID needs the helpers as anybody does.
    """
    words = [*around, SCRIPT, "run", "--map-auto", "--", "true"]
    lines = f'printf %s "{ranges}" > "$D/ids"; mount --bind "$D/ids" /etc/subuid'
    lines += '; mount --bind "$D/ids" /etc/subgid'
    # The directory is gone with the mount namespace, but for its place.
    place = tempfile.mkdtemp(prefix="pyspaces-")
    script = f"D={place}; mount -t tmpfs none $D; {lines}; {script}"
    try:
        done = outcome(
            ["unshare", "-m", "sh", "-ec", f'{script}; exec "$@"', "sh", *words],
            env={**os.environ, "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"},
        )
    finally:
        os.rmdir(place)
    assert done.returncode == 125, done.stdout + done.stderr
    return done.stderr


WITHOUT = ("setpriv", "--bounding-set=-setuid,-setgid")


@pytest.mark.as_root
def test_a_capability_that_is_not_in_the_bounding_set() -> None:
    assert "hint: CAP_SETUID is not in the bounding set of this process" in as_root_with(
        ":", *WITHOUT
    )


@pytest.mark.as_root
def test_helpers_that_are_not_installed() -> None:
    hide = "for p in /usr/local/bin /usr/bin /bin /usr/sbin /sbin; do"
    hide += " if [ -e $p/newuidmap ]; then mount --bind /dev/null $p/newuidmap; fi; done"
    assert "newuidmap, which is not installed: install the package" in as_root_with(hide, *WITHOUT)


@pytest.mark.as_root
def test_a_group_that_is_not_that_of_the_user() -> None:
    told = as_root_with(":", "setpriv", "--regid=5", "--clear-groups", *WITHOUT)
    assert "hint: the group of this process, 5, is not 0" in told


@pytest.mark.as_root
def test_a_user_without_ranges() -> None:
    told = as_root_with(":", ranges="other:300000:65536\n")
    assert "user root (0) has no range of them" in told
    assert "hint: no subordinate ids are given to this user; run: sudo usermod" in told


def test_inside_a_namespace_of_one_id_no_file_helps(pyspaces: Run) -> None:
    done = pyspaces("run", "--user", "--", SCRIPT, "run", "--map-auto", "--", "true")
    assert done.returncode == 125
    assert "usermod" not in done.stderr
    if "has no range" in done.stderr:
        assert "hint: this user namespace has one uid, and so none to pass on" in done.stderr
