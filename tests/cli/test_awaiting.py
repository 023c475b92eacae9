"""Long work shows itself: a line on a terminal after a second, which is gone at the end."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from terminal import Screen

from pyspaces.launch import awaiting

ERASED = b"\r\x1b[K"
# `sleep` stands for a tree that takes as long; nothing waits for it.
SLOW = """
import sys, time
from pyspaces import cli
from pyspaces.mounts import changes
real = changes.changes
def slow(*words):
    time.sleep(2)
    yield from real(*words)
changes.changes = slow
sys.exit(cli.main(sys.argv[1:]))
"""
BESIDE = """
from pyspaces.launch.awaiting import Beside
for answer in ("", "quick"):
    with Beside("doing \x1b[31m it"):
        if not answer:
            input()
    print("done", flush=True)
"""


def with_terminal(program: str, *words: str, term: str = "xterm") -> Screen:
    return Screen(["/usr/bin/env", f"TERM={term}", sys.executable, "-c", program, *words])


@pytest.mark.parametrize("term", ["xterm", "dumb"])
def test_a_process_beside_shows_the_line_and_erases_it(term: str) -> None:
    screen = with_terminal(BESIDE, term=term)
    try:
        # What comes from elsewhere is escaped: it can show nothing of its own.
        assert screen.expect(b"pyspaces: doing \\x1b[31m it") == b""
        screen.type(b"\n")
        between = screen.expect(b"done")
        assert (ERASED in between) == (term == "xterm")
        assert b"pyspaces" not in screen.expect(b"done"), "what is quick shows nothing"
        assert screen.end() == 0
    finally:
        screen.close()


def test_without_a_terminal_nothing_is_shown() -> None:
    words = [sys.executable, "-c", BESIDE]
    done = subprocess.run(words, input=b"\n", capture_output=True, check=True)
    assert (done.stdout, done.stderr) == (b"done\ndone\n", b"")
    with awaiting.Awaited("text", wanted=False) as awaited:
        awaited.show()


@pytest.mark.needs("userns", "overlay")
def test_a_comparison_that_takes_long(tmp_path: Path) -> None:
    low = tmp_path / "low"
    low.mkdir()
    overlays = ["--overlay-src", str(low), "--tmp-overlay", str(low), "--overlay-diff", "-"]
    command = ["--", "sh", "-c", f"echo x > {low}/new"]
    screen = with_terminal(SLOW, "run", "--user", *overlays, *command)
    try:
        assert screen.expect(b"pyspaces: comparing what was changed") == b""
        assert screen.expect(f"added   {low}/new".encode()) == ERASED
        assert screen.end() == 0
    finally:
        screen.close()
