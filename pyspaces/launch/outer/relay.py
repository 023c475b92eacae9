"""The relay between the caller's standard streams and the terminal of the command.

Runs in the parent, driven by `watch`. Loaded only with a terminal of its own. Never blocks: each
read and write is of a descriptor that poll(2) has named.
"""

from __future__ import annotations

import errno
import os
import select
import termios
import time

from pyspaces.features.terminal import outer_terminal, raw_mode
from pyspaces.kernel import procfs
from pyspaces.kernel.libc import KernelError
from pyspaces.launch import signals
from pyspaces.launch.outer import readers, sentinel
from pyspaces.launch.outer.ending import discard
from pyspaces.launch.outer.keys import Keys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from typing import Any

    from pyspaces.features.terminal import Pty
    from pyspaces.kernel.spawn import Spawned
    from pyspaces.launch.signals import Reader

# What one read takes, and what may wait for a side that does not read. A pipe that poll(2) names
# takes PIPE_BUF bytes without blocking.
_PIECE = 4096
_WAITING = 16 * _PIECE
_LEFT = 64 * _PIECE
# How long after the end of input we look whether the command wants more, at first and at most.
_FIRST_LOOK, _LAST_PAUSE = 0.01, 0.25
# How long somebody inside has to wait for something before it is taken to be the input.
_PATIENCE = 0.5


