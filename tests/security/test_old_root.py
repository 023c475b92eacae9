"""The old root is out of reach, whatever covers it: `/..`, mounts, descriptors, the launcher."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from conftest import IS_ROOT, SCRIPT, outcome, without

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from conftest import Run

LOOK = str(Path(__file__).with_name("roots.py"))
# What older kernels and filters lack. The number of statx(2) is that of x86-64; elsewhere it is
# another call, and the filter of no consequence.
OPEN_TREE, FSOPEN, MOUNT_SETATTR, SETNS, STATX = 428, 430, 442, 308, 332
WAYS = {
    "all there": ([], ["user"]),
    "a pid namespace": ([], ["user", "pid"]),
    "no mount_setattr": ([MOUNT_SETATTR], ["user", "pid"]),
    "no setns": ([SETNS], ["user"]),
}
# Looked at beside the rest where there is time.
RARE = ("a pid namespace", "no setns", *(("all there", "no mount_setattr") if IS_ROOT else ()))
# How many launches there are at least; `few` has each operation and each root, but not each pair.
EXTENTS = {"few": 45, "all": 400}
EXTENT = pytest.mark.parametrize("extent", ["few", pytest.param("all", marks=pytest.mark.stress)])


def look(directory: Path, *words: str, lacking: list[int]) -> dict[str, Any]:
    done = outcome([*without(*lacking), sys.executable, LOOK, str(directory), *words], timeout=230)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.mark.needs("userns", "overlay", "proc")
@EXTENT
@pytest.mark.parametrize(
    "way", [pytest.param(way, marks=pytest.mark.stress if way in RARE else ()) for way in WAYS]
)
def test_every_operation_over_every_root(tmp_path: Path, way: str, extent: str) -> None:
    lacking, namespaces = WAYS[way]
    found = look(tmp_path, extent, *namespaces, lacking=lacking)
    assert (found["faults"], found["lacking"]) == ([], 0)
    assert found["count"] - found["refused"] > EXTENTS[extent]


@pytest.mark.needs("userns", "overlay", "proc")
@EXTENT
@pytest.mark.parametrize(
    "lacking",
    [
        [OPEN_TREE, FSOPEN],
        *(pytest.param([one], marks=pytest.mark.stress) for one in (OPEN_TREE, FSOPEN)),
    ],
    ids=str,
)
def test_without_calls_that_every_supported_kernel_has(
    tmp_path: Path, lacking: list[int], extent: str
) -> None:
    """What needs them is refused in the kernel's words; what does not is as closed as ever."""
    found = look(tmp_path, extent, "user", lacking=lacking)
    assert found["faults"] == []
    assert 0 < found["lacking"] <= found["refused"] < found["count"]


@pytest.mark.as_root
@pytest.mark.needs("overlay", "proc")
@EXTENT
def test_the_same_without_a_user_namespace(tmp_path: Path, extent: str) -> None:
    assert look(tmp_path, extent, "pid", lacking=[])["faults"] == []


@pytest.mark.needs("userns", "proc")
def test_mount_ids_from_proc(tmp_path: Path) -> None:
    """Before Linux 5.8 statx(2) tells no mount id; /proc/self/fdinfo of the old root does."""
    for mounts in (["--ro-bind", "/", "/"], ["--tmpfs", "/", "--ro-bind", "/", "/"]):
        words = [*mounts, *mounts, "--", "sh", "-c", f"echo in > /..{tmp_path}/x; ls /.."]
        done = outcome([*without(STATX), SCRIPT, "run", "--user", "--pid", *words])
        assert "Read-only file system" in done.stderr
        assert "usr" in done.stdout
        assert not (tmp_path / "x").exists()


@pytest.mark.needs("userns")
def test_without_capabilities_nothing_is_written(pyspaces: Run, tmp_path: Path) -> None:
    """As it was found: the least privileged of commands wrote to the host."""
    tmp_path.chmod(0o777)
    for way in (["--ro-bind", "/", "/"], ["--read-only"], ["--ro-bind", "/", "/"] * 2):
        done = pyspaces(
            "run", "--user", "--map-current", "--cap-drop", "all", "--no-new-privs", *way, "--",
            "sh", "-c", f"echo in > /..{tmp_path}/x",
        )  # fmt: skip
        assert done.returncode != 0
        assert "Read-only file system" in done.stderr
        assert not (tmp_path / "x").exists()


@pytest.mark.needs("userns")
@pytest.mark.parametrize(
    "way", [["--bind", "/", "/"], ["--dev-bind", "/", "/"], ["--bind", "/", "/"] * 3]
)
def test_launches_nest_in_such_a_root(pyspaces: Run, way: list[str]) -> None:
    inner = [SCRIPT, "run", "--user", *way, "--", "unshare", "-Ur", "true"]
    done = pyspaces("run", "--user", *way, "--", *inner)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.as_root
def test_a_throwaway_root_keeps_the_host_as_it_is(pyspaces: Run, tmp_path: Path) -> None:
    done = pyspaces("run", "--pid", "--throwaway", "--", "sh", "-c", f"echo in > /..{tmp_path}/x")
    assert done.returncode == 0, done.stderr
    assert not (tmp_path / "x").exists()


@pytest.mark.needs("userns")
def test_a_path_that_leads_to_the_root(pyspaces: Run, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("/")
    (tmp_path / "up").symlink_to("../../..")
    for target in ("/link", "/.", "/link/.", "/up"):
        done = pyspaces("run", "--user", "-R", str(tmp_path), "--tmpfs", target, "--", "true")
        assert done.returncode == 125
        assert f"{target}: leads to the root directory; as a target, that is /" in done.stderr


@pytest.mark.needs("proc")
def test_a_root_whose_proc_leads_to_the_root(pyspaces: Run, tmp_path: Path) -> None:
    (tmp_path / "proc").symlink_to("/")
    done = pyspaces("run", "--user", "--pid", "-R", str(tmp_path), "--", "true")
    assert done.returncode == 125
    assert f"cannot mount a new /proc: {tmp_path}/proc: is a link to the root" in done.stderr


@pytest.mark.needs("unshare")
@pytest.mark.skipif(not IS_ROOT, reason="in a chroot an ordinary user makes no namespace")
def test_in_a_chroot_the_outside_is_not_left_mounted(tmp_path: Path) -> None:
    inside = f"chroot {tmp_path} {SCRIPT} run --mount --ro-bind / / -- true"
    done = outcome(["unshare", "-m", "sh", "-c", f"mount --rbind / {tmp_path}; {inside}"])
    assert done.returncode == 125
    assert "cannot change to the new root: the launcher is in a chroot" in done.stderr
