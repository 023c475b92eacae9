"""The same trees with and without the calls that take descriptors: older kernels, and filters."""

from __future__ import annotations

import subprocess

import pytest
from conftest import SCRIPT, without

OPEN_TREE, FSOPEN, MOUNT_SETATTR = 428, 430, 442
LACKING = {
    "open_tree": [OPEN_TREE],
    "mount_setattr": [MOUNT_SETATTR],
    "fsopen": [FSOPEN],
    "both": [OPEN_TREE, MOUNT_SETATTR],
    "all three": [OPEN_TREE, FSOPEN, MOUNT_SETATTR],
}

pytestmark = pytest.mark.needs("userns", "unshare", "overlay")

# Before each launch: mounts beneath a folder, with flags that a user namespace locks.
AROUND = """
mount -t tmpfs none /mnt; mkdir -p /mnt/src/sub /mnt/src/dev /mnt/to /mnt/over
echo text > /mnt/src/file; echo over > /mnt/over/file
mount -t tmpfs -o nosuid,noexec,noatime none /mnt/src/sub; echo deep > /mnt/src/sub/deep
mkdir /mnt/src/sub/more; mount -t tmpfs -o nodev,nosuid none /mnt/src/sub/more
"""
LOOK = """
find /mnt /to 2>/dev/null | sort
for p in /mnt/to /mnt/to/sub /mnt/to/sub/more /tmp /usr /mnt/src; do
    if touch $p/pyspaces.$$ 2>/dev/null; then echo $p written; rm $p/pyspaces.$$; fi
done
cat /mnt/to/file /mnt/to/sub/deep 2>/dev/null
awk '{flags[$5] = $6} END {for (p in flags) print p, flags[p]}' /proc/self/mountinfo |
    while read point flags; do if test -e $point; then echo $point $flags; fi; done | sort
"""
LAYERS = ["--overlay-src", "/mnt/over", "--overlay-src", "/mnt/to"]
TREES = {
    "bind": ["--bind", "/mnt/src", "/mnt/to"],
    "ro-bind": ["--ro-bind", "/mnt/src", "/mnt/to"],
    "dev-bind": ["--dev-bind", "/mnt/src", "/mnt/to"],
    "the root on itself": ["--ro-bind", "/", "/", "--tmpfs", "/tmp"],
    "read-only with holes": ["--read-only", "--tmpfs", "/tmp", "--bind", "/mnt/src", "/mnt/to"],
    "remount-ro": ["--bind", "/mnt/src", "/mnt/to", "--remount-ro", "/mnt/to"],
    "tmp-overlay": [*LAYERS, "--tmp-overlay", "/mnt/to"],
    "ro-overlay": [*LAYERS, "--ro-overlay", "/mnt/to"],
    "mask": ["--mask", "/mnt/src/f*", "--mask", "/mnt/src/sub", "--bind", "/mnt/src", "/mnt/to"],
    "data": ["--ro-bind-data", "0", "/mnt/src/file", "--bind", "/mnt/src", "/mnt/to"],
    "an empty root": ["--empty-root", "--host-ro", "--ro-bind", "/mnt/src", "/mnt/to"],
    "throwaway": ["--throwaway"],
}  # fmt: skip


def tree(options: list[str], lacking: list[int], look: str = LOOK) -> tuple[int, str, str]:
    """Return what a command sees: its exit status, output and errors."""
    words = [*without(*lacking), SCRIPT, "run", "--user", *options, "--", "sh", "-c", look]
    done = subprocess.run(
        ["unshare", "-Urm", "sh", "-ec", f'{AROUND} exec "$@"', "sh", *words],
        input="given\n", capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize("name", TREES)
def test_the_same_tree(name: str) -> None:
    with_all = tree(TREES[name], [])
    assert with_all[0] == 0, with_all[2]
    assert with_all[1]
    for lacking in LACKING.values():
        assert tree(TREES[name], lacking) == with_all


@pytest.mark.parametrize("lacking", LACKING)
def test_every_mount_beneath_is_read_only(lacking: str) -> None:
    look = "for p in /mnt/to /mnt/to/sub /mnt/to/sub/more; do touch $p/x; done"
    told = tree(["--ro-bind", "/mnt/src", "/mnt/to"], LACKING[lacking], look)
    assert told[2].count("Read-only file system") == 3


@pytest.mark.parametrize("lacking", LACKING)
def test_locked_flags_are_repeated(lacking: str) -> None:
    """mount_namespaces(7): a remount that leaves one out is EPERM."""
    look = "awk '$5 == \"/mnt/to/sub\" {print $6}' /proc/self/mountinfo"
    code, told, errors = tree(["--ro-bind", "/mnt/src", "/mnt/to"], LACKING[lacking], look)
    assert (code, errors) == (0, "")
    assert set(told.strip().split(",")) == {"ro", "nosuid", "nodev", "noexec", "noatime"}
