"""Signals around a launch: what the command inherits, and what the launcher passes on.

`Inherited.restore_inner` runs in the child, everything else in the parent. Must not know a Plan.
"""

from __future__ import annotations

import os
import signal
import struct

from pyspaces.kernel import constants, libc, procfs
from pyspaces.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType

# Asked to end by one of these, a command that is pid 1 and takes no notice is killed.
ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
FORWARDED = (*ENDING, signal.SIGUSR1, signal.SIGUSR2)

# Python ignores these at its start; the command must find them as the caller of Python had them.
# Whether the caller ignored them cannot be known any more, and hardly anybody does.
_IGNORED_BY_PYTHON = (signal.SIGPIPE, signal.SIGXFSZ)
# Made once: each call turns sixty numbers into enums. The C library keeps two signals to itself;
# of the others, a process chooses the action of all but two.
_ALL = frozenset(int(number) for number in signal.valid_signals())
_KNOWN = _ALL - {signal.SIGKILL, signal.SIGSTOP}


class Inherited(Record):
    """What the caller gave to this process and the command must get: mask and ignored signals."""

    mask: frozenset[int]
    ignored: frozenset[int]

    @classmethod
    def capture(cls) -> Inherited:
        """Read the state of this process, before the launcher changes any of it."""
        return cls(
            mask=frozenset(signal.pthread_sigmask(signal.SIG_BLOCK, ())),
            ignored=frozenset(_ignored().difference(_IGNORED_BY_PYTHON)),
        )

    def restore_inner(self) -> None:
        """Give this process the captured state, handlers gone, right before exec.

        Handlers first, mask last: a signal that arrived during set-up then does what it would
        have done to the command.
        """
        for number in _KNOWN:
            if number in self.ignored:
                signal.signal(number, signal.SIG_IGN)
            elif signal.getsignal(number) not in (signal.SIG_DFL, None):
                signal.signal(number, signal.SIG_DFL)
        self.restore_mask_inner()

    def restore_mask_inner(self) -> None:
        """Give this process the captured mask only: a Python function keeps Python's handlers."""
        signal.pthread_sigmask(signal.SIG_SETMASK, self.mask)


def _ignored() -> set[int]:
    """Return what this process ignores, by one read where getsignal() takes sixty calls."""
    text = procfs.status_field("self", "SigIgn")
    if text is None:
        return {number for number in _KNOWN if signal.getsignal(number) == signal.SIG_IGN}
    bits = int(text, 16)
    return {number for number in _KNOWN if bits >> (number - 1) & 1}


class Blocked:
    """Context in which this thread takes no signal; what arrives waits until the end."""

    def __enter__(self) -> None:
        self._mask = signal.pthread_sigmask(signal.SIG_BLOCK, _ALL)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        signal.pthread_sigmask(signal.SIG_SETMASK, self._mask)


class Received(Record):
    """A signal sent to the launcher, and whether a process sent it (the terminal sends to all)."""

    number: int
    from_process: bool


class Reader:
    """Context in which the signals of FORWARDED are read, one by one, from a descriptor.

    SIGCHLD gets its default action meanwhile: ignored (as some callers leave it) it would make
    the kernel throw the command's status away. Only for the main thread of a program that waits
    for nothing else, such as the command line.
    """

    def __enter__(self) -> Reader:
        self._descriptor = libc.signalfd(FORWARDED)
        self._mask = signal.pthread_sigmask(signal.SIG_BLOCK, FORWARDED)
        self._action = signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        os.close(self._descriptor)
        # None: a handler that was not installed from Python, which cannot be put back.
        if self._action is not None:
            signal.signal(signal.SIGCHLD, self._action)
        signal.pthread_sigmask(signal.SIG_SETMASK, self._mask)

    def fileno(self) -> int:
        """Return the descriptor, for poll(2)."""
        return self._descriptor

    def read(self) -> Received | None:
        """Return the next signal that waits, or None."""
        try:
            data = os.read(self._descriptor, constants.SIGNALFD_SIGINFO_SIZE)
        except BlockingIOError:
            return None
        # struct signalfd_siginfo: ssi_signo, ssi_errno, ssi_code are its first three words. A
        # positive code is the kernel's (SI_KERNEL for the terminal), the others a process's.
        number, _, code = struct.unpack_from("Iii", data)
        return Received(number=number, from_process=code <= 0)


def send(pidfd: int, number: int) -> None:
    """Send signal `number` to the process behind `pidfd`; one that has ended is no error."""
    try:
        signal.pidfd_send_signal(pidfd, number)
    except ProcessLookupError:
        return


def is_lost_on(process: int, number: int) -> bool:
    """Tell whether pid 1 of a namespace drops signal `number`: pid_namespaces(7).

    process: its pid as /proc numbers it. The kernel discards a signal for which pid 1 has no
    handler. One that it blocks waits (an init reads it from a signalfd), one that it ignores is
    its own decision; those are not lost.
    """
    masks = (procfs.status_field(process, name) for name in ("SigBlk", "SigIgn", "SigCgt"))
    return not any(int(mask or "0", 16) >> (number - 1) & 1 for mask in masks)
