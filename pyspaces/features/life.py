"""The life of a command: how it is tied to its launcher, how long it may run, where that is told.

Pure; runs in any process. Plain data that any command which starts a process can carry.
"""

from __future__ import annotations

from pyspaces.kernel import constants
from pyspaces.kernel.libc import c_string_fault
from pyspaces.record import Record, told

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

KILL_AFTER = 10.0
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_LONGEST = 100 * 365 * 86400.0


class Life(Record):
    """How the launcher looks after its command.

    kill_child: the signal that the command gets when the thread that launched it ends, or None.
    init: whether our own process 1 reaps and forwards. init_wait: whether it waits for every
    process of the namespace. in_place: whether the launcher
    becomes the command.
    new_session: whether the command leads a session without a terminal. pty: whether it gets a
    terminal of its own. timeout: how many seconds it may run, None without limit. kill_after: how
    many seconds after the first signal it is killed.
    """

    kill_child: int | None = constants.SIGKILL
    init: bool = False
    init_wait: bool = False
    in_place: bool = False
    new_session: bool = False
    pty: bool = False
    timeout: float | None = None
    kill_after: float = KILL_AFTER

    @property
    def own_session(self) -> bool:
        """Tell whether what the caller's terminal sends does not reach the command by itself."""
        return self.new_session or self.pty

    def faults(self) -> Iterator[str]:
        """Yield what is wrong, a line each."""
        if self.kill_child is not None and not 1 <= self.kill_child <= constants.SIGNAL_MAX:
            yield f"kill-child: {self.kill_child}: is not a signal"
        if self.init_wait and not self.init:
            yield "init-wait: needs --init"
        if self.timeout is not None and not 0 < self.timeout <= _LONGEST:
            yield f"timeout: {self.timeout:g} s: is not more than 0 and up to 100 years"
        if not 0 <= self.kill_after <= _LONGEST:
            yield f"kill-after: {self.kill_after:g} s: is not between 0 and 100 years"
        if self.pty and self.new_session:
            yield "new-session: comes with --pty, which gives the new session a terminal"
        if self.in_place:
            yield from self._faults_in_place()

    def _faults_in_place(self) -> Iterator[str]:
        rows = (
            (self.init, "init", "process 1 is a child of the launcher"),
            (self.pty, "pty", "somebody has to relay what the terminal reads and writes"),
            (self.new_session, "new-session", "the leader of a process group cannot begin one"),
            (self.timeout is not None, "timeout", "somebody has to watch the clock"),
        )
        for used, setting, why in rows:
            if used:
                yield f"no-fork: cannot be combined with --{setting}: {why}"


class Outputs(Record):
    """Where the launcher tells machines and people what became of a command.

    status_fd: number of an open descriptor that the caller gave, for the status record.
    status_file: the file for it. pid_file: the file that holds the pid while the command runs.
    report: whether people get a summary at the end. overlay_diff: the file for what the command
    changed in overlays whose changes vanish; JSON where its name ends in .json, else text.
    """

    status_fd: int | None = None
    status_file: str | None = None
    pid_file: str | None = None
    report: bool = False
    overlay_diff: str | None = None

    def __bool__(self) -> bool:
        return self != Outputs()

    def used(self) -> tuple[str, ...]:
        """Return the names of the options that are in use."""
        return tuple(
            name.replace("_", "-")
            for name in self._fields
            if getattr(self, name) not in (None, False)
        )

    def faults(self) -> Iterator[str]:
        """Yield what is wrong with the values by themselves, a line each."""
        if self.status_fd is not None and self.status_fd < 0:
            yield f"status-fd: {self.status_fd}: is not a descriptor"
        for field in ("status_file", "pid_file", "overlay_diff"):
            name, path = field.replace("_", "-"), getattr(self, field)
            if path is not None and (fault := c_string_fault(path)):
                yield f"{name}: {path!r}: {fault}"
            if path == "":
                yield f"{name}: a path cannot be empty"


def seconds_of(text: str) -> float:
    """Read a duration such as 90, 1.5s, 2m, 1h or 1d. Raises ValueError saying why not."""
    unit = text[-1:] if text[-1:] in _UNITS else ""
    number = text.removesuffix(unit) if unit else text
    whole, _, fraction = number.partition(".")
    digits = whole + fraction
    if not (digits.isascii() and digits.isdecimal()) or len(whole) > 12:
        raise ValueError(
            f"{text[:40]!r} is not a duration: a number that is not negative, and s, m, h or d"
        )
    return float(number) * _UNITS.get(unit, 1)


def limit_of(timeout: object) -> float | None:
    """Return how many seconds a caller wants to wait, or None. Raises TypeError and ValueError."""
    if timeout is None:
        return None
    if isinstance(timeout, bool) or not isinstance(timeout, int | float):
        raise TypeError(f"timeout: has to be a number of seconds or None, and is {told(timeout)}")
    if timeout != timeout:  # noqa: PLR0124 - the one number that is not itself
        raise ValueError("timeout: has to be a number of seconds or None, and is none")
    return float(max(min(timeout, _LONGEST), -1))


def signal_of(number: object) -> int:
    """Return the number of a signal that a caller sends. Raises TypeError and ValueError."""
    if isinstance(number, bool) or not isinstance(number, int):
        raise TypeError(f"signal: has to be a number, and is {told(number)}")
    if not 0 <= number <= constants.SIGNAL_MAX:
        raise ValueError(f"signal: {told(number)}: is not a signal")
    return int(number)
