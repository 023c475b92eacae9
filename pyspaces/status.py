"""How a command ended: with a code or by a signal, never both; and the table of exit codes.

Runs in any process. Must not know who waited.
"""

from __future__ import annotations

import os

from pyspaces.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal as _signal
else:
    # What `signal` is made of, without its enums: these cost 3 ms, with enum and functools. The
    # numbers and what the calls return are plain ints here.
    import _signal

# The launcher's own exit codes; README "Exit status" and pyspaces-run(1) hold the same table.
USAGE = 2
TIMED_OUT = 124
FAILED = 125
CANNOT_EXECUTE = 126
NOT_FOUND = 127
SIGNAL_BASE = 128

SIGPIPE: int = _signal.SIGPIPE
# The signals that people send, as options name them.
SIGNAL_NAMES = ("TERM", "KILL", "INT", "HUP", "QUIT", "USR1", "USR2")


class Status(Record):
    """The end of a command: `code` is its exit status, `signal` the number that ended it.

    Exactly one of the two is set.
    """

    code: int | None = None
    signal: int | None = None

    @classmethod
    def from_wait(cls, wait_status: int) -> Status:
        """Read the status word of wait(2)."""
        if os.WIFSIGNALED(wait_status):
            return cls(signal=os.WTERMSIG(wait_status))
        return cls(code=os.WEXITSTATUS(wait_status))

    @property
    def ok(self) -> bool:
        """Tell whether the command exited with 0."""
        return self.code == 0

    @property
    def shell_code(self) -> int:
        """The number that a shell would show in $?: the code, or 128 + the signal."""
        return SIGNAL_BASE + self.signal if self.signal is not None else self.code or 0

    @property
    def python_code(self) -> int:
        """The number that `subprocess` would give as returncode: the code, or minus the signal."""
        return -self.signal if self.signal is not None else self.code or 0

    def __str__(self) -> str:
        if self.signal is not None:
            return f"ended by {signal_name(self.signal)}"
        return f"exited with {self.code}"


class Usage(Record):
    """What a command used: seconds of time, and bytes of memory.

    wall: from exec to the end. user, system: of the processor, with that of the children that it
    waited for. peak_memory: the most that it had resident at once, as getrusage(2) has it: the
    kernel counts what the process had before exec, so that it is never less than `peak_floor`.
    """

    wall: float
    user: float
    system: float
    peak_memory: int
    peak_floor: int = 0


def signal_name(number: int) -> str:
    """Return SIGTERM for 15; the number as text where it has no name."""
    names = (
        name
        for name, value in vars(_signal).items()
        if value == number and name.startswith("SIG") and not name.startswith("SIG_")
    )
    # Of two names, the first in the alphabet, as signal.Signals has it: SIGCHLD and SIGCLD.
    return min(names, default=f"signal {number}")


def signal_number(text: str) -> int:
    """Return 15 for TERM, SIGTERM, term or 15. Raises ValueError saying why not."""
    name = text.upper().removeprefix("SIG")
    for known in _signal.valid_signals():
        if signal_name(known) == f"SIG{name}" or str(known) == text:
            return known
    raise ValueError(f"{text!r} is not a signal: a name such as TERM, or a number")


def die_of(number: int) -> None:
    """End this process by signal `number`, with its default action, so that the caller sees why.

    Returns only where the kernel ignores the signal, as it does for pid 1 of a namespace.
    """
    if number not in (_signal.SIGKILL, _signal.SIGSTOP):
        _signal.signal(number, _signal.SIG_DFL)
    _signal.pthread_sigmask(_signal.SIG_UNBLOCK, [number])
    os.kill(os.getpid(), number)
