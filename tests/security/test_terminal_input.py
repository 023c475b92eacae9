"""Who can put input into the caller's terminal, for the caller's shell to read: TIOCSTI."""

from __future__ import annotations

import sys

import pytest
from conftest import SCRIPT
from terminal import Screen

from pyspaces.host import check as host_check
from pyspaces.kernel import procfs

SETTING = "dev.tty.legacy_tiocsti"
IS_OPEN = procfs.sysctl(SETTING) != "0"
# Inside: by each descriptor, and by the terminal's own name.
PUT = """
import fcntl, os, termios
ways = [0, 1, 2]
try:
    ways.append(os.open("/dev/tty", os.O_RDWR))
except OSError:
    pass
for way in ways:
    try:
        for char in b"put\\n":
            fcntl.ioctl(way, termios.TIOCSTI, bytes([char]))
        break
    except OSError:
        pass
"""
# Outside, as the caller's shell: what there is to read once the command has ended.
SHELL = """
import os, select, subprocess, sys
subprocess.run(sys.argv[1:], check=False)
ready = select.select([0], [], [], 0)[0]  # it is put at once
print("read:", os.read(0, 100) if ready else None, "end", flush=True)
"""


def is_put(*options: str) -> bool:
    inside = [sys.executable, "-I", "-S", "-c", PUT]
    words = [SCRIPT, "run", *options, "--", *inside]
    screen = Screen([sys.executable, "-I", "-S", "-c", SHELL, *words])
    try:
        screen.expect(b"read: ")
        told = screen.expect(b" end")
        assert screen.end() == 0
    finally:
        screen.close()
    return b"put" in told


@pytest.mark.needs("userns")
@pytest.mark.parametrize("more", [[], ["--pid", "--read-only", "--cap-drop", "all"]])
def test_a_command_that_shares_the_terminal(more: list[str]) -> None:
    """As the man page warns: what the kernel allows, nothing of ours prevents."""
    assert is_put("--user", *more) == IS_OPEN


@pytest.mark.crossed(1)
@pytest.mark.needs("userns")
@pytest.mark.parametrize("way", ["--pty", "--new-session"])
@pytest.mark.parametrize("more", [[], ["--pid", "--read-only", "--cap-drop", "all"]])
def test_one_that_has_its_own_or_none(way: str, more: list[str]) -> None:
    assert not is_put("--user", way, *more)


@pytest.mark.as_root
def test_root_of_the_host() -> None:
    """CAP_SYS_ADMIN in the first user namespace: by any terminal that is open, and no other."""
    assert is_put()
    assert is_put("--new-session")
    assert not is_put("--pty")
    assert not is_put("--new-session", "--cap-drop", "all")


def test_check_tells_it() -> None:
    (row,) = host_check.examine(["no-tiocsti"])
    assert row.answer == (host_check.DEGRADED if IS_OPEN else host_check.YES)
    assert SETTING in row.evidence
    assert bool(row.remedy) == IS_OPEN
