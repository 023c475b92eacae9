"""Typical mistakes on the command line and their answers, as mistakes.txt has them.

An answer: the exit status, the first line of the error, and the hint: what to write instead.
"""

from __future__ import annotations

import shlex
import subprocess
from pathlib import Path

import pytest
from conftest import SCRIPT, outcome

TABLE = Path(__file__).with_name("mistakes.txt")
PROMPT = "$ pyspaces"


def answer(line: str) -> str:
    """Return what a command line is answered, in the form of the table."""
    done = outcome([SCRIPT, *shlex.split(line)], stdin=subprocess.DEVNULL)
    assert done.stdout == "", line
    lines = done.stderr.splitlines()
    told = [one.removeprefix("pyspaces: ") for one in lines if one.startswith("pyspaces: ")]
    # The steps of --verbose stand before the error.
    error = told[-1] if "-v" in line.split() else told[0]
    hints = [one for one in lines if one.startswith("hint: ")]
    return "\n".join([f"{done.returncode} {error}", *hints])


@pytest.mark.needs("userns", "pidns", "netns")
def test_each_mistake_gets_its_answer() -> None:
    rows = [row.partition("\n") for row in TABLE.read_text().rstrip("\n").split("\n\n")]
    assert len(rows) >= 50
    lines = [first.removeprefix(f"{PROMPT} ").removeprefix(PROMPT) for first, _, _ in rows]
    told = dict(zip(lines, map(answer, lines), strict=True))
    assert told == dict(zip(lines, (rest for _, _, rest in rows), strict=True))


@pytest.mark.as_ordinary
@pytest.mark.needs("userns")
def test_the_numbers_of_a_map_are_one_word() -> None:
    # For root, the first number alone is a map, and the command is missing, as in the table.
    told = answer("run --map-uid 0 1000 1 -- id")
    assert told.startswith("125 cannot write the id maps: ")
    assert told.endswith(
        "hint: --map-uid takes one value: put its numbers in one word, with commas between"
    )


@pytest.mark.needs("userns")
def test_a_file_that_is_here_is_executed_by_a_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("it.sh").touch()
    told = answer("run --user it.sh")
    assert told.startswith("127 cannot execute the command: it.sh: No such file or directory")
    assert told.endswith("hint: to execute the file that is here: ./it.sh")


@pytest.mark.as_ordinary
@pytest.mark.parametrize(
    ("line", "hint"),
    [
        ("run --net -p 8080:80 -- id", "-p is --pid; to publish a port: --net --publish 8080:80"),
        ("run -u 5:5 -- id", "-u is --uts; to run as another user: --setuid 5 --setgid 5"),
    ],
)  # fmt: skip
def test_a_letter_that_was_meant_otherwise_is_told_first(line: str, hint: str) -> None:
    """Root gets as far as the command; without --user, another hint would be about a namespace."""
    told = answer(line)
    assert told.startswith("125 cannot create the namespaces: ")
    assert told.endswith(f"hint: {hint}")
