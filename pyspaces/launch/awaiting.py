"""Long work shows itself: a line on standard error after a second, if that is a terminal.

Runs in the process that works, or waits. The line is gone when that is over.
"""

from __future__ import annotations

import os
import time

from pyspaces.errors import visible_lines
from pyspaces.kernel import nsfs, spawn

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyspaces.kernel.spawn import Spawned

SILENT = 1.0  # seconds before it is said what is waited for
_ERASE = "\r\x1b[K"


class Awaited:
    """Something that may take long: a context, in which `look` or `show` is called.

    text: what is awaited, as it follows `pyspaces: `. wanted: whether to show it at all.
    """

    def __init__(self, text: str = "", *, wanted: bool = True) -> None:
        self._text = text
        self._begun = time.monotonic()
        self._is_done = not wanted or not _has_terminal()
        self._is_shown = False

    def __enter__(self) -> Awaited:
        return self

    def __exit__(self, *error: object) -> None:
        if self._is_shown and _can_erase():
            _write(_ERASE)

    def look(self) -> None:
        """Show the line if it is time to; otherwise this costs next to nothing."""
        if not self._is_done and time.monotonic() - self._begun >= SILENT:
            self.show()

    def show(self, text: str = "") -> None:
        """Show the line now, unless that was done. text: in the place of the first one."""
        if self._is_done:
            return
        self._is_done = self._is_shown = True
        line = f"pyspaces: {visible_lines(text or self._text)}"
        if _can_erase():  # only one line can be erased
            columns = os.get_terminal_size(2).columns
            _write(line[: columns - 1] if columns else line)
        else:
            _write(f"{line}\n")


class Beside:
    """The same beside a call that waits in the kernel: a process of its own shows the line.

    text: as in Awaited.
    """

    def __init__(self, text: str) -> None:
        self._text = text
        self._process: Spawned | None = None
        self._ours = -1

    def __enter__(self) -> None:
        if not _has_terminal():
            return
        theirs, self._ours = os.pipe()
        try:
            self._process = spawn.spawn(lambda: self._wait(theirs))
        except BaseException:
            os.close(self._ours)
            raise
        finally:
            os.close(theirs)

    def __exit__(self, *error: object) -> None:
        if self._process:
            # Not its end alone: what was started meanwhile may have a copy.
            _write("x", self._ours)
            os.close(self._ours)
            os.close(self._process.pidfd)
            nsfs.reap(self._process.pid)

    def _wait(self, theirs: int) -> None:
        spawn.close_others(2, theirs)
        with Awaited(self._text) as awaited:
            if not nsfs.wait_for(theirs, SILENT):
                awaited.show()
                nsfs.wait_for(theirs, None)


def _has_terminal() -> bool:
    return os.isatty(2)


def _can_erase() -> bool:
    return os.environ.get("TERM", "dumb") != "dumb"


def _write(text: str, descriptor: int = 2) -> None:
    """Write a text, if anybody can read it: that is not what the work depends on."""
    try:
        os.write(descriptor, text.encode(errors="replace"))
    except OSError:
        return
