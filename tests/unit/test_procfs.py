"""/proc as it is read and written, from the real one."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import outcome
from hypothesis import given
from hypothesis import strategies as st

from pyspaces.kernel import mountinfo, procfs
from pyspaces.kernel.libc import KernelError


def python(script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run `script` in a process of its own."""
    return outcome(
        [sys.executable, "-c", script, *arguments],
        timeout=60,
        env={**os.environ, "PYTHONIOENCODING": "utf-8:surrogateescape"},
        encoding="utf-8",
        errors="surrogateescape",
    )


# --- read and write --------------------------------------------------------------------------


def test_read_gives_the_whole_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"x" * 200_000 + b"\xff\n")
    assert procfs.read(str(path)) == "x" * 200_000 + "\udcff\n"


def test_read_names_the_call_and_the_path(tmp_path: Path) -> None:
    with pytest.raises(KernelError) as caught:
        procfs.read(str(tmp_path / "no"))
    error = caught.value
    assert (error.errno, error.call, error.filename) == (errno.ENOENT, "open", f"{tmp_path}/no")
    with pytest.raises(KernelError) as caught:
        procfs.read(str(tmp_path))
    assert (caught.value.errno, caught.value.call) == (errno.EISDIR, "read")


def test_read_or_none(tmp_path: Path) -> None:
    (tmp_path / "file").write_text(" 1\n")
    assert procfs.read_or_none(str(tmp_path / "file")) == "1"
    assert procfs.read_or_none(str(tmp_path / "no")) is None


def test_write_once_is_one_write() -> None:
    """A pipe in packet mode shows each write(2) by itself."""
    reading, writing = os.pipe2(os.O_DIRECT)
    try:
        procfs.write_once(f"/proc/self/fd/{writing}", "0 1 1\n1 \udcff 1\n")
        assert os.read(reading, 100) == b"0 1 1\n1 \xff 1\n"
    finally:
        os.close(reading)
        os.close(writing)


def test_write_once_neither_creates_nor_hides(tmp_path: Path) -> None:
    with pytest.raises(KernelError) as caught:
        procfs.write_once(str(tmp_path / "no"), "x")
    assert (caught.value.errno, caught.value.call) == (errno.ENOENT, "open")
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(KernelError) as caught:
        procfs.write_once("/dev/full", "x")
    error = caught.value
    assert (error.errno, error.call, error.filename) == (errno.ENOSPC, "write", "/dev/full")
    assert error.arguments == ("x",)


@pytest.fixture
def _no_descriptor_left() -> Iterator[None]:
    before = set(os.listdir("/proc/self/fd"))
    yield
    assert set(os.listdir("/proc/self/fd")) == before


@pytest.mark.usefixtures("_no_descriptor_left")
def test_descriptors_are_closed_after_failures(tmp_path: Path) -> None:
    for _ in range(3):
        with pytest.raises(KernelError):
            procfs.write_once("/dev/full", "x")
        with pytest.raises(KernelError):
            procfs.read(str(tmp_path))
        procfs.read("/proc/self/status")


# --- facts about processes -------------------------------------------------------------------


def test_sysctl() -> None:
    assert procfs.sysctl("kernel.ostype") == "Linux"
    assert procfs.sysctl("kernel.there_is_no_such_thing") is None


def test_status_fields() -> None:
    assert procfs.status_field("self", "Pid") == str(os.getpid())
    assert procfs.status_field(os.getpid(), "PPid") == str(os.getppid())
    assert procfs.status_field("self", "NoSuchField") is None
    assert procfs.status_field(2**22 + 1, "Pid") is None


@pytest.mark.parametrize("blank", ["\f", "\v", "\x1c", "\r", "\n", "\x85", "\u2028"])
def test_the_name_of_a_process_is_no_field_of_its_status(blank: str) -> None:
    """A process chooses its own name, which stands first in the file."""
    script = (
        "import sys\n"
        "from pyspaces.kernel import procfs\n"
        "with open('/proc/self/comm', 'wb') as comm:\n"
        "    comm.write(sys.argv[1].encode() + b'PPid: 7')\n"
        "print(procfs.status_field('self', 'PPid'))\n"
    )
    done = python(script, blank)
    assert (done.returncode, done.stdout.strip()) == (0, str(os.getpid())), done.stderr


def test_capabilities_are_the_bits_of_the_status() -> None:
    effective = int(Path("/proc/self/status").read_text().split("CapEff:")[1].split()[0], 16)
    for number in range(64):
        assert procfs.has_capability(number) == bool(effective & 1 << number)


COUNT_THREADS = """
import threading
from pyspaces.kernel import procfs
release = threading.Event()
print(procfs.thread_count())
threads = [threading.Thread(target=release.wait) for _ in range(3)]
for thread in threads:
    thread.start()
print(procfs.thread_count())
release.set()
"""


