"""Processes that a test starts, and what runs below them."""

from __future__ import annotations

import contextlib
import subprocess
from pathlib import Path
from typing import AnyStr

from conftest import processes_of

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
