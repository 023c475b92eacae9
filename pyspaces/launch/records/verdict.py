"""Which limit has ended a command, if the way in which it ended shows that.

Runs in the parent. Loaded only if the command has limits.
"""

from __future__ import annotations

from pyspaces.kernel import constants
from pyspaces.launch.service import Service
from pyspaces.status import SIGNAL_BASE, signal_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from pyspaces.features.limits import Limits
    from pyspaces.plan import Plan
    from pyspaces.status import Ended

# The signals by which the kernel ends what has reached a limit: getrlimit(2), seccomp(2).
_TELLING = (constants.SIGXCPU, constants.SIGXFSZ, constants.SIGSYS)


class Verdict(Service):
    """The limit that has ended the command, for people and for the records."""

    task = "report the limit that was reached"

    def ended(self, ended: Ended) -> None:
        """Find the limit, and report it."""
        for name, text in reasons(self.launch.plan, ended):
            self.launch.limit = name
            self.launch.tell(text)
            return


def reasons(plan: Plan, ended: Ended) -> Iterator[tuple[str, str]]:
    """Yield each limit that explains the end of a command: its name, and a sentence."""
    number = ended.status.signal
    how = "the command was"
    if number is None and (ended.status.code or 0) - SIGNAL_BASE in _TELLING:
        # What a shell says of a process of its own.
        number = (ended.status.code or 0) - SIGNAL_BASE
        how = "a process of the command was probably"
    if number is None:
        return
    how = f"{how} ended by {signal_name(number)}"
    if number == constants.SIGSYS and plan.seccomp:
        yield "seccomp", f"{how}: the seccomp filter does not allow {plan.seccomp.deadly()}"
    yield from _of_rlimits(plan.limits, ended, number, how)


def _of_rlimits(limits: Limits, ended: Ended, number: int, how: str) -> Iterator[tuple[str, str]]:
    if number == constants.SIGXFSZ and (size := limits.limit("fsize")):
        yield "fsize", f"{how}: a file was to become larger than --rlimit {size} allows"
    if number == constants.SIGXCPU:
        for name, what in (("cpu", "CPU time"), ("rttime", "time without a break")):
            if time := limits.limit(name):
                yield name, f"{how}: its {what} reached the limit: --rlimit {time}"
    if number == constants.SIGKILL and (time := limits.limit("cpu")) and ended.usage:
        used = ended.usage.user + ended.usage.system
        # The kernel counts ticks for the limit, and time for what it tells us. On a busy virtual
        # machine a tick is often a part of one: seen were 0.94 s for 1, and less than 0.7.
        if time.hard is not None and 0 <= time.hard * 0.95 - 0.5 <= used:
            yield "cpu", f"{how}, probably: it had used {used:.1f} s of CPU time: --rlimit {time}"