def test_threads_are_counted() -> None:
    """In an interpreter of its own: threads that were joined may still be on their way out."""
    done = outcome([sys.executable, "-c", COUNT_THREADS])
    assert (done.stdout, done.stderr) == ("1\n4\n", "")


def test_id_maps_are_rows_of_numbers() -> None:
    for kind in ("uid_map", "gid_map"):
        lines = Path(f"/proc/self/{kind}").read_text().splitlines()
        rows = procfs.id_map(kind)
        assert rows == [tuple(int(field) for field in line.split()) for line in lines]
        assert procfs.id_map(kind, os.getpid()) == rows


def test_the_process_behind_a_pidfd() -> None:
    pidfd = os.pidfd_open(os.getpid())
    try:
        assert procfs.pid_of_pidfd(pidfd) == int(os.readlink("/proc/self"))
    finally:
        os.close(pidfd)


def test_a_descriptor_that_is_no_pidfd() -> None:
    with open(os.devnull) as file, pytest.raises(KernelError) as caught:
        procfs.pid_of_pidfd(file.fileno())
    assert caught.value.errno == errno.ESRCH


# --- mountinfo -------------------------------------------------------------------------------


def test_mount_points_are_those_of_mountinfo() -> None:
    points = list(mountinfo.mounts())
    assert ("/proc", "proc") in [(mount.point, mount.kind) for mount in points]
    with open("/proc/self/mountinfo", "rb") as file:
        assert len(points) == file.read().count(b"\n")


def escape(text: str) -> str:
    r"""Do what mangle() of the kernel does: \040-like escapes for blanks, backslash and #."""
    return "".join(f"\\{ord(char):03o}" if char in " \t\n\\#" else char for char in text)


@given(st.text(st.characters() | st.sampled_from(" \t\n\\#0147"), max_size=20))
def test_escapes_of_mountinfo_are_undone(path: str) -> None:
    assert mountinfo._unescape(escape(path)) == path


@pytest.mark.parametrize(
    ("field", "text"),
    [
        ("/plain", "/plain"),
        ("/a\\040b", "/a b"),
        ("/a\\040040", "/a 040"),
        ("\\134040", "\\040"),
        ("\\011\\012\\043", "\t\n#"),
    ],
)
def test_an_escape_is_three_digits(field: str, text: str) -> None:
    assert mountinfo._unescape(field) == text


_MOUNT_AND_LIST = """
import os, sys
from pyspaces.kernel import constants, libc, mountapi, mountinfo, procfs
uid, gid = os.geteuid(), os.getegid()
libc.unshare(constants.CLONE_NEWUSER | constants.CLONE_NEWNS)
procfs.write_once("/proc/self/setgroups", "deny")
procfs.write_once("/proc/self/uid_map", f"0 {uid} 1")
procfs.write_once("/proc/self/gid_map", f"0 {gid} 1")
mountapi.mount("none", sys.argv[1], "tmpfs", 0)
points = [mount.point for mount in mountinfo.mounts() if mount.kind == "tmpfs"]
sys.stdout.write(repr(points[-1]))
"""


@pytest.mark.needs("userns")
@pytest.mark.parametrize(
    "name",
    [
        *("plain", "a b", "a\tb", "a\nb", "a\\b", "a#b", "a\\040b", "caf\u00e9", "\udcff", " - "),
        *("a\fb", "a\vb", "a\rb", "a\x1cb", "a\x85b", "a\u2028b"),
    ],
    ids=ascii,
)
def test_the_real_mount_point_of_an_odd_name(name: str, tmp_path: Path) -> None:
    target = tmp_path / name
    target.mkdir()
    done = python(_MOUNT_AND_LIST, str(target))
    assert done.returncode == 0, done.stderr
    assert done.stdout == repr(str(target))


# --- the environment a process began with ----------------------------------------------------


def test_the_initial_environment_is_not_os_environ() -> None:
    script = (
        "import os\n"
        "from pyspaces.kernel import procfs\n"
        "os.environ['LATER'] = 'x'\n"
        "found = procfs.initial_environment()\n"
        "print(found[b'EARLY'] == b'a=b\\n\\xff', b'LATER' in found, b'' in found)\n"
    )
    done = outcome(
        [sys.executable, "-c", script], env={**os.environb, b"EARLY": b"a=b\n\xff", b"NONE": b""}
    )
    assert done.stdout == "True False False\n", done.stderr


def test_an_erased_environment_cannot_be_read_and_os_environ_stays() -> None:
    script = (
        "import os\n"
        "from pyspaces.kernel import erasing, procfs\n"
        "erasing.erase_initial_environment()\n"
        "left = open('/proc/self/environ', 'rb').read()\n"
        "print(left.strip(b'\\0') == b'', os.environ['SECRET'], procfs.initial_environment())\n"
    )
    done = outcome([sys.executable, "-c", script], env={**os.environ, "SECRET": "hunter2"})
    assert done.stdout == "True hunter2 {}\n", done.stderr