class Relay:
    """Copies both ways until the command ends; the caller's terminal is raw meanwhile.

    expect: called with the number of a signal right before the command's terminal sends it to the
    command's own process group; set by the watch. is_in_background: whether the caller's
    terminal was to be used and is another's, so that this process should stop.
    """

    def __init__(self, pty: Pty, child: Spawned) -> None:
        self._pty = pty
        self._child = child
        self._keys = Keys()
        self._outer = outer_terminal()
        self._saved: list[Any] | None = None
        self._input, self._output = 0, 1
        self._own: list[int] = []
        self._suspended = False
        self.is_in_background = False
        self._guard: Spawned | None = None
        self._reading = True  # until the end of input
        self._writing = True  # until nobody reads the output any more
        self._to_command = b""
        self._to_caller = b""
        self._look: float | None = None
        self._pause = _FIRST_LOOK
        self._waiting_since: float | None = None
        self.expect: Callable[[int], object] | None = None
        self.hung_up = False
        self._open_output()
        self.resume()

    # --- the caller's terminal ----------------------------------------------------------------

    def resume(self) -> None:
        """Make the caller's terminal raw, if it is the input; also after a stop.

        In the background it is the shell's: `is_in_background` then says so.
        """
        self.resize()
        self._suspended = False
        if not os.isatty(self._input):
            return
        self.is_in_background = not self._is_in_foreground()
        if self.is_in_background:
            self._suspended = True
            return
        try:
            attributes = termios.tcgetattr(self._input)
            if self._saved is None:
                self._saved = attributes
                self._pty.correct(attributes)
                self._start_guard(attributes)
            termios.tcsetattr(self._input, termios.TCSADRAIN, raw_mode(self._saved))
        except termios.error:
            self._saved = None

    def _start_guard(self, saved: list[Any]) -> None:
        """Start a process that puts it back if we are killed."""
        if self._guard is None:
            self._guard = sentinel.start_guard(self._input, saved)

    def suspend(self) -> None:
        """Give the caller's terminal back as it was, and read no input until `resume`."""
        self._suspended = True
        self.is_in_background = False
        if self._saved is None:
            return
        try:
            termios.tcsetattr(self._input, termios.TCSADRAIN, self._saved)
        except termios.error:
            return

    def give_up_input(self) -> None:
        """Read no more: this process will never be in the foreground."""
        self._suspended = False
        self._end_of_reading()

    def _is_in_foreground(self) -> bool:
        try:
            return os.tcgetpgrp(self._input) == os.getpgrp()
        except OSError:  # not our controlling terminal: its owner may use it
            return True

    def resize(self) -> None:
        """Pass the window size on; the kernel informs the processes inside."""
        if self._outer is not None:
            try:
                self._pty.copy_size(self._outer)
            except OSError:
                self._outer = None

    # --- for the watch ------------------------------------------------------------------------

    def interests(self) -> Iterator[tuple[int, int]]:
        """Yield what to wait for, as poll(2) takes it."""
        if self._reading and not self._suspended and len(self._to_command) < _WAITING:
            yield self._input, select.POLLIN
        if self._writing and self._to_caller:
            yield self._output, select.POLLOUT
        events = select.POLLOUT if self._to_command else 0
        if len(self._to_caller) < _WAITING:
            events |= select.POLLIN
        if events:
            yield self._pty.main, events

    def next_look(self) -> float | None:
        """Return when there is something to do although nothing has happened."""
        return self._look

    def move(self, ready: Sequence[tuple[int, int]]) -> None:
        """Copy what can be copied now."""
        events = dict(ready)
        if self._input in events:
            self._read_input()
        if events.get(self._pty.main, 0) & ~select.POLLOUT:
            self._read_command()
        self._write_command()
        # Whatever came of it: most output fits at once.
        self._write_caller()
        if self._look is not None and time.monotonic() >= self._look:
            self._end_input()

    def finish(self, reader: Reader | None) -> None:
        """Pass on what the command has left, then give the terminal back.

        A signal that asks us to end cuts it short: the output may be a pipe that nobody reads.
        """
        # No more than a terminal holds: what is left in the background may write for ever.
        for _ in range(_LEFT // _PIECE):
            if not (self._read_command() or self._to_caller):
                break
            self._write_caller()
            if self._to_caller and self._is_cut_short(reader):
                break
        self.close()

    def _is_cut_short(self, reader: Reader | None) -> bool:
        """Wait until the output takes more; return whether we were asked to end meanwhile."""
        poller = select.poll()
        poller.register(self._output, select.POLLOUT)
        if reader:
            poller.register(reader.fileno(), select.POLLIN)
        poller.poll()
        signal = reader.read() if reader else None
        return signal is not None and signal.number in signals.ENDING

    def close(self) -> None:
        """Give the caller's terminal back and release what is ours; more than once is fine."""
        self.suspend()
        self._saved = None
        if self._guard:
            discard(self._guard)
            self._guard = None
        for descriptor in self._own:
            os.close(descriptor)
        self._own.clear()
        self._pty.close()

    # --- the copying --------------------------------------------------------------------------

    def _open_output(self) -> None:
        """Write to a terminal through a description of our own, which need not block.

        That of the standard stream is shared with others, which expect it to block.
        """
        if os.isatty(self._output):
            flags = os.O_WRONLY | os.O_NOCTTY | os.O_NONBLOCK | os.O_CLOEXEC
            try:
                self._output = os.open(f"/proc/self/fd/{self._output}", flags)
            except OSError:
                return
            self._own.append(self._output)

    def _read_input(self) -> None:
        try:
            data = os.read(self._input, _PIECE)
        except OSError:
            # With SIGTTIN blocked, reading in the background fails: read(2). Else the terminal has
            # gone, or the caller has closed it.
            self.is_in_background = os.isatty(self._input) and not self._is_in_foreground()
            if self.is_in_background:
                return
            data = b""
        if data:
            self._to_command += data
        else:
            self._end_of_reading()

    def _end_of_reading(self) -> None:
        self._reading = False
        self._look = time.monotonic()

    def _write_command(self) -> None:
        while self._to_command:
            attributes = self._pty.attributes()
            length, number = self._keys.split(self._to_command, attributes)
            # The child leads a session, so that its group has its number, and keeps it.
            if not length and self.expect and self._pty.foreground() == self._child.pid:
                self.expect(number)
            try:
                written = os.write(self._pty.main, self._to_command[: length or 1])
            except BlockingIOError:
                return
            except OSError:
                self._to_command = b""
                return
            self._keys.wrote(self._to_command[:written], attributes)
            self._to_command = self._to_command[written:]
            if written < length:
                return

    def _end_input(self) -> None:
        """End the input, again for each process that reads on.

        A terminal has no end: the character VEOF makes one read return nothing. It waits until
        what was typed has been read and somebody waits for more, or a program that changes the
        mode meanwhile would take it for a byte; and it comes again for the next who reads, as the
        end of a file would.
        """
        self._pause = min(self._pause * 2, _LAST_PAUSE)
        if not self._to_command and not self._pty.has_unread() and self._is_awaited():
            self._to_command = self._pty.end_of_input()
            self._write_command()
        self._look = time.monotonic() + self._pause

    def _is_awaited(self) -> bool:
        """Return whether a process inside reads the terminal, or has seemed to for some time."""
        try:
            process = procfs.pid_of_pidfd(self._child.pidfd)
        except KernelError:
            return False
        found = readers.look(process, self._pty.device)
        now = time.monotonic()
        if found != readers.PERHAPS:
            self._waiting_since = None
        elif self._waiting_since is None:
            self._waiting_since = now
        return found == readers.READING or (
            self._waiting_since is not None and now - self._waiting_since >= _PATIENCE
        )

    def _read_command(self) -> bool:
        """Read what the command has written; return whether there was anything."""
        if len(self._to_caller) >= _WAITING:
            return False
        try:
            data = os.read(self._pty.main, _PIECE)
        except OSError:  # nothing now (EAGAIN), or nobody inside has the terminal open (EIO)
            return False
        if self._writing:
            self._to_caller += data
        return bool(data)

    def _write_caller(self) -> None:
        while self._to_caller and self._writing and self._takes_output():
            try:
                written = os.write(self._output, self._to_caller[:_PIECE])
            except BlockingIOError:
                return
            except OSError as error:
                # Nobody reads any more: for the command that is a terminal which hangs up.
                self._writing = False
                self._to_caller = b""
                self.hung_up = error.errno == errno.EPIPE
                return
            self._to_caller = self._to_caller[written:]

    def _takes_output(self) -> bool:
        poller = select.poll()
        poller.register(self._output, select.POLLOUT)
        return bool(poller.poll(0))
