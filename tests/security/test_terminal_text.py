"""Text of others that reaches a terminal: nothing in it is obeyed, and none of it looks like ours.

One rule for all places: what str.isprintable() denies is shown as \\xNN, a byte each.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import SCRIPT, outcome
from hypothesis import given
from hypothesis import strategies as st

from pyspaces.errors import SpaceError
from pyspaces.visible import visible, visible_lines

TYPE_CHECKING = False
if TYPE_CHECKING:
    from conftest import Run

# A member of each class: C0, a line of ours, DEL, C1, the direction of writing, separators of lines
# and paragraphs, a blank that is no space, a byte that is no text, and a private character.
HOSTILE = [
    *("\x1b]0;title\x07", "\x08", "\r", "x\npyspaces: all is well", "\x7f", "\x9b31m", "\u202e"),
    *("\u2066", "\u2028", "\u2029", "\u00a0", "\udcff", "\ue000", "\u200b"),
]


def assert_harmless(*texts: str) -> None:
    """Every line can be shown, and none begins where we began none."""
    for text in texts:
        for line in text.split("\n"):
            assert line.isprintable(), repr(line)
            assert not line.startswith("pyspaces: all is well")


@given(st.text(st.characters()) | st.text(st.sampled_from(["\ud800", "\udc80", "\x1b", "\n", "a"])))
def test_nothing_unprintable_is_left(text: str) -> None:
    assert visible(text).isprintable()
    assert visible(visible(text)) == visible(text)
    assert visible_lines(text).count("\n") == text.count("\n")
    if text.isprintable():
        assert visible(text) == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("grün 語", "grün 語"),
        ("\x1b", "\\x1b"),
        ("\x85", "\\xc2\\x85"),
        ("\u202e", "\\xe2\\x80\\xae"),
        ("\udcff", "\\xff"),
        ("\ud800", "\\xed\\xa0\\x80"),
    ],
)
def test_a_byte_is_shown_as_shells_read_it(text: str, shown: str) -> None:
    assert visible(text) == shown


def test_an_error_is_as_many_lines_as_it_says() -> None:
    error = SpaceError("a\nb", details=["c\nd"], hint="e\nf")
    assert str(error) == "a\\x0ab\n  c\\x0ad\nhint: e\\x0af"
    assert error.message == "a\nb"


@pytest.mark.parametrize("text", ["".join(HOSTILE), "".join(HOSTILE[::-1])], ids=["", "reversed"])
@pytest.mark.parametrize(
    "words",
    [
        ["run", "--", "/nonexistent/{}"],
        ["run", "--verbose", "--report", "--", "true", "{}"],
        ["run", "--debug", "--user", "--workdir", "/nonexistent/{}", "--", "true"],
        ["run", "--user", "--root", "/nonexistent/{}", "--", "true"],
        ["run", "--user", "--uts", "--hostname", "{}" * 70, "--", "true"],
        ["run", "--user", "--name", "{}", "--", "true"],
        ["run", "--user", "--bind", "/nonexistent/{}", "/x{}", "--", "true"],
        ["run", "--map-uid", "{}", "--", "true"],
        ["run", "--setuid", "{}", "--", "true"],
        ["run", "--cap-drop", "{}", "--", "true"],
        ["run", "--user", "--status-file", "/nonexistent/{}", "--", "true"],
        ["run", "--user", "--pid-file", "/nonexistent/{}", "--", "true"],
        ["run", "--plan", "/nonexistent/{}"],
        ["run", "--user", "--uts", "--join", "net=/nonexistent/{}", "--", "true"],
        ["run", "--keep", "net=/nonexistent/{}", "--net", "--user", "--", "true"],
        ["run", "--{}"],
        ["run", "--dry-run", "--user", "--workdir", "/{}", "--setenv", "A", "{}", "--", "{}"],
        ["check", "--user", "--workdir", "/nonexistent/{}"],
        ["enter", "/nonexistent/{}", "true"],
        ["enter", "{}", "true"],
        ["stop", "{}"],
        ["drop", "/nonexistent/{}"],
        ["list", "--type", "{}"],
        ["list", "--pid", "{}"],
        ["{}"],
    ],
    ids=lambda words: " ".join(words[:3]),
)
def test_every_command_shows_what_it_was_given(pyspaces: Run, words: list[str], text: str) -> None:
    done = pyspaces(*(word.replace("{}", text) for word in words), errors="surrogateescape")
    assert_harmless(done.stdout, done.stderr)
    assert done.stdout + done.stderr
    assert "--debug" in words or "Traceback" not in done.stderr


@pytest.mark.parametrize("text", HOSTILE, ids=ascii)
def test_a_plan_shows_its_keys_and_words(pyspaces: Run, tmp_path: Path, text: str) -> None:
    file = tmp_path / "plan"
    faults = (
        {"command": ["true"], text: 1},
        {"command": ["true"], "namespaces": [text], "propagation": text, "setgroups": text},
        {"command": ["true"], "mounts": [{"kind": text}]},
        {"command": [f"/nonexistent/{text}"], "workdir": "/"},
    )
    for data in faults:
        file.write_text(json.dumps(data))
        done = pyspaces("run", "--plan", str(file), errors="surrogateescape")
        assert done.returncode in (2, 127)
        assert_harmless(done.stdout, done.stderr)
    if "\n" in text:  # what shows a key twice is told of it, too
        file.write_text('{"command": 1, "%s": 1, "%s": 2}' % ((json.dumps(text)[1:-1],) * 2))
        assert_harmless(pyspaces("run", "--plan", str(file)).stderr)


@pytest.mark.needs("userns")
@pytest.mark.parametrize("text", HOSTILE, ids=ascii)
def test_a_process_of_others_is_listed_harmlessly(pyspaces: Run, text: str) -> None:
    words = [sys.executable, "-c", "import sys; sys.stdin.read()", text]
    with subprocess.Popen([SCRIPT, "run", "--user", "--", *words], stdin=subprocess.PIPE) as child:
        try:
            limit = time.monotonic() + 20
            while b"sys.stdin" not in _command_below(child.pid):
                assert time.monotonic() < limit
            done = pyspaces("list", "--output", "command", errors="surrogateescape")
            assert "sys.stdin" in done.stdout
            assert_harmless(done.stdout, done.stderr)
        finally:
            assert child.stdin
            child.stdin.close()


def _command_below(parent: int) -> bytes:
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdecimal() and f" {parent} " in (entry / "stat").read_text()[:200]:
                return (entry / "cmdline").read_bytes()
        except OSError:
            continue
    return b""


@pytest.mark.parametrize("text", HOSTILE, ids=ascii)
def test_completion_keeps_to_its_lines(text: str) -> None:
    """The script of zsh reads three lines for each word: kind, word and help."""
    with subprocess.Popen([sys.executable, "-c", "input()", text], stdin=subprocess.PIPE) as child:
        try:
            limit = time.monotonic() + 20
            while os.fsencode(text) not in Path(f"/proc/{child.pid}/cmdline").read_bytes():
                assert time.monotonic() < limit
            done = outcome(
                [SCRIPT],
                env={
                    **os.environ,
                    "_PYSPACES_COMPLETE": "zsh_complete",
                    "COMP_WORDS": f"pyspaces enter {child.pid}",
                    "COMP_CWORD": "2",
                },
                errors="surrogateescape",
                check=True,
            )
            assert_harmless(done.stdout)
            lines = done.stdout.splitlines()
            assert lines[lines.index(str(child.pid)) - 1] == "plain"
            assert len(lines) % 3 == 0
        finally:
            assert child.stdin
            child.stdin.close()
