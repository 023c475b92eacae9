"""--args: options from a descriptor, in the place of the option."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path

import pytest
from conftest import outcome
from hypothesis import given
from hypothesis import strategies as st

from pyspaces.commands import arguments
from pyspaces.errors import UsageFault

TYPE_CHECKING = False
if TYPE_CHECKING:
    from subprocess import CompletedProcess
    from typing import Any

    from conftest import Run


def with_words(pyspaces: Run, *line: str, words: list[str] | bytes, **more: Any) -> Any:
    """Run a command line, in which FD is a descriptor with these words."""
    data = words if isinstance(words, bytes) else b"".join(os.fsencode(w) + b"\0" for w in words)
    with tempfile.TemporaryFile() as file:
        file.write(data)
        file.seek(0)
        number = str(file.fileno())
        line = tuple(word.replace("FD", number) for word in line)
        done: CompletedProcess[str] = pyspaces(*line, pass_fds=(file.fileno(),), **more)
        return done


def test_the_options_stand_in_the_place_of_args(pyspaces: Run) -> None:
    words = ["--setenv", "A", "two words\nand a line", "--setenv", "B", "--args"]
    show = ("--", "sh", "-c", 'printf "%s|" "$A" "$B"; ls /proc/self/fd')
    done = with_words(pyspaces, "run", "--args", "FD", "--setenv", "B", "2", *show, words=words)
    assert done.stderr == ""
    values, *fds = done.stdout.split("|")[:-1], done.stdout.rpartition("|")[2].split()
    assert values == ["two words\nand a line", "2"]  # the later one counts
    assert len(fds[0]) == 4  # and that of the listing: the descriptor is closed


@pytest.mark.parametrize("more", [[], ["--dry-run", "--json"]], ids=["small parser", "click"])
def test_both_parsers_read_the_same(pyspaces: Run, more: list[str]) -> None:
    line = ("run", *more, "--args=FD", "--setenv", "B", "2", "--", "sh", "-c", "echo $A$B")
    done = with_words(pyspaces, *line, words=["--setenv", "A", "1"])
    if more:
        assert json.loads(done.stdout)["environment"]["set"] == [["A", "1"], ["B", "2"]]
    else:
        assert done.stdout == "12\n"


def test_what_belongs_to_the_command_or_is_a_value_is_left(pyspaces: Run) -> None:
    assert pyspaces("run", "--", "echo", "--args", "99").stdout == "--args 99\n"
    assert pyspaces("run", "echo", "--args", "99").stdout == "--args 99\n"
    done = pyspaces("run", "--setenv", "A", "--args", "--", "sh", "-c", "echo $A")
    assert done.stdout == "--args\n"
    assert "usage" not in pyspaces("list", "--args", "3").stdout.lower()


def test_the_last_nul_may_be_missing_and_there_may_be_no_words(pyspaces: Run) -> None:
    line = ("run", "--args", "FD", "--", "sh", "-c", "echo $A.")
    assert with_words(pyspaces, *line, words=b"--setenv\0A\0x").stdout == "x.\n"
    assert with_words(pyspaces, *line, words=b"").stdout == ".\n"
    raw = ("run", "--args", "FD", "--", "printenv", "A")
    done = with_words(pyspaces, *raw, words=b"--setenv\0A\0\xff", errors="surrogateescape")
    assert done.stdout == "\udcff\n"


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (["--args", "0"], "has --args itself"),
        (["ls"], "'ls' is not an option"),
        (["--", "ls"], "'--' is not an option"),
        ([""], "'' is not an option"),
        (["--setenv", "A"], "ends before the value of --setenv"),
        (["--nonesuch"], "no such option: --nonesuch"),
        (
            b"--user\n--net\n",
            "has lines: each word has to end with a NUL byte instead\nhint: a profile",
        ),
        (b"-U\0" * (2 << 20), "has more than 4 MiB"),
    ],
)
def test_what_is_not_an_option_is_refused(
    pyspaces: Run, words: list[str] | bytes, error: str
) -> None:
    # One empty word and no word look alike, but for the NUL behind it.
    words = b"\0\0" if words == [""] else words
    done = with_words(pyspaces, "run", "--args", "FD", "--", "echo", "ran", words=words)
    assert (done.returncode, done.stdout) == (2, "")
    assert error in done.stderr


@pytest.mark.parametrize(
    ("line", "error"),
    [
        (["--args"], "args: requires the number of a descriptor"),
        (
            ["--args", "x"],
            "'x' is not the number of a descriptor\nhint: for a file: --args 3 ... 3<x",
        ),
        (["--args", "999", "true"], "args: 999: cannot be read: Bad file descriptor"),
        (["--nonesuch", "--args", "3", "true"], "no such option: --nonesuch"),
    ],
)
def test_a_descriptor_that_cannot_be_read(pyspaces: Run, line: list[str], error: str) -> None:
    done = pyspaces("run", *line)
    assert (done.returncode, done.stdout) == (2, "")
    assert error in done.stderr


@pytest.mark.as_root
def test_enter_reads_them_on_both_sides_of_its_target(pyspaces: Run) -> None:
    me = str(os.getpid())
    for line in (["--args", "FD", me], [me, "--args", "FD"], ["-t", me, "--args", "FD"]):
        show = ("--", "sh", "-c", "echo $A")
        done = with_words(pyspaces, "enter", *line, "--uts", *show, words=["--setenv", "A", "x"])
        assert (done.stdout, done.stderr) == ("x\n", "")


@pytest.mark.needs("userns")
def test_check_reads_them(pyspaces: Run) -> None:
    done = with_words(pyspaces, "check", "--args", "FD", words=["--user"])
    assert done.returncode == 0, done.stdout + done.stderr


def test_bwrap_refuses_the_same_nesting() -> None:
    if Path("/usr/bin/bwrap").exists():
        words = ["bwrap", "--args", "0", "--ro-bind", "/", "/", "true"]
        done = outcome(words, input="--args\0000\0")
        assert "--args not supported in arguments file" in done.stderr


@given(
    st.lists(st.sampled_from(["run", "--args", "--args=", "-", "--", "-U", "--bind", "x", "-tw"]))
)
def test_no_line_is_an_error_of_ours(line: list[str]) -> None:
    try:
        found = arguments.expanded(["run", *line])
    except UsageFault:
        return
    assert found == ["run", *line]
