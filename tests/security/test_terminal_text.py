"""Text of others that reaches a terminal: nothing in it is obeyed, and none of it looks like ours.

One rule for all places: what str.isprintable() denies is shown as \\xNN, a byte each.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import uuid

import pytest
from conftest import SCRIPT, outcome
from hypothesis import given
from hypothesis import strategies as st
from usage import said

from pyspaces.errors import SpaceError
from pyspaces.visible import visible, visible_lines

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

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
            assert "\ufffd" not in line, repr(line)  # what was no text
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


BOTH = ("".join(HOSTILE), "".join(HOSTILE[::-1]))


LINES = [
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
]


def test_every_command_shows_what_it_was_given() -> None:
    lines = [[word.replace("{}", text) for word in words] for text in BOTH for words in LINES]
    for line, (_, told) in zip(lines, said(lines), strict=True):
        assert_harmless(told)
        assert told, line
        assert "--debug" in line or "Traceback" not in told


FAULTS = {
    "key": '{"version": 2, "command": ["true"], TEXT: 1}',
    "key twice": '{"version": 2, "command": 1, TEXT: 1, TEXT: 2}',
    "words": '{"version": 2, "command": ["true"], "namespaces": [TEXT], "propagation": TEXT}',
    "word": '{"version": 2, "command": ["true"], "maps": {"setgroups": TEXT}}',
    "kind": '{"version": 2, "command": ["true"], "mounts": [{"kind": TEXT}]}',
    "command": '{"version": 2, "command": [TEXT], "workdir": "/"}',
}


def test_a_plan_shows_its_keys_and_words(tmp_path: Path) -> None:
    lines = []
    for fault, plan in FAULTS.items():
        for number, text in enumerate(HOSTILE):
            file = tmp_path / f"{fault} {number}"
            file.write_text(plan.replace("TEXT", json.dumps(f"/nonexistent/{text}")))
            lines.append(["run", "--plan", str(file)])
    for line, (code, told) in zip(lines, said(lines), strict=True):
        assert code == (127 if "/command " in line[-1] else 2)
        assert_harmless(told)
        assert told


# What they are called: another session may test the same at the same time.
NAME = f"sh-{uuid.uuid4().hex}"


@contextlib.contextmanager
def running(*before: str) -> Iterator[list[int]]:
    """Start processes of which one word is hostile; return their pids."""
    words = [*before, "sh", "-c", "echo up; read line", NAME]
    started = [
        subprocess.Popen([*words, text], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        for text in BOTH
    ]
    try:
        for child in started:
            assert child.stdout is not None
            assert child.stdout.readline() == b"up\n"
        yield [child.pid for child in started]
    finally:
        for child in started:
            child.communicate(timeout=60)


@pytest.mark.needs("userns")
def test_a_process_of_others_is_listed_harmlessly(pyspaces: Run) -> None:
    with running(SCRIPT, "run", "--user", "--"):
        done = pyspaces("list", "--output", "command", errors="surrogateescape")
    assert done.stdout.count(f"\nsh -c echo up; read line {NAME} ") == len(BOTH)
    assert_harmless(done.stdout, done.stderr)


def test_completion_keeps_to_its_lines() -> None:
    """The script of zsh reads three lines for each word: kind, word and help."""
    with running() as pids:
        for pid in pids:
            lines = completed(f"pyspaces enter {pid}").split("\n")
            assert lines[lines.index(str(pid)) - 1] == "plain"
            assert len(lines) % 3 == 1


def completed(line: str) -> str:
    """Return what the last word of the line may be, as it is told to zsh."""
    words = {"_PYSPACES_COMPLETE": "zsh_complete", "COMP_WORDS": line, "COMP_CWORD": "2"}
    done = outcome([SCRIPT], env=os.environ | words, errors="surrogateescape", check=True)
    assert_harmless(done.stdout)
    return done.stdout
