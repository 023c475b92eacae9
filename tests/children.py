"""Processes that a test starts, and what runs below them."""

from __future__ import annotations

import contextlib
import subprocess
from pathlib import Path
from typing import AnyStr

import pytest
from conftest import processes_of

from pyspaces import cli

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType


class Child(subprocess.Popen[AnyStr]):
    """A process that is killed at the end of its block: there, only that of a failed test runs."""

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.kill()
        super().__exit__(kind, value, trace)


def state_of(pid: int) -> str:
    """Return the letter of its state; that of a zombie for one that is gone altogether."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):  # it may end between open and read
        return "Z"


def program_of(pid: int) -> str:
    """Return the name of what a process executes; nothing for one that has gone."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/comm").read_text(errors="replace").strip()
    return ""


def names_below(pid: int) -> set[str]:
    """Return the names of what runs below a process, our process 1 in between or not."""
    found = set()
    for child in processes_of(pid):
        found |= {program_of(child)} | names_below(child)
    return found


def refused(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    """Run a command line that launches nothing, in this process; return what it tells."""
    code = cli.main(words)
    shown = capsys.readouterr()
    return code, shown.out, shown.err
