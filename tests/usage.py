"""Many command lines, each in a process of its own: what is said of them."""

from __future__ import annotations

import warm

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


def said(
    lines: Sequence[Sequence[str]], *, cwd: Path | None = None, text: str | None = None
) -> list[tuple[int, str]]:
    """Return the exit status, and all that is printed, of each command line of pyspaces."""
    ended = [warm.run(line, cwd=cwd, text=text) for line in lines]
    return [(done.returncode, done.stdout + done.stderr) for done in ended]


def assert_refused(
    rows: Sequence[tuple[Sequence[str], str]],
    *,
    cwd: Path | None = None,
    text: str | None = None,
) -> None:
    """Assert that each command line, without its first word `run`, is a usage error that says so.

    The command that each of them is given prints `it ran`.
    """
    lines = [["run", *words, "--", "echo", "it", "ran"] for words, _ in rows]
    for (words, error), (code, told) in zip(rows, said(lines, cwd=cwd, text=text), strict=True):
        assert (code, "it ran" in told) == (2, False), (words, told)
        assert error in told, words
