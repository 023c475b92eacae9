"""Many command lines in one interpreter, each in a process of its own: what is said of them.

    python usage.py JSON

Prints [[exit status, output and errors], ...]. A usage error is found before anything is created,
and takes a fraction of the time that a launcher needs to start.
"""

from __future__ import annotations

import importlib
import json
import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any


def said(lines: Sequence[Sequence[str]], **more: Any) -> list[tuple[int, str]]:
    """Return the exit status, and all that is printed, of each command line of pyspaces."""
    from conftest import outcome

    done = outcome([sys.executable, __file__, json.dumps(lines)], check=True, **more)
    return [(code, text) for code, text in json.loads(done.stdout)]


def assert_refused(rows: Sequence[tuple[Sequence[str], str]], **more: Any) -> None:
    """Assert that each command line, without its first word `run`, is a usage error that says so.

    The command that each of them is given prints `it ran`.
    """
    lines = [["run", *words, "--", "echo", "it", "ran"] for words, _ in rows]
    for (words, error), (code, text) in zip(rows, said(lines, **more), strict=True):
        assert (code, "it ran" in text) == (2, False), (words, text)
        assert error in text, words


def _one(line: list[str]) -> tuple[int, str]:
    from pyspaces import cli

    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reading)
        for number in (1, 2):
            os.dup2(writing, number)
        os.close(writing)
        os._exit(cli.main(line))
    os.close(writing)
    with open(reading, errors="replace") as file:
        text = file.read()
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), text


def main() -> None:
    """Load once what each command line takes, and run them."""
    for name in ("cli", "commands.group", "commands.run", "plan.features"):
        importlib.import_module(f"pyspaces.{name}")
    print(json.dumps([_one(line) for line in json.loads(sys.argv[1])]))


if __name__ == "__main__":
    main()
