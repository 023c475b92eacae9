"""The clock of a command: how long it may run, and what happens then.

Runs in the parent. Loaded only if there is a time limit.
"""

from __future__ import annotations

import time

from pyspaces.launch.service import Service

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from pyspaces.plan import Plan
    from pyspaces.status import Ended

# What the set-up gets at least, in seconds, of a shorter time limit; it takes milliseconds.
_SET_UP = 1.0


class TimeLimit(Service):
    """The time limit of a launch, which counts from its beginning."""

    task = "report that the time was over"

    def open(self) -> None:
        """Set the clock."""
        launch, life = self.launch, self.launch.plan.life
        assert life.timeout is not None
        launch.clock = Clock(launch.begun + life.timeout, kill_after=life.kill_after)
        # A limit shorter than that is one for the command, which is then started and ended.
        launch.start_by = launch.begun + max(life.timeout, _SET_UP)

    def ended(self, ended: Ended) -> None:
        """Print a message if the time was over."""
        if ended.timed_out:
            self.launch.tell(_time_is_over(self.launch.plan, ended))


class Clock:
    """Decides when the command is asked to end, and when it is killed.

    deadline: when its time is over, by the monotonic clock. kill_after: the seconds that it then
    gets to end by itself; with 0 it is killed at once. is_over: whether the time was over. killed:
    whether it had to be killed. The caller calls `look_again` whenever `next_look` has come.
    """

    def __init__(self, deadline: float, *, kill_after: float) -> None:
        self._next: float | None = deadline
        self._kill_after = kill_after
        self.is_over = False
        self.killed = False

    def next_look(self) -> float | None:
        """Return when to call `look_again`; None if nothing is left to do."""
        return self._next

    def look_again(self, ask: Callable[[], object], kill: Callable[[], object]) -> None:
        """Call `ask` when the time is over, and `kill` if that does not help in time."""
        now = time.monotonic()
        if self._next is None or now < self._next:
            return
        if self._kill_after and not self.is_over:
            self.is_over, self._next = True, now + self._kill_after
            ask()
        else:
            self.is_over, self.killed, self._next = True, True, None
            kill()


def _time_is_over(plan: Plan, ended: Ended) -> str:
    wall = ended.usage.wall if ended.usage else 0.0
    limit = plan.life.timeout or 0.0
    what = "it was killed" if ended.killed else "it was sent SIGTERM"
    return f"the command ran for {wall:.1f} s, and its time is {limit:g} s: {what}"
