"""How a command ended: with an exit code or by a signal; and the exit codes of the launcher.

Runs in any process. Must not know who waited, or how.
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

# The launcher's own exit codes; docs/reference/status.md and pyspaces-run(1) hold the same table.
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
    """The end of a command: either `code`, its exit status, or `signal`, the number of a signal."""

    code: int | None = None
    signal: int | None = None

    @classmethod
    def from_wait(cls, wait_status: int) -> Status:
        """Return the status for the status word of wait(2)."""
        if os.WIFSIGNALED(wait_status):
            return cls(signal=os.WTERMSIG(wait_status))
        return cls(code=os.WEXITSTATUS(wait_status))

    @property
    def ok(self) -> bool:
        """Whether the command exited with 0."""
        return self.code == 0

    @property
    def shell_code(self) -> int:
        """The value of $? in a shell: the code, or 128 + the signal."""
        return SIGNAL_BASE + self.signal if self.signal is not None else self.code or 0

    @property
    def python_code(self) -> int:
        """The value of `returncode` in `subprocess`: the code, or minus the signal."""
        return -self.signal if self.signal is not None else self.code or 0

    def __str__(self) -> str:
        if self.signal is not None:
            return f"ended by {signal_name(self.signal)}"
        return f"exited with {self.code}"


class Usage(Record):
    """The time, in seconds, and memory, in bytes, that a command used.

    wall: from exec to the end. user, system: CPU time, including children that it waited for.
    peak_memory: the maximum resident memory, from getrusage(2); the kernel includes what the
    process used before exec, so it is never less than `peak_floor`.
    """

    wall: float
    user: float
    system: float
    peak_memory: int
    peak_floor: int = 0


class Ended(Record):
    """How the command, process `pid`, ended, and which signal to the launcher ended it, if one did.

    timed_out: whether its time was over. killed: whether it had to be killed for that. lost: the
    helper process of the launch that died, for which the command was killed; else empty.
    """

    pid: int
    status: Status
    signal: int | None = None
    usage: Usage | None = None
    timed_out: bool = False
    killed: bool = False
    lost: str = ""

    @property
    def shell_code(self) -> int:
        """The exit status of the launcher."""
        if self.lost:
            return FAILED
        if self.killed:
            return SIGNAL_BASE + _signal.SIGKILL
        return TIMED_OUT if self.timed_out else self.status.shell_code


def signal_name(number: int) -> str:
    """Return the name of a signal: SIGTERM for 15, or `signal 34` if it has none."""
    names = (
        name
        for name, value in vars(_signal).items()
        if value == number and name.startswith("SIG") and not name.startswith("SIG_")
    )
    # Of two names, the first in the alphabet, as signal.Signals has it: SIGCHLD and SIGCLD.
    return min(names, default=f"signal {number}")


def signal_number(text: str) -> int:
    """Return the number of a signal: 15 for TERM, SIGTERM, term or 15. Raises ValueError."""
    name = text.upper().removeprefix("SIG")
    for known in _signal.valid_signals():
        if signal_name(known) == f"SIG{name}" or str(known) == text:
            return known
    raise ValueError(f"{text!r} is not a signal: use a name such as TERM, or a number")


def die_of(number: int) -> None:
    """End this process by signal `number`, with its default action, so that the caller sees it.

    Returns only if the kernel ignores the signal, as it does for process 1 of a pid namespace.
    """
    if number not in (_signal.SIGKILL, _signal.SIGSTOP):
        _signal.signal(number, _signal.SIG_DFL)
    _signal.pthread_sigmask(_signal.SIG_UNBLOCK, [number])
    os.kill(os.getpid(), number)
