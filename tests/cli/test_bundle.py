"""`run --bundle`: bundles that crun and umoci have made."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
from conftest import outcome

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from conftest import Run

BUSYBOX = "/bin/busybox"
LOOK = (
    "hostname; id -u; pwd; ulimit -n; grep CapBnd /proc/self/status; echo $$; env | sort;"
    " grep -c : /proc/net/dev; echo x > /never || echo read-only; ls /dev /sys/firmware"
)


def fill(root: Path) -> None:
    for name in ("bin", "dev", "proc", "sys", "tmp", "etc"):
        (root / name).mkdir(parents=True, exist_ok=True)
    (root / "etc/resolv.conf").touch()
    shutil.copy(BUSYBOX, root / "bin/busybox")
    for name in ("sh", "id", "env", "ls", "grep", "sort", "hostname", "pwd", "mkdir", "uname"):
        if not (root / "bin" / name).exists():
            (root / "bin" / name).symlink_to("busybox")


def changed(place: Path, change: Callable[[dict[str, Any]], None]) -> None:
    file = place / "config.json"
    data = json.loads(file.read_text())
    change(data)
    file.write_text(json.dumps(data))


@pytest.mark.needs("userns", "pidns", "netns", "crun", "busybox")
def test_a_bundle_of_crun(pyspaces: Run, tmp_path: Path) -> None:
    outcome(["crun", "spec", "--rootless"], cwd=tmp_path, check=True)
    fill(tmp_path / "rootfs")
    bundle = ("run", "--bundle", str(tmp_path))
    done = pyspaces(*bundle, "--", "sh", "-c", LOOK)
    assert done.stderr.splitlines()[0].endswith("a cgroup on /sys/fs/cgroup is left out")
    rows = done.stdout.splitlines()
    assert rows[:4] == ["crun", "0", "/", "1024"]
    # CAP_AUDIT_WRITE, CAP_KILL and CAP_NET_BIND_SERVICE.
    assert rows[4].split() == ["CapBnd:", f"{1 << 29 | 1 << 5 | 1 << 10:016x}"]
    assert rows[5] == "1"
    assert "TERM=xterm" in rows
    assert not any(row.startswith("HOME=") for row in rows)
    assert rows[rows.index("read-only") - 1] == "1"
    assert not (tmp_path / "rootfs/never").exists()
    assert {"null", "pts", "shm", "mqueue"} <= set(rows)
    assert rows[rows.index("/sys/firmware:") + 1 :] == []
    # The command line counts more, and so does a profile.
    (tmp_path / "p.toml").write_text("hostname = 'profile'\nsetenv = {A = 'b'}")
    more = ("--profile", str(tmp_path / "p.toml"), "--workdir", "/tmp")
    done = pyspaces(*bundle, *more, "--", "sh", "-c", "hostname; pwd; echo $A")
    assert done.stdout.splitlines() == ["profile", "/tmp", "b"]

    def with_filter(data: dict[str, Any]) -> None:
        data["process"]["args"] = ["sh", "-c", "mkdir /tmp/x || uname"]
        data["linux"]["seccomp"] = {
            "defaultAction": "SCMP_ACT_ALLOW",
            "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO"}],
        }
        data["root"]["readonly"] = False

    changed(tmp_path, with_filter)
    done = pyspaces(*bundle)
    assert done.stdout == "Linux\n"
    assert "Operation not permitted" in done.stderr
    assert not (tmp_path / "rootfs/tmp/x").exists()
    # A dry run says the same, without click's help.
    shown = json.loads(pyspaces(*bundle, "--dry-run", "--json").stdout)
    assert shown["seccomp"]["profile"] == str(tmp_path / "config.json")


@pytest.mark.needs("userns", "pidns", "umoci", "busybox")
def test_a_bundle_of_umoci(pyspaces: Run, tmp_path: Path) -> None:
    fill(tmp_path / "tree")
    image = str(tmp_path / "layout") + ":a"
    shown = [f"--config.cmd={word}" for word in ("sh", "-c", "pwd; echo $A; id -u; uname -n")]
    for words in (
        ("init", "--layout", str(tmp_path / "layout")),
        ("new", "--image", image),
        ("insert", "--rootless", "--image", image, str(tmp_path / "tree"), "/"),
        ("config", "--image", image, "--config.workingdir", "/bin", "--config.env", "A=b", *shown),
        ("unpack", "--rootless", "--image", image, str(tmp_path / "bundle")),
    ):
        done = outcome(["umoci", *words], env={"HOME": str(tmp_path), "PATH": os.defpath})
        assert done.returncode == 0, done.stderr
    done = pyspaces("run", "--bundle", str(tmp_path / "bundle"))
    assert (done.stdout.splitlines(), done.stderr) == (["/bin", "b", "0", "umoci-default"], "")
    (tmp_path / "bundle/rootfs/proc").rmdir()
    done = pyspaces("run", "--bundle", str(tmp_path / "bundle"))
    assert done.returncode == 2
    assert f"not in {tmp_path}/bundle/rootfs: /proc: create what is missing, or add" in done.stderr
    assert not (tmp_path / "bundle/rootfs/proc").exists()
    (tmp_path / "p.toml").write_text("create-targets = true")
    for more in (["--create-targets"], ["--profile", str(tmp_path / "p.toml")]):
        done = pyspaces(
            "run", "--bundle", str(tmp_path / "bundle"), *more, "--", "ls", "/proc/1/ns"
        )
        assert (done.returncode, done.stderr) == (0, "")
        assert "user" in done.stdout.split()
        (tmp_path / "bundle/rootfs/proc").rmdir()


@pytest.mark.needs("userns", "pidns", "crun", "busybox")
def test_mount_points_are_created_in_what_a_bundle_binds_only_if_told_to(
    pyspaces: Run, tmp_path: Path
) -> None:
    outcome(["crun", "spec", "--rootless"], cwd=tmp_path, check=True)
    fill(tmp_path / "rootfs")
    (tmp_path / "rootfs/mnt").mkdir()
    (tmp_path / "bound").mkdir()

    def bind(data: dict[str, Any]) -> None:
        data["mounts"] += [
            {"destination": "/mnt", "type": "bind", "source": "bound", "options": ["rw"]},
            {"destination": "/mnt/new/inner", "type": "tmpfs"},
        ]

    changed(tmp_path, bind)
    bundle = ("run", "--bundle", str(tmp_path))
    look = ("--", "sh", "-c", "ls -d /mnt/new/inner")
    done = pyspaces(*bundle, *look)
    assert done.returncode == 125
    assert "add --create-targets, which leaves it on the host" in done.stderr
    assert not any((tmp_path / "bound").iterdir())
    done = pyspaces(*bundle, "--create-targets", *look)
    assert done.stdout == "/mnt/new/inner\n"
    assert (tmp_path / "bound/new/inner").is_dir()
