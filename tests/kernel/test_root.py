"""A directory as the root, on the real kernel: what is inside, what is out of reach, and where."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from conftest import SCRIPT

import pyspaces as library

TYPE_CHECKING = False
if TYPE_CHECKING:
    from conftest import Run

pytestmark = pytest.mark.needs("userns", "busybox")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Return a small root: busybox, a directory for /proc, and somewhere to be."""
    root = tmp_path / "tree"
    for name in ("bin", "proc", "home/me", "tmp"):
        (root / name).mkdir(parents=True)
    shutil.copy(shutil.which("busybox") or "", root / "bin/busybox")
    for name in ("sh", "ls", "cat", "pwd", "readlink", "true", "id", "umount", "chroot"):
        (root / "bin" / name).symlink_to("busybox")
    return root


def test_the_directory_is_the_root(pyspaces: Run, tree: Path) -> None:
    done = pyspaces("run", "--user", "-R", str(tree), "--", "sh", "-c", "ls / && ls /..")
    assert done.stdout.split() == ["bin", "home", "proc", "tmp"] * 2, done.stderr


@pytest.mark.needs("proc")
def test_a_shell_is_process_1_of_its_own_proc(pyspaces: Run, tree: Path) -> None:
    done = pyspaces(
        "run", "--user", "--pid", "--root", str(tree), "--", "sh", "-c",
        "readlink /proc/self; id -u; cat /proc/self/mounts",
    )  # fmt: skip
    pid, uid, *mounts = done.stdout.splitlines()
    assert (pid != "", uid) == (True, "0"), done.stderr
    points = [line.split()[1] for line in mounts]
    ours = [path for path in points if not path.startswith("/proc/")]
    assert ours == ["/", "/proc"], "the old root is still mounted"


@pytest.mark.needs("proc")
def test_there_is_no_way_back(pyspaces: Run, tree: Path) -> None:
    """Neither by unmounting nor by the walk out of a chroot."""
    script = """
        umount -l / 2>/tmp/said; umount /proc; ls /
        cd /tmp && chroot /tmp /bin/true 2>/dev/null
        cd ../../../../../.. && pwd && ls
    """
    done = pyspaces("run", "-Up", "-R", str(tree), "--", "sh", "-c", script)
    names = ["bin", "home", "proc", "tmp"]
    assert done.stdout.split() == [*names, "/", *names], done.stderr


def test_a_proc_that_is_a_link_leads_nowhere_outside(pyspaces: Run, tree: Path) -> None:
    (tree / "proc").rmdir()
    (tree / "inner").mkdir()
    (tree / "proc").symlink_to("../../../../../../inner")
    done = pyspaces("run", "-Up", "-R", str(tree), "--", "ls", "/inner/self/ns")
    assert "pid" in done.stdout.split(), done.stderr
    (tree / "proc").unlink()
    (tree / "proc").symlink_to("/usr/share")  # is on the host, and not in the tree
    done = pyspaces("run", "-Up", "-R", str(tree), "--", "true")
    assert done.returncode == 125
    assert "cannot mount a new /proc: openat2 " in done.stderr


def test_a_root_without_a_directory_for_proc_is_told(pyspaces: Run, tree: Path) -> None:
    (tree / "proc").rmdir()
    done = pyspaces("run", "-Up", "-R", str(tree), "--", "true")
    assert done.returncode == 125
    assert f"cannot mount a new /proc: openat2 {tree}/proc: No such file" in done.stderr
    assert "hint: the new root has no directory proc" in done.stderr
    assert not (tree / "proc").exists()
    done = pyspaces("run", "-Up", "--no-mount-proc", "-R", str(tree), "--", "true")
    assert done.returncode == 0, done.stderr


def test_mounts_beneath_the_directory_come_along(pyspaces: Run, tree: Path) -> None:
    """In a user namespace they are locked together: a bind without them would be refused."""
    (tree / "home/me/file").touch()
    inner = f"--root {tree} --no-mount-proc -- ls /tmp/me"
    script = f"""
        mount --bind {tree}/home {tree}/tmp && exec {SCRIPT} run --user {inner}
    """
    done = pyspaces("run", "-Um", "--", "sh", "-c", script)
    assert done.stdout == "file\n", done.stderr


def test_the_root_itself_can_be_the_root(pyspaces: Run) -> None:
    done = pyspaces("run", "--user", "--root", "/", "-w", "/", "--", "sh", "-c", "ls -d usr; pwd")
    assert done.stdout == "usr\n/\n", done.stderr


@pytest.mark.parametrize(
    ("name", "why"),
    [("missing", "No such file or directory"), ("bin/busybox", "Not a directory")],
)
def test_what_cannot_be_a_root_is_told(pyspaces: Run, tree: Path, name: str, why: str) -> None:
    done = pyspaces("run", "--user", "--root", f"{tree}/{name}", "--", "true")
    assert done.returncode == 125
    assert done.stderr == f"pyspaces: cannot attach the new root: chdir {tree}/{name}: {why}\n"


def test_an_empty_path_is_no_root(pyspaces: Run) -> None:
    done = pyspaces("run", "--user", "--root", "", "--", "true")
    assert done.returncode == 2
    assert "root: a path cannot be empty" in done.stderr


@pytest.mark.parametrize("word", ["shared", "unchanged"])
def test_mounts_for_a_root_never_reach_the_outside(pyspaces: Run, tree: Path, word: str) -> None:
    done = pyspaces("run", "-U", "-R", str(tree), "--propagation", word, "--", "true")
    assert done.returncode == 2
    assert (
        f"propagation: {word}: with root or mounts it can only be private or slave" in done.stderr
    )
    done = pyspaces("run", "-U", "-R", str(tree), "--propagation", "slave", "--", "true")
    assert done.returncode == 0, done.stderr


def test_where_the_command_starts(pyspaces: Run, tree: Path, tmp_path: Path) -> None:
    def start(*options: str, home: str = "/home/me", cwd: Path = tmp_path) -> str:
        done = pyspaces(
            "run", "--user", "-R", str(tree), *options, "--", "pwd",
            cwd=cwd, env={"PATH": "/bin", "HOME": home},
        )  # fmt: skip
        return done.stdout.strip() or done.stderr

    assert start("-w", "/tmp") == "/tmp"
    assert start() == "/home/me"
    assert start(home="/nowhere") == "/"
    assert start(home="home/me") == "/"
    (tree / str(tmp_path).lstrip("/")).mkdir(parents=True)
    assert start() == str(tmp_path)
    assert start("-w", "tmp", cwd=Path("/")) == "/tmp"
    assert "change to the working directory: /none: No such file" in start("-w", "/none")


@pytest.mark.as_root
def test_as_root_without_a_user_namespace(pyspaces: Run, tree: Path) -> None:
    options = ("--pid", "--root", str(tree), "--proc-open")
    done = pyspaces("run", *options, "--", "cat", "/proc/self/mounts")
    assert [line.split()[1] for line in done.stdout.splitlines()] == ["/", "/proc"], done.stderr


@pytest.mark.needs("proc")
@pytest.mark.parametrize("kind", ["Container", "Chroot"])
def test_a_container_has_its_root(tree: Path, kind: str) -> None:
    container = (
        library.Container(os.listdir, args=("/",), user=True, pid=True, root=tree, mount_proc=True)
        if kind == "Container"
        else library.Chroot(tree, os.listdir, args=("/",), user=True, pid=True)
    )
    container.start()
    assert sorted(container.result(timeout=60)) == ["bin", "home", "proc", "tmp"]
    container.close()
