"""Nothing of the caller's groups and keys comes along that was not asked for."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import IS_ROOT, SCRIPT, outcome, without

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator


pytestmark = pytest.mark.needs("userns")
GROUPS = "4,42,6,12345"
WITH_GROUPS = ["setpriv", "--groups", f"0,{GROUPS}"]
# What the kernel goes by, whatever `id -G` calls it: that of the reader's own view is 65534.
SHOW = "grep ^Groups: /proc/self/status"


@pytest.fixture
def theirs() -> Iterator[int]:
    """Return a process of another user in a user namespace of its own: the target of root."""
    words = ["setpriv", "--reuid", "1001", "--regid", "1001", "--clear-groups"]
    words = words if IS_ROOT else []
    inner = ["unshare", "-Urm", "sh", "-c", "echo up; exec sleep 1000"]
    with subprocess.Popen([*words, *inner], stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout
            assert process.stdout.readline() == b"up\n"
            yield process.pid
        finally:
            process.kill()


def run_with_groups(*words: str) -> subprocess.CompletedProcess[str]:
    return outcome([*WITH_GROUPS, SCRIPT, *words])


@pytest.mark.as_root
@pytest.mark.needs("setpriv", "unshare")
@pytest.mark.parametrize("more", [[], ["--no-fork"], ["-U", "-m"]])
def test_root_enters_without_its_groups(theirs: int, more: list[str]) -> None:
    """Inside, setgroups(2) is denied: they have to go before."""
    done = run_with_groups("enter", str(theirs), *more, "--", "sh", "-c", f"{SHOW}; id -G")
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["Groups:", "0"]


@pytest.mark.as_root
@pytest.mark.needs("setpriv", "unshare")
def test_so_what_a_group_may_read_stays_closed(theirs: int, tmp_path: Path) -> None:
    file = tmp_path / "shadow"
    file.write_text("secret\n")
    os.chown(file, 0, 42)
    file.chmod(0o640)
    # Those of pytest, and nothing of the host.
    for directory in (tmp_path, tmp_path.parent, tmp_path.parents[1]):
        directory.chmod(0o711)
    done = run_with_groups("enter", str(theirs), "--", "cat", str(file))
    assert done.returncode == 1
    assert "Permission denied" in done.stderr
    peer = ["nsenter", "-t", str(theirs), "-U", "-m", "cat", str(file)]
    assert subprocess.run([*WITH_GROUPS, *peer], capture_output=True, check=False).returncode


@pytest.mark.as_root
@pytest.mark.needs("setpriv", "unshare")
def test_whoever_asks_keeps_them(theirs: int) -> None:
    done = run_with_groups("enter", str(theirs), "--preserve-credentials", "--", "sh", "-c", SHOW)
    assert len(done.stdout.split()) == 6, done.stderr
    done = run_with_groups("run", "--user", "--groups", "keep", "--", "sh", "-c", SHOW)
    assert len(done.stdout.split()) == 6, done.stderr


MAPS = {
    "denied": ["-M", "0,100000,65536", "-G", "0,100000,65536", "--setgroups", "deny"],
    "no map of groups": ["-M", "0,100000,65536"],
    "allowed": ["-M", "0,100000,65536", "-G", "0,100000,65536"],
    "each by itself": ["-M", "0,0,100000", "-G", "0,0,100000", "--setgroups", "deny"],
    "the default": [],
    "current": ["--map-current", "--setgroups", "deny"],
}


@pytest.mark.crossed(1)
@pytest.mark.as_root
@pytest.mark.needs("setpriv")
@pytest.mark.parametrize("maps", MAPS)
@pytest.mark.parametrize("more", [[], ["--pid", "--init"], ["--no-fork"]])
def test_a_new_user_namespace_has_none_of_them(maps: str, more: list[str]) -> None:
    done = run_with_groups("run", "-U", *MAPS[maps], *more, "--", "sh", "-c", SHOW)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.split() == ["Groups:"]


@pytest.mark.as_root
def test_of_a_library_neither() -> None:
    """The groups of the caller stay as they are."""
    script = """
