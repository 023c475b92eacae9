"""A failure, or death, at each operation: said, and nothing is left anywhere."""

from __future__ import annotations

import contextlib
import errno
import os
import random
import signal
import subprocess
import time
from pathlib import Path

import pytest
from conftest import SCRIPT, outcome, processes_with, without

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

MOUNT = {"x86_64": 165, "aarch64": 40}.get(os.uname().machine, 0)

pytestmark = pytest.mark.needs("userns", "overlay")

OPERATIONS = {
    "bind /usr on /mnt": ["--bind", "/usr", "/mnt"],
    "bind /usr on /mnt, read-only": ["--ro-bind", "/usr", "/mnt"],
    "bind descriptor 0 on /etc/passwd": ["--bind-fd", "0", "/etc/passwd"],
    "mount a tmpfs on /mnt": ["--tmpfs", "/mnt"],
    "make a new /dev on /dev": ["--dev", "/dev"],
    "mount a new /proc on /mnt": ["--pid", "--no-mount-proc", "--proc", "/mnt"],
    "mount a new sysfs on /mnt": ["--net", "--sysfs", "/mnt"],
    "mount a new mqueue on /mnt": ["--ipc", "--mqueue", "/mnt"],
    "mask /mnt": ["--mask", "/mnt"],
    "mask /etc/passwd": ["--mask", "/etc/passwd"],
    "bind the data of descriptor 0 on /etc/hostname": ["--bind-data", "0", "/etc/hostname"],
    "make everything in / read-only": ["--read-only", "--proc-open"],
    "make the mount / read-only": ["--remount-ro", "/"],
    "lay changes in memory over /usr on /mnt": ["--overlay-src", "/usr", "--tmp-overlay", "/mnt"],
    "lay /usr over /etc on /mnt, read-only": [
        *("--overlay-src", "/etc", "--overlay-src", "/usr", "--ro-overlay", "/mnt")
    ],
}
# Of each: the calls without which it cannot be done, new and old.
CALLS = {"open_tree": 428, "move_mount": 429, "mount_setattr": 442, "openat2": 437}


@pytest.mark.anyone
@pytest.mark.crossed(1)
@pytest.mark.parametrize("call", [*CALLS, "mount"])
@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_call_that_is_refused(operation: str, call: str) -> None:
    """Either it is not needed, or the error names the operation; a filter may refuse anything."""
    number = CALLS.get(call, MOUNT)
    before = Path("/proc/self/mountinfo").read_text()
    words = [*without(number, answer=errno.EIO), SCRIPT, "run", "--user"]
    words += [*OPERATIONS[operation], "--", "echo", "ran"]
    with open("/etc/hostname") as given:
        done = outcome(words, stdin=given)
    if done.returncode == 0:
        assert (done.stdout, done.stderr) == ("ran\n", "")
    else:
        assert (done.returncode, done.stdout) == (125, "")
        assert done.stderr.startswith("pyspaces: cannot ")
        assert "Input/output error" in done.stderr
        assert "Traceback" not in done.stderr
        if call != "mount":  # which the root itself needs, before any operation
            assert f"cannot {operation}" in done.stderr
    assert Path("/proc/self/mountinfo").read_text() == before


def test_each_call_is_needed_by_some_operation() -> None:
    """Or the test above would show nothing."""
    for call, number in CALLS.items():
        words = [*without(number, answer=errno.EIO), SCRIPT, "run", "--user"]
        words += ["--ro-bind", "/usr", "/mnt", "--", "true"]
        done = subprocess.run(words, capture_output=True, check=False, timeout=60)
        assert done.returncode == 125, call


@pytest.mark.as_root
@pytest.mark.parametrize("call", ["open_tree", "move_mount", "mount_setattr"])
def test_a_proc_that_cannot_be_closed_ends_the_launch(call: str) -> None:
    words = [*without(CALLS[call], answer=errno.EIO), SCRIPT, "run", "--mount", "--cap-drop", "all"]
    done = outcome([*words, "--", "true"])
    assert done.returncode == 125
    assert done.stderr.startswith("pyspaces: cannot protect the host's settings in /proc: ")


def reader_of(token: str, launcher: int) -> int:
    """Return the process of a launch that waits in a read of a pipe; 0 if there is none."""
    for pid in set(processes_with(token)) - {launcher}:
        with contextlib.suppress(OSError):
            if "pipe_read" in Path(f"/proc/{pid}/wchan").read_text():
                return pid
    return 0


@pytest.mark.parametrize("killed", ["the launcher", "the child"])
def test_death_in_the_middle_of_an_operation(
    tmp_path: Path, killed: str, wait_until: Callable[..., None]
) -> None:
    """A pipe whose writer never writes holds the child in --file, with mounts all around it."""
    before = Path("/proc/self/mountinfo").read_text()
    reading, writing = os.pipe()
    token = str(tmp_path / "token")
    words = [SCRIPT, "run", "--user", "--host-ro", "--overlay-src", "/usr", "--tmp-overlay", "/usr"]
    words += ["--tmpfs", "/tmp", "--file", str(reading), "/tmp/f", "--", "true", token]
    with subprocess.Popen(words, pass_fds=[reading], stderr=subprocess.PIPE, text=True) as launcher:
        try:
            wait_until(lambda: reader_of(token, launcher.pid), "a child reads the pipe")
            child = reader_of(token, launcher.pid)
            os.kill(launcher.pid if killed == "the launcher" else child, signal.SIGKILL)
            _, errors = launcher.communicate(timeout=60)
        finally:
            launcher.kill()
    os.close(reading)
    os.close(writing)
    wait_until(lambda: not processes_with(token), "everybody gone")
    assert launcher.returncode == (-9 if killed == "the launcher" else 125)
    if killed == "the child":
        assert "write descriptor" in errors, "where it was is said"
    assert Path("/proc/self/mountinfo").read_text() == before


@pytest.mark.parametrize("times", [5, pytest.param(60, marks=pytest.mark.stress)])
def test_many_launches_killed_at_any_moment_leave_nothing(
    tmp_path: Path, wait_until: Callable[..., None], times: int
) -> None:
    before = Path("/proc/self/mountinfo").read_text()
    inside = sorted(os.listdir("/mnt"))
    token = str(tmp_path / "token")
    words = [SCRIPT, "run", "--user", "--pid", "--throwaway", "--tmpfs", "/mnt", "--dir", "/mnt/d"]
    chance = random.Random(6)
    for _ in range(times):
        launcher = subprocess.Popen([*words, "--", "true", token], stderr=subprocess.DEVNULL)
        time.sleep(chance.uniform(0.0, 0.12))
        launcher.kill()
        launcher.wait()
    wait_until(lambda: not processes_with(token), "everybody gone")
    assert Path("/proc/self/mountinfo").read_text() == before
    assert sorted(os.listdir("/mnt")) == inside


def test_a_tree_that_fills_the_table_of_descriptors(tmp_path: Path) -> None:
    """Each source is held open: a limit that is too low is said, and by which operation."""
    words = [
        "sh",
        "-c",
        'ulimit -n 40; exec "$@"',
        "sh",
        SCRIPT,
        "run",
        "--user",
        "--tmpfs",
        "/mnt",
    ]
    for index in range(60):
        words += ["--ro-bind", "/usr", f"/mnt/{index}"]
    done = outcome([*words, "--", "echo", "ran"])
    assert (done.returncode, done.stdout) == (125, "")
    assert "bind /usr on /mnt/" in done.stderr
    assert "Too many open files" in done.stderr
