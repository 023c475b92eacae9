"""The same trees with and without mount_setattr(2), which kernels have since Linux 5.12."""

from __future__ import annotations

import pytest
from conftest import SCRIPT, outcome, without

OPEN_TREE, FSOPEN, OPENAT2, MOUNT_SETATTR = 428, 430, 437, 442

pytestmark = pytest.mark.needs("userns", "unshare", "overlay")

# Before each launch: mounts beneath a directory, with flags that a user namespace locks.
AROUND = """
mount -t tmpfs none /mnt; mkdir -p /mnt/src/sub /mnt/src/dev /mnt/over
mkdir /mnt/to /mnt/to1 /mnt/to2 /mnt/to3 /mnt/to4 /mnt/to5 /mnt/to6
echo text > /mnt/src/file; echo over > /mnt/over/file
mount -t tmpfs -o nosuid,noexec,noatime none /mnt/src/sub; echo deep > /mnt/src/sub/deep
mkdir /mnt/src/sub/more; mount -t tmpfs -o nodev,nosuid none /mnt/src/sub/more
"""
LOOK = """
find /mnt /to 2>/dev/null | sort
for p in /mnt/to* /mnt/to*/sub /mnt/to*/sub/more /tmp /usr /mnt/src; do
    if touch $p/pyspaces.$$ 2>/dev/null; then echo $p written; rm $p/pyspaces.$$; fi
done
cat /mnt/to*/file /mnt/to*/sub/deep 2>/dev/null
awk '{flags[$5] = $6} END {for (p in flags) print p, flags[p]}' /proc/self/mountinfo |
    while read point flags; do if test -e $point; then echo $point $flags; fi; done | sort
"""
LAYERS = ["--overlay-src", "/mnt/over", "--overlay-src", "/mnt/to"]
TREES = {
    "operations": [
        *("--bind", "/mnt/src", "/mnt/to1", "--ro-bind", "/mnt/src", "/mnt/to2"),
        *("--dev-bind", "/mnt/src", "/mnt/to3"),
        *("--bind", "/mnt/src", "/mnt/to4", "--remount-ro", "/mnt/to4"),
        *(*LAYERS, "--tmp-overlay", "/mnt/to5", *LAYERS, "--ro-overlay", "/mnt/to6"),
    ],
    "data and masks": [
        *("--ro-bind-data", "0", "/mnt/over/file"),
        *("--mask", "/mnt/src/f*", "--mask", "/mnt/src/sub", "--bind", "/mnt/src", "/mnt/to1"),
        *("--bind", "/mnt/over", "/mnt/to2"),
    ],
    "the root on itself": ["--ro-bind", "/", "/", "--tmpfs", "/tmp"],
    "read-only with holes": ["--read-only", "--tmpfs", "/tmp", "--bind", "/mnt/src", "/mnt/to1"],
    "an empty root": ["--empty-root", "--host-ro", "--ro-bind", "/mnt/src", "/mnt/to"],
    "throwaway": ["--throwaway"],
}  # fmt: skip


def tree(options: list[str], *lacking: int, look: str = LOOK) -> tuple[int, str, str]:
    """Return what a command sees: its exit status, output and errors."""
    words = [*without(*lacking), SCRIPT, "run", "--user", *options, "--", "sh", "-c", look]
    done = outcome(
        ["unshare", "-Urm", "sh", "-ec", f'{AROUND} exec "$@"', "sh", *words], input="given\n"
    )
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize("name", TREES)
def test_the_same_tree(name: str) -> None:
    with_all = tree(TREES[name])
    assert with_all[0] == 0, with_all[2]
    assert with_all[1]
    assert tree(TREES[name], MOUNT_SETATTR) == with_all


@pytest.mark.parametrize(
    ("lacking", "said"),
    [
        (OPEN_TREE, "cannot bind /mnt/src on /mnt/to: open_tree: Function not implemented\n"),
        (
            OPENAT2,
            "cannot bind /mnt/src on /mnt/to: openat2 /mnt/to: Function not implemented\n"
            "hint: a seccomp filter refuses openat2 for this process, as in containers:"
            " start the container with --security-opt seccomp=unconfined\n",
        ),
        (FSOPEN, "cannot mount a tmpfs on /tmp, mode 0755: mount /tmp: Function not implemented\n"),
    ],
)
def test_what_no_operation_can_do_without(lacking: int, said: str) -> None:
    """All of these are in Linux since 5.6."""
    options = ["--bind", "/mnt/src", "/mnt/to", "--tmpfs", "/tmp"]
    assert tree(options, lacking) == (125, "", f"pyspaces: {said}")


@pytest.mark.parametrize("lacking", [(), (MOUNT_SETATTR,)], ids=str)
def test_every_mount_beneath_is_read_only_and_keeps_locked_flags(lacking: tuple[int, ...]) -> None:
    """mount_namespaces(7): a remount that leaves a locked flag out is EPERM."""
    look = "awk '$5 == \"/mnt/to/sub\" {print $6}' /proc/self/mountinfo;"
    look += " for p in /mnt/to /mnt/to/sub /mnt/to/sub/more; do touch $p/x; done; true"
    code, told, errors = tree(["--ro-bind", "/mnt/src", "/mnt/to"], *lacking, look=look)
    assert (code, errors.count("Read-only file system")) == (0, 3)
    assert set(told.strip().split(",")) == {"ro", "nosuid", "nodev", "noexec", "noatime"}
