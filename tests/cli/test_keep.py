"""Namespaces that files keep: `run --keep`, `pyspaces drop`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import IS_ROOT, PROBE, SCRIPT, outcome

from pyspaces.kernel import mountinfo

TYPE_CHECKING = False
if TYPE_CHECKING:
    from conftest import Run

PYTHON = [sys.executable, "-I", "-S", PROBE]


def mounts_below(directory: Path) -> list[str]:
    return [
        point for _, _, point in mountinfo.namespace_files() if point.startswith(f"{directory}/")
    ]


def within(script: str) -> subprocess.CompletedProcess[str]:
    """Run a script in a mount namespace of its own, in which everybody may bind."""
    words = ["unshare", "-m"] if IS_ROOT else ["unshare", "-Urm"]
    return outcome([*words, "sh", "-ec", script], timeout=120)


@pytest.mark.as_root
@pytest.mark.needs("netns")
def test_a_namespace_stays_until_it_is_dropped(pyspaces: Run, tmp_path: Path) -> None:
    file = tmp_path / "a file"
    done = pyspaces("run", f"--keep=net={file}", "--", *PYTHON, "ns")
    inside = json.loads(done.stdout)
    try:
        assert f"net:[{os.stat(file).st_ino}]" == inside["net"]
        assert inside["net"] != os.readlink("/proc/self/ns/net")
        for words in (
            ("enter", f"--net-file={file}"),
            ("enter", str(file)),
            ("run", f"--join=net={file}"),
        ):
            again = json.loads(pyspaces(*words, "--", *PYTHON, "ns").stdout)
            assert again["net"] == inside["net"]
            assert again["uts"] == os.readlink("/proc/self/ns/uts")
        rows = json.loads(pyspaces("list", "-t", "net", "--json").stdout)["namespaces"]
        assert [row["nprocs"] for row in rows if row["files"] == [str(file)]] == [0]
        done = pyspaces("run", f"--keep=net={file}", "--", "true")
        assert (done.returncode, done.stderr) == (
            125,
            f"pyspaces: cannot keep the net namespace: {file}: keeps a namespace already;"
            f" release it with: pyspaces drop {file}\n",
        )
    finally:
        done = pyspaces("drop", str(file))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert not file.exists()


@pytest.mark.as_root
@pytest.mark.needs("userns", "netns", "pidns", "timens")
def test_every_type_can_be_kept(pyspaces: Run, tmp_path: Path) -> None:
    links = {"user": "user", "net": "net", "uts": "uts", "ipc": "ipc", "cgroup": "cgroup"}
    links |= {"time": "time", "pid": "pid"}
    if "shared" not in outcome(["findmnt", "-no", "PROPAGATION", "-T", str(tmp_path)]).stdout:
        links["mount"] = "mnt"  # The kernel binds none where mounts are shared.
    keeps = [f"--keep={name}={tmp_path / name}" for name in links]
    inside = json.loads(pyspaces("run", *keeps, "--", *PYTHON, "ns").stdout)
    try:
        for name, link in links.items():
            assert inside[link] == f"{link}:[{os.stat(tmp_path / name).st_ino}]"
        done = pyspaces("enter", f"--time-file={tmp_path / 'time'}", "--", *PYTHON, "ns")
        assert json.loads(done.stdout)["time"] == inside["time"]
        done = pyspaces("enter", f"--pid-file={tmp_path / 'pid'}", "--", "true")
        assert done.returncode == 125
        assert "hint: process 1 of the pid namespace has ended" in done.stderr
    finally:
        done = pyspaces("drop", *(str(tmp_path / name) for name in links))
    assert done.returncode == 0
    assert list(tmp_path.iterdir()) == []


@pytest.mark.as_root
@pytest.mark.needs("netns")
def test_a_launch_that_fails_keeps_nothing(pyspaces: Run, tmp_path: Path) -> None:
    (tmp_path / "there").touch()
    keeps = (f"--keep=net={tmp_path}/there", f"--keep=uts={tmp_path}/new")
    done = pyspaces("run", *keeps, "--workdir", "/nonexistent", "--", "true")
    assert done.returncode == 125
    assert [path.name for path in tmp_path.iterdir()] == ["there"]
    assert mounts_below(tmp_path) == []
    done = pyspaces("run", *keeps, "--", "/nonexistent")
    assert done.returncode == 127
    assert [path.name for path in tmp_path.iterdir()] == ["there"]
    assert mounts_below(tmp_path) == []


@pytest.mark.needs("userns")
def test_what_cannot_be_kept_is_refused_before_anything_happens(
    pyspaces: Run, tmp_path: Path
) -> None:
    def refusal(keep: str) -> tuple[int, str]:
        done = pyspaces("run", "--user", f"--keep={keep}", "--", "touch", str(tmp_path / "ran"))
        return done.returncode, done.stderr

    missing = f"{tmp_path}/no/file"
    cannot = "pyspaces: cannot keep the uts namespace"
    assert refusal(f"uts={missing}") == (125, f"{cannot}: {missing}: there is no such directory\n")
    assert refusal(f"uts={tmp_path}") == (
        125,
        f"{cannot}: {tmp_path}: exists, and is not a regular file\n",
    )
    assert refusal("what=/x")[0] == 2
    assert refusal("uts") == (2, "pyspaces: --keep: 'uts' is not of the form NS=FILE\n")
    assert list(tmp_path.iterdir()) == []
    done = pyspaces("run", "--join=uts=/proc/1/ns/uts", f"--keep=uts={tmp_path}/x", "--", "true")
    assert done.returncode == 2
    assert "join: uts: --keep asks for a new one" in done.stderr


@pytest.mark.as_ordinary
@pytest.mark.needs("userns", "netns")
def test_without_root_a_hold_is_the_way(pyspaces: Run, tmp_path: Path) -> None:
    file = tmp_path / "file"
    for more in (["--user"], []):
        done = pyspaces("run", *more, f"--keep=net={file}", "--", "true")
        assert done.returncode == 125
        assert done.stderr == (
            f"pyspaces: cannot keep the net namespace: {file}: without CAP_SYS_ADMIN for this mount"
            " namespace nothing can be bound to it\n"
            "hint: only root binds a namespace to a file here; without root,"
            " `run --name NAME --hold` keeps one by a process\n"
        )
    assert not file.exists()


@pytest.mark.needs("userns", "netns")
def test_in_a_sandbox_of_ones_own_everybody_keeps(tmp_path: Path) -> None:
    done = within(f"""
        {SCRIPT} run --keep net={tmp_path}/net -- readlink /proc/self/ns/net
        {SCRIPT} enter {tmp_path}/net -- readlink /proc/self/ns/net
        {SCRIPT} drop {tmp_path}/net
        ls {tmp_path}
    """)
    first, second = done.stdout.splitlines()
    assert first == second
    assert first.startswith("net:[")


@pytest.mark.needs("userns")
def test_a_mount_namespace_is_kept_by_luck_or_by_another_try(tmp_path: Path) -> None:
    """Linux 6.18 refuses about every second one that is bound from a later mount namespace."""
    done = within(f"""
        mount --bind {tmp_path} {tmp_path}; mount --make-private {tmp_path}
        for i in 1 2 3 4; do
            {SCRIPT} run --mount --keep mount={tmp_path}/file -- readlink /proc/self/ns/mnt
            {SCRIPT} enter --mount-file {tmp_path}/file -- readlink /proc/self/ns/mnt
            {SCRIPT} drop {tmp_path}/file
        done
    """)
    lines = done.stdout.splitlines()
    assert (len(lines), done.stderr) == (8, "")
    assert lines[0::2] == lines[1::2]


@pytest.mark.needs("userns")
def test_a_mount_namespace_on_a_shared_mount(tmp_path: Path) -> None:
    done = within(f"""
        mount --bind {tmp_path} {tmp_path}; mount --make-shared {tmp_path}
        {SCRIPT} run --mount --keep mount={tmp_path}/file -- true
    """)
    assert done.returncode == 125
    assert done.stderr == (
        f"pyspaces: cannot keep the namespaces: mount {tmp_path}/file: Invalid argument\n"
        "hint: the file of a mount namespace must be on a private mount, and this one is"
        f" shared; run: mount --bind {tmp_path} {tmp_path} && mount --make-private {tmp_path}\n"
    )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.as_root
@pytest.mark.needs("netns")
def test_drop_looks_at_all_before_it_releases_one(pyspaces: Run, tmp_path: Path) -> None:
    kept, plain, link = (tmp_path / name for name in ("kept", "plain", "link"))
    assert pyspaces("run", f"--keep=net={kept}", "--", "true").returncode == 0
    plain.touch()
    link.symlink_to(kept)
    try:
        for path, why in (
            (plain, "no namespace is kept there"),
            (link, "no namespace is kept there"),
            (tmp_path / "none", "there is no such file"),
        ):
            done = pyspaces("drop", str(kept), str(path))
            assert (done.returncode, done.stderr) == (
                125,
                f"pyspaces: cannot drop {path}: {why}\n",
            )
            assert mounts_below(tmp_path) == [str(kept)]
        # Twice bound is twice released; the name may be relative.
        subprocess.run(["mount", "--bind", "/proc/self/ns/uts", str(kept)], check=True)
    finally:
        assert pyspaces("drop", "kept", cwd=tmp_path).returncode == 0
    assert mounts_below(tmp_path) == []
    assert not kept.exists()


@pytest.mark.as_root
@pytest.mark.needs("netns")
def test_a_file_that_is_given_twice_is_dropped_once(pyspaces: Run, tmp_path: Path) -> None:
    files = [tmp_path / "one", tmp_path / "two"]
    for file in files:
        assert pyspaces("run", "--keep", f"net={file}", "--", "true").returncode == 0
    done = pyspaces("drop", "one", "./one", "one", "two", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert not any(file.exists() for file in files)


@pytest.mark.as_ordinary
def test_drop_without_the_right_says_so(pyspaces: Run, tmp_path: Path) -> None:
    assert pyspaces("drop").returncode == 2
    done = pyspaces("drop", "/proc/self/ns/net")
    assert (done.returncode, done.stderr) == (
        125,
        "pyspaces: cannot drop /proc/self/ns/net: no namespace is kept there\n",
    )
    closed = tmp_path / "closed"
    closed.mkdir(mode=0)
    for path in (closed / "net", closed / "beneath" / "net"):
        done = pyspaces("drop", str(path))
        assert (done.returncode, done.stderr) == (
            125,
            f"pyspaces: cannot drop {path}: Permission denied\n",
        )


@pytest.mark.needs("userns")
def test_without_a_fork_a_helper_keeps(tmp_path: Path) -> None:
    done = within(f"""
        {SCRIPT} run -F --keep uts={tmp_path}/uts --hostname kept -- readlink /proc/self/ns/uts
        {SCRIPT} enter {tmp_path}/uts -- readlink /proc/self/ns/uts
        {SCRIPT} enter {tmp_path}/uts -- uname -n
        {SCRIPT} drop {tmp_path}/uts
        {SCRIPT} run -F --keep uts={tmp_path}/uts -- /nonexistent || echo $?
        {SCRIPT} run -F --keep uts={tmp_path}/uts --workdir /nonexistent -- true || echo $?
        ls {tmp_path}
    """)
    first, second, *rest = done.stdout.splitlines()
    assert (first, rest) == (second, ["kept", "127", "125"]), done.stderr


@pytest.mark.needs("userns")
def test_check_says_what_cannot_be_kept(pyspaces: Run, tmp_path: Path) -> None:
    done = pyspaces("check", "--user", f"--keep=uts={tmp_path}/file", "--name=nobody-takes-this")
    assert done.returncode == (0 if IS_ROOT else 1)
    assert ("only root binds a namespace to a file here" in done.stdout) != IS_ROOT
    assert list(tmp_path.iterdir()) == []
    done = pyspaces("check", "--user", "--name=nobody-takes-this", "--hold")
    assert (done.returncode, done.stdout[:10]) == (0, "launch yes")
