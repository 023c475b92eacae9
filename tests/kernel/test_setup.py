"""Set-up that belongs to the namespaces themselves, on the real kernel."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import SCRIPT, outcome

TYPE_CHECKING = False
if TYPE_CHECKING:
    from conftest import Run

pytestmark = pytest.mark.needs("userns")
LINKS = ("sh", "-c", "cd /proc/self/ns; for name in *; do echo $name $(readlink $name); done")


def own_namespaces() -> dict[str, str]:
    return {name: os.readlink(f"/proc/self/ns/{name}") for name in os.listdir("/proc/self/ns")}


def changed(done: subprocess.CompletedProcess[str]) -> set[str]:
    assert done.returncode == 0, done.stderr
    inside = dict(line.split() for line in done.stdout.splitlines())
    return {name for name, link in own_namespaces().items() if inside[name] != link}


@pytest.mark.parametrize(
    ("option", "links"),
    [
        ("--user", {"user"}),
        ("--pid", {"user", "pid", "pid_for_children"}),
        ("--net", {"user", "net"}),
        ("--mount", {"user", "mnt"}),
        ("--uts", {"user", "uts"}),
        ("--ipc", {"user", "ipc"}),
        ("--cgroup", {"user", "cgroup"}),
        ("--time", {"user", "time", "time_for_children"}),
    ],
)
def test_each_flag_makes_its_namespace_and_no_other(
    pyspaces: Run, option: str, links: set[str]
) -> None:
    assert changed(pyspaces("run", "--user", option, "--", *LINKS)) == links


@pytest.mark.as_root
def test_root_needs_no_user_namespace(pyspaces: Run) -> None:
    links = changed(pyspaces("run", *["-p", "-n", "-m", "-u", "-i", "-C", "-T"], "--", *LINKS))
    assert links == set(own_namespaces()) - {"user"}


def test_all_is_every_namespace_of_this_kernel(pyspaces: Run) -> None:
    done = pyspaces("run", "--all", "--", *LINKS)
    assert changed(done) == set(own_namespaces())


def test_share_takes_out_of_all(pyspaces: Run) -> None:
    done = pyspaces("run", "--all", "--share", "net,ipc", "--share", "uts", "--", *LINKS)
    assert changed(done) == set(own_namespaces()) - {"net", "ipc", "uts"}


@pytest.mark.needs("pidns")
def test_the_command_is_pid_1(pyspaces: Run) -> None:
    done = pyspaces("run", "--user", "--pid", "--", "sh", "-c", "echo $$ $(id -u)")
    assert done.stdout == "1 0\n"


@pytest.mark.needs("proc")
def test_pid_and_mount_bring_a_fresh_proc(pyspaces: Run) -> None:
    done = pyspaces("run", "-Upm", "--", "sh", "-c", "ls -d /proc/[0-9]*; readlink /proc/self")
    assert "/proc/1\n" in done.stdout
    assert len(done.stdout.splitlines()) <= 3


def test_without_a_fresh_proc_the_host_shows_through(pyspaces: Run) -> None:
    done = pyspaces("run", "-Upm", "--no-mount-proc", "--", "ls", "/proc")
    assert str(os.getpid()) in done.stdout.split()


@pytest.mark.needs("proc")
def test_mount_proc_implies_its_namespaces(pyspaces: Run) -> None:
    done = pyspaces("run", "--user", "--mount-proc", "--", *LINKS)
    assert changed(done) == {"user", "mnt", "pid", "pid_for_children"}


@pytest.mark.needs("proc", "mount")
def test_a_covered_proc_forbids_a_fresh_one_and_is_named(pyspaces: Run) -> None:
    """What container runtimes do to /proc, done with a mount."""
    inner = f"mount -t tmpfs none /proc/scsi && {SCRIPT} run --user --pid --mount true"
    if not Path("/proc/scsi").is_dir():
        inner = inner.replace("/proc/scsi", "/proc/sys")
    done = pyspaces("run", "-Upm", "--", "sh", "-c", inner)
    assert done.returncode == 125
    assert "cannot mount a new /proc: mount /proc: Operation not permitted" in done.stderr
    assert "hint: parts of /proc are covered here (/proc/s" in done.stderr
    done = pyspaces("run", "-Upm", "--", "sh", "-c", inner.replace("true", "--no-mount-proc true"))
    assert done.returncode == 0, done.stderr


def test_hostname_and_domainname(pyspaces: Run) -> None:
    before = os.uname().nodename
    done = pyspaces(
        "run", "--user", "--hostname", "box", "--domainname", "example.net", "--",
        "cat", "/proc/sys/kernel/hostname", "/proc/sys/kernel/domainname",
    )  # fmt: skip
    assert done.stdout.splitlines() == ["box", "example.net"]
    assert os.uname().nodename == before


def test_a_hostname_of_64_bytes_is_the_longest(pyspaces: Run) -> None:
    assert pyspaces("run", "--user", "--hostname", "x" * 64, "hostname").stdout == "x" * 64 + "\n"
    done = pyspaces("run", "--user", "--hostname", "x" * 65, "true")
    assert done.returncode == 2
    assert "has 65 bytes; the kernel takes 64" in done.stderr


def uptime(text: str) -> float:
    return float(text.split(maxsplit=1)[0])


@pytest.mark.needs("timens")
@pytest.mark.parametrize("offset", ["1234.5", "-0.25"])
def test_boottime_moves_the_uptime(pyspaces: Run, offset: str) -> None:
    before = time.clock_gettime(time.CLOCK_BOOTTIME)
    done = pyspaces("run", "--user", "--time", "--boottime", offset, "--", "cat", "/proc/uptime")
    after = time.clock_gettime(time.CLOCK_BOOTTIME)
    # /proc/uptime is cut to hundredths.
    assert before - 0.01 <= uptime(done.stdout) - float(offset) <= after


@pytest.mark.needs("timens")
def test_monotonic_moves_without_boottime(pyspaces: Run) -> None:
    script = "import time; print(time.monotonic(), time.clock_gettime(time.CLOCK_BOOTTIME))"
    before = time.clock_gettime(time.CLOCK_MONOTONIC), time.clock_gettime(time.CLOCK_BOOTTIME)
    done = pyspaces(
        "run", "--user", "--monotonic", "5000.5", sys.executable, "-I", "-S", "-c", script
    )
    monotonic, boottime = map(float, done.stdout.split())
    assert 0 <= monotonic - 5000.5 - before[0] < 60
    assert 0 <= boottime - before[1] < 60


@pytest.mark.needs("timens")
def test_a_clock_cannot_be_negative(pyspaces: Run) -> None:
    done = pyspaces("run", "--user", "--boottime", "-999999999", "true")
    assert done.returncode == 125
    assert "write /proc/self/timens_offsets: Numerical result out of range" in done.stderr
    assert "hint: inside, a clock cannot be negative" in done.stderr


@pytest.mark.as_root
@pytest.mark.needs("timens")
def test_clocks_work_for_a_mapped_user_who_is_not_root_outside(pyspaces: Run) -> None:
    done = pyspaces(
        "run", "-M", "0,1000,1", "-G", "0,1000,1", "-w", "/", "--boottime", "864000",
        "cat", "/proc/uptime",
    )  # fmt: skip
    assert uptime(done.stdout) > 864000, done.stderr


_PING = """
import socket
server = socket.create_server(("127.0.0.1", 0))
print(socket.create_connection(server.getsockname(), timeout=60).getpeername()[0])
"""


@pytest.mark.needs("netns")
def test_loopback_works(pyspaces: Run) -> None:
    done = pyspaces("run", "--user", "--net", "--", sys.executable, "-I", "-S", "-c", _PING)
    assert done.stdout == "127.0.0.1\n", done.stderr


@pytest.mark.needs("netns")
def test_loopback_can_be_left_down(pyspaces: Run) -> None:
    done = pyspaces(
        "run", "--user", "--net", "--no-loopback", "--", sys.executable, "-I", "-S", "-c", _PING
    )
    assert "Network is unreachable" in done.stderr


def propagation(done: subprocess.CompletedProcess[str]) -> set[str]:
    """Return the optional fields of the mountinfo in `done`."""
    assert done.returncode == 0, done.stderr
    words = (line.partition(" - ")[0].split()[6:] for line in done.stdout.splitlines())
    return {word.split(":")[0] for fields in words for word in fields}


def test_mounts_are_private(pyspaces: Run) -> None:
    for options in (["--mount"], ["--propagation", "private"]):
        done = pyspaces("run", "--user", *options, "--", "cat", "/proc/self/mountinfo")
        assert propagation(done) == set()


def test_mounts_can_be_shared_among_those_inside(pyspaces: Run) -> None:
    done = pyspaces("run", "--user", "--propagation", "shared", "--", "cat", "/proc/self/mountinfo")
    # Where the host's are shared, they receive from these too.
    assert propagation(done) - {"master"} == {"shared"}


def test_slave_and_unchanged_start_from_the_callers_mounts(pyspaces: Run) -> None:
    """The kernel makes what was shared a slave in a mount namespace of another user namespace."""
    nested = f"{SCRIPT} run --user --propagation {{}} -- cat /proc/self/mountinfo"
    for word in ("slave", "unchanged"):
        done = pyspaces(
            "run", "--user", "--propagation", "shared", "--", "sh", "-c", nested.format(word)
        )
        assert propagation(done) == {"master"}


def test_a_mount_made_inside_is_not_seen_outside(pyspaces: Run, tmp_path: Path) -> None:
    done = pyspaces(
        "run", "--user", "--mount", "--", "sh", "-c",
        f"mount -t tmpfs none {tmp_path} && touch {tmp_path}/file && ls {tmp_path}",
    )  # fmt: skip
    assert done.stdout == "file\n", done.stderr
    assert list(tmp_path.iterdir()) == []


def test_workdir(pyspaces: Run, tmp_path: Path) -> None:
    done = pyspaces("run", "--user", "-w", str(tmp_path), "--", "pwd")
    assert done.stdout == f"{tmp_path}\n"
    done = pyspaces("run", "--user", "--workdir", f"{tmp_path}/missing", "true")
    assert done.returncode == 125
    assert (
        f"cannot change to the working directory: {tmp_path}/missing: No such file" in done.stderr
    )


def test_without_workdir_the_callers_directory_stays(pyspaces: Run, tmp_path: Path) -> None:
    assert pyspaces("run", "--user", "pwd", cwd=tmp_path).stdout == f"{tmp_path}\n"


@pytest.mark.as_root
@pytest.mark.needs("mount")
@pytest.mark.parametrize("word", ["shared", "unchanged"])
def test_a_fresh_proc_never_covers_the_hosts(word: str) -> None:
    """Under a shared /, as systemd leaves it, and without a user namespace to cut it off."""
    script = f"""
        mount --make-rshared / &&
        {SCRIPT} run --mount --pid --propagation {word} -- readlink /proc/self &&
        grep -c ' /proc ' /proc/self/mountinfo
    """
    done = outcome(["unshare", "--mount", "sh", "-c", script])
    assert done.stdout.split() == ["1", "1"], done.stderr
