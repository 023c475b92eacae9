"""What a launch tells is the same, whether click has read its command line or the small parser."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys

import pytest
import warm
from conftest import SCRIPT

# Our own seam: with it, click reads every line.
BY_CLICK = """
import sys
from pyspaces.commands import fast

fast.launch = lambda arguments: None
from pyspaces.__main__ import main

main()
"""
LINES = {
    "0": ("true",),
    "its own status": ("sh", "-c", "echo out; echo err >&2; exit 7"),
    "killed": ("sh", "-c", "kill -USR1 $$"),
    "asked to end": ("sh", "-c", "kill -TERM $PPID; exec sleep 10"),
    "not found": ("no-such-command-anywhere",),
    "not found, behind two dashes": ("--user", "--", "no-such-command-anywhere", "-x"),
    "cannot be executed": ("--user", "--", "/etc/passwd"),
    "time is over": ("--timeout", "0.7", "--", "sleep", "10"),
    "a fault": ("--hostname", "", "--share", "nonsense", "--loopback", "true"),
    "two reasons for one namespace": (
        "--workdir=/",
        "--uts",
        "--hostname=x",
        "--join",
        "uts=1",
        "true",
    ),
    "faults in the order of the options": (
        "--kill-after",
        "x",
        "--map-uid",
        "y",
        "--keep",
        "z",
        "true",
    ),
    "a root that is not there": ("--user", "--root", "/no/such/directory", "true"),
    "operations in their order": (
        "--user",
        "--tmpfs",
        "/a",
        "--size",
        "x",
        "--bind",
        "b",
        "c",
        "true",
    ),
    "no command": ("--user",),
    "a name that is none": ("--user", "--name", "a b", "true"),
    "a directory that is not there": ("--user", "-w/no/such/directory", "true"),
    "in place": ("--user", "-F", "--", "no-such-command-anywhere"),
    "not ascii": ("--user", "--root", "/no/\u00fc/\udcff\x1b[31m", "true"),
}
ENTER = {
    "no target": (),
    "no such process": ("4194305", "true"),
    "no such name": ("no-such-name", "true"),
    "no such file": ("./no-such-file", "true"),
    "what a file cannot": ("/proc/self/ns/uts", "--net", "true"),
    "a fault": ("--join", "nonsense", "true"),
    "the own namespace": ("--join", f"user={os.getpid()}", "true"),
    "no command": ("--target", "1"),
}

pytestmark = pytest.mark.needs("userns")


def told(words: list[str], **more: str) -> tuple[int, str, str]:
    done = subprocess.run(
        words,
        capture_output=True,
        text=True,
        errors="surrogateescape",
        check=False,
        timeout=60,
        stdin=subprocess.DEVNULL,
        env={**os.environ, **more},
    )
    return parts(done)


def parts(done: subprocess.CompletedProcess[str]) -> tuple[int, str, str]:
    # How long a command ran is measured, and no two run for as long.
    return done.returncode, done.stdout, re.sub(r"ran for [0-9.]+ s", "ran for a time", done.stderr)


def same(*words: str, **more: str) -> tuple[int, str, str]:
    """Run a line both ways; return what both tell."""
    by_click = (
        told([sys.executable, "-c", BY_CLICK, *words], **more)
        if more or "-F" in words  # which imports nothing once the command is looked for
        else parts(warm.run(words, by_click=True))
    )
    assert told([SCRIPT, *words], **more) == by_click, words
    return by_click


def test_enter_tells_the_same() -> None:
    for words in ENTER.values():
        same("enter", *words)


def test_run_tells_the_same_and_these_lines_end_in_every_way() -> None:
    ways = {same("run", *words)[0] for words in LINES.values()}
    assert ways == {0, 2, 7, 124, 125, 126, 127, 128 + signal.SIGUSR1, -signal.SIGTERM}


def test_a_locale_without_letters_changes_nothing() -> None:
    more = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    status, _, stderr = same("run", *LINES["not ascii"], **more)
    assert status == 125
    assert "\u00fc" in stderr or "\\xc3\\xbc" in stderr


def test_a_closed_standard_error_changes_nothing() -> None:
    for words in ([SCRIPT], [sys.executable, "-c", BY_CLICK]):
        line = 'exec "$@" 2>&-'
        done = subprocess.run(
            ["sh", "-c", line, "sh", *words, "run", "no-such-command-anywhere"],
            capture_output=True, text=True, check=False, timeout=60,
        )  # fmt: skip
        assert (done.returncode, done.stdout, done.stderr) == (127, "", "")
