"""A real terminal for tests: a program at one end of a pty, the test at the other."""

from __future__ import annotations

import os
import pty
import select
import signal

import pytest

LIMIT = 60  # seconds for what comes at once on an idle machine


def at_terminal(words: list[str]) -> tuple[int, int]:
    """Start a program as the leader of a session at a terminal; return pid and other end."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.execv(words[0], words)
    return pid, terminal


class Screen:
    """The other end of a terminal, read in order: what one wait has passed over, the next sees."""

    def __init__(self, words: list[str]) -> None:
        self.pid, self.terminal = at_terminal(words)
        self._unread = b""
        self.code: int | None = None
        self.device = ""  # its path, where the program has said it

    def expect(self, text: bytes) -> bytes:
        """Wait until `text` is shown; return what came before it."""
        while text not in self._unread:
            ready = select.select([self.terminal], [], [], LIMIT)[0]
            assert ready, f"{text!r} did not come after {self._unread!r}"
            try:
                self._unread += os.read(self.terminal, 4096)
            except OSError:  # EIO: nobody has the terminal open any more
                pytest.fail(f"the program ended; {text!r} did not come after {self._unread!r}")
        before, _, self._unread = self._unread.partition(text)
        return before

    def type(self, data: bytes) -> None:
        """Type at the keyboard."""
        os.write(self.terminal, data)

    def end(self) -> int:
        """Read to the end; return how the program ended, as subprocess would."""
        while True:
            try:
                self._unread += os.read(self.terminal, 4096)
            except OSError:
                break
        return self.wait()

    def wait(self) -> int:
        """Wait for the program; return how it ended, as subprocess would."""
        self.code = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        return self.code

    def close(self) -> None:
        """Release the terminal; end the program, if nobody has waited for it."""
        os.close(self.terminal)
        if self.code is None:
            os.kill(self.pid, signal.SIGKILL)
            self.wait()


class Shell(Screen):
    """An interactive bash, whose prompt is `ready> `."""

    def __init__(self) -> None:
        words = "/usr/bin/env", "PS1=ready> ", "TERM=dumb", "bash", "--norc", "--noprofile", "-i"
        super().__init__(list(words))

    def stop_job(self) -> None:
        """Type Ctrl-Z, and wait for the prompt."""
        self.type(b"\x1a")
        self.expect(b"Stopped")
        self.expect(b"ready> ")

    def continue_job(self) -> None:
        """Have fg continue a launch with --user; bash shows its words."""
        self.type(b"fg\n")
        self.expect(b"run --user")
        self.expect(b"\n")

    def tells_status(self, status: int) -> None:
        """Wait for the prompt, and for the exit status of what ended before it."""
        self.expect(b"ready> ")
        self.type(b"echo status=$?\n")
        self.expect(b"status=%d\r\n" % status)
        self.expect(b"ready> ")