import os
from pyspaces import launch, settings
os.setgroups([4, 42, 6])
maps = {"map_uid": ["0,100000,65536"], "map_gid": ["0,100000,65536"], "setgroups": "deny"}
plan = settings.plan_from({"user": True, **maps, "command": ["show"]})
with launch.start(plan, function=lambda: print(os.getgroups(), flush=True)) as running:
    running.wait()
print(sorted(os.getgroups()))
"""
    done = outcome([sys.executable, "-c", script])
    assert done.stdout.splitlines() == ["[]", "[4, 6, 42]"], done.stderr


# --- keys --------------------------------------------------------------------------------------

KEYS = """
import ctypes, sys, os
libc = ctypes.CDLL(None, use_errno=True)
call = {"x86_64": 250}.get(os.uname().machine, 219)
add = {"x86_64": 248}.get(os.uname().machine, 217)
SESSION = -3
def keyctl(*words):
    return libc.syscall(call, *words)
if sys.argv[1] == "hold":
    assert keyctl(1, b"pyspaces-test") > 0
    assert libc.syscall(add, b"user", b"a-secret", b"sesame", 6, SESSION) > 0
    os.execv(sys.argv[2], sys.argv[2:])
key = keyctl(10, SESSION, b"user", b"a-secret", 0)  # KEYCTL_SEARCH
room = ctypes.create_string_buffer(6)
print("found" if key > 0 and keyctl(11, key, room, 6) == 6 else "nothing")
"""


def has_keys() -> bool:
    return Path("/proc/keys").exists()


def with_a_key(script: Path, *words: str) -> str:
    """Run a launch whose caller has a key in its session keyring; say whether that was found."""
    script.write_text(KEYS)
    script.chmod(0o755)
    look = [sys.executable, str(script), "look"]
    done = outcome([sys.executable, str(script), "hold", SCRIPT, *words, "--", *look])
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.strip()


@pytest.mark.skipif(not has_keys(), reason="this kernel has no keys")
@pytest.mark.parametrize("more", [[], ["--pid", "--init"], ["--no-fork"], ["--map-current"]])
def test_the_session_keyring_stays_outside(tmp_path: Path, more: list[str]) -> None:
    """Who has a keyring possesses its keys, in whatever user namespace."""
    assert with_a_key(tmp_path / "keys.py", "run", "--user", *more) == "nothing"


@pytest.mark.skipif(not has_keys(), reason="this kernel has no keys")
def test_nor_does_it_come_along_into_another(tmp_path: Path) -> None:
    script = tmp_path / "keys.py"
    with subprocess.Popen(
        ["unshare", "-Ur", "sh", "-c", "echo up; exec sleep 1000"], stdout=subprocess.PIPE
    ) as target:
        assert target.stdout
        assert target.stdout.readline() == b"up\n"
        try:
            assert with_a_key(script, "enter", str(target.pid)) == "nothing"
            kept = with_a_key(script, "enter", str(target.pid), "--preserve-credentials")
            assert kept == "found"
        finally:
            target.kill()


@pytest.mark.skipif(not has_keys(), reason="this kernel has no keys")
@pytest.mark.as_root
def test_without_a_user_namespace_it_is_the_callers(tmp_path: Path) -> None:
    assert with_a_key(tmp_path / "keys.py", "run", "--mount") == "found"


@pytest.mark.parametrize("answer", [errno.EPERM, errno.ENOSYS, errno.EDQUOT])
def test_a_kernel_that_gives_no_keyring_is_no_reason_to_fail(answer: int) -> None:
    number = {"x86_64": 250}.get(os.uname().machine, 219)
    done = outcome([*without(number, answer=answer), SCRIPT, "run", "--user", "--", "true"])
    assert (done.returncode, done.stderr) == (0, "")
