"""A terminal of its own for the command: pty(7).

`attach_inner` runs in the child, everything else in the parent. Must not know a Plan.
"""

from __future__ import annotations

import errno
import fcntl
import os
import termios

from pyspaces.kernel import nsfs
from pyspaces.kernel.libc import KernelError, Naming

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_SIZE = b"\0" * 8  # struct winsize
_RAW_INPUT = (
    *(termios.IGNBRK, termios.BRKINT, termios.PARMRK, termios.ISTRIP),
    *(termios.INLCR, termios.IGNCR, termios.ICRNL, termios.IXON),
)
_RAW_LOCAL = (termios.ECHO, termios.ECHONL, termios.ICANON, termios.ISIG, termios.IEXTEN)


class Pty:
    """The two ends of a new terminal; owns both descriptors.

    `main` is the launcher's end, `other` the command's. The launcher keeps both open: to see
    whether its input was read, and to read what is left when all other processes have ended.
    """

    def __init__(self) -> None:
        self.main, self.other = _open()
        self._copied: list[Any] | None = None
        try:
            source = outer_terminal()
            if source is not None:
                self.copy_size(source)
                self._copied = termios.tcgetattr(source)
                termios.tcsetattr(self.other, termios.TCSANOW, self._copied)
        except BaseException:
            self.close()
            raise

    def correct(self, modes: list[Any]) -> None:
        """Set the modes that the caller's terminal has now, unless those inside have set others.

        In the background, those of the beginning were the shell's, while it read a line.
        """
        if self._copied not in (None, modes) and self.attributes() == self._copied:
            termios.tcsetattr(self.other, termios.TCSANOW, modes)

    def copy_size(self, source: int) -> None:
        """Copy the window size of terminal `source`; the kernel sends SIGWINCH inside."""
        size = fcntl.ioctl(source, termios.TIOCGWINSZ, _SIZE)
        fcntl.ioctl(self.other, termios.TIOCSWINSZ, size)

    def has_unread(self) -> bool:
        """Return whether there is typed input that no process inside has read yet."""
        return nsfs.is_readable(self.other)

    @property
    def device(self) -> int:
        """The device number of the command's end, as os.stat has it."""
        return os.fstat(self.other).st_rdev

    def attributes(self) -> list[Any]:
        """Return the modes that those inside have set: tcgetattr of termios(3)."""
        return termios.tcgetattr(self.other)

    def foreground(self) -> int:
        """Return the foreground process group, as this process sees its ID; 0 if none.

        On this end TIOCGPGRP works for every holder, and translates for the caller (pid_vnr).
        """
        try:
            return os.tcgetpgrp(self.main)
        except OSError:
            return 0

    def end_of_input(self) -> bytes:
        """Return the character that stands for the end of input."""
        return bytes(termios.tcgetattr(self.other)[6][termios.VEOF])

    def attach_inner(self) -> None:
        """Begin a session with this terminal as its controlling terminal and standard streams."""
        with Naming("setsid"):
            os.setsid()
        with Naming("ioctl TIOCSCTTY"):
            fcntl.ioctl(self.other, termios.TIOCSCTTY, 0)
        for stream in (0, 1, 2):
            os.dup2(self.other, stream)

    def close(self) -> None:
        """Release both ends; more than once is fine."""
        for descriptor in (self.main, self.other):
            if descriptor >= 0:
                os.close(descriptor)
        self.main = self.other = -1


def fill_streams() -> None:
    """Open /dev/null for each standard stream that is closed.

    Otherwise the next files to be opened would get these numbers, be relayed, and be replaced in
    the child.
    """
    for stream in (0, 1, 2):
        try:
            os.fstat(stream)
        except OSError:
            os.open("/dev/null", os.O_RDWR)  # gets the lowest number that is free


def outer_terminal() -> int | None:
    """Return the standard stream of this process that is a terminal, or None."""
    return next((stream for stream in (0, 1, 2) if os.isatty(stream)), None)


def raw_mode(attributes: list[Any]) -> list[Any]:
    """Return attributes with which every byte passes unchanged: cfmakeraw of termios(3)."""
    raw = [*attributes[:6], list(attributes[6])]
    raw[0] &= ~sum(_RAW_INPUT)
    raw[1] &= ~termios.OPOST
    raw[2] = raw[2] & ~(termios.CSIZE | termios.PARENB) | termios.CS8
    raw[3] &= ~sum(_RAW_LOCAL)
    raw[6][termios.VMIN], raw[6][termios.VTIME] = 1, 0
    return raw


def _open() -> tuple[int, int]:
    try:
        main, other = os.openpty()
    except OSError as error:
        raise KernelError(error.errno or errno.ENXIO, "openpty", [], "/dev/ptmx") from None
    # Never below 3: if a standard stream is closed, the descriptor would be taken for it.
    main, other = (_above_streams(descriptor) for descriptor in (main, other))
    os.set_blocking(main, False)
    return main, other


def _above_streams(descriptor: int) -> int:
    if descriptor > 2:
        return descriptor
    higher = fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, 3)
    os.close(descriptor)
    return higher
