"""The rule about process 1 of a pid namespace: if it would drop a signal to end, it is killed.

Runs in the parent. The kernel drops a signal to process 1 that it has no handler for:
pid_namespaces(7). A caller that asks a command to end does not know that, so this module does it.

The rule: look before sending. What then has a handler for the signal, ignores it or waits for it is
left alone for good. A look after the sending alone is wrong: a program that has caught the signal
may be on its way out, its handlers taken down, and would be killed in the middle of its clean-up
(seen with Python: exit status 33 became 143).

A program that is executed meanwhile is not the one that had the handler, and the kernel has dropped
the signal: in the middle of execve(2), a handler is there and never runs. So whatever had a handler
is looked at until the signal is delivered (seen with `sh -c '...; exec sleep 5'`: 10 of 250 Ctrl-C
on a busy machine were lost).

Before what the terminal sends, nobody can look. A process then seen without a handler gets a
moment to end by itself, as it does if it is on its way out; one that has not slept since gets as
much time of the processor, however long others keep that from it.
"""

from __future__ import annotations

import os
import time

from pyspaces.kernel import processes, procfs
from pyspaces.kernel.libc import KernelError
from pyspaces.launch import fates, signals

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyspaces.launch.signals import Group

# How long after a signal that process 1 keeps blocked we look again, at first and at most.
_FIRST_LOOK, _LAST_PAUSE = 0.005, 0.25
# How many looks in a row have to find a signal blocked and not pending before process 1 is believed
# to have read it: a shell that forks all the time is not always seen unblocked at the first.
_UNSURE_LOOKS = 12
# What one gets that has had a handler for the same signal within so many seconds before: it is on
# its way out, as when timeout(1) sends a signal to its child and then to the group.
_ON_ITS_WAY, _RECENT = 1.0, 10.0


class Process1:
    """Process 1 of a pid namespace, and the signals that it was asked to end by.

    killed_for: the signal that it had to be killed for; None if it was not. The caller of `send`
    and its kin calls `look_again` whenever `next_look` has come.
    """

    def __init__(self, pidfd: int) -> None:
        self._pidfd = pidfd
        self._looks: dict[int, tuple[float, float]] = {}  # signal: when to look, and the pause
        self._unsure: dict[int, int] = {}  # signal: how many looks in a row did not tell
        self._taken: dict[int, float] = {}  # signal: when it was last seen to be taken
        self._kills: dict[int, float] = {}  # signal: when to kill what has not ended by then
        self._ways: dict[int, float] = {}  # signal: what one on its way out may have run by then
        self._handlers: dict[int, object] = {}  # signal: the program image that has a handler
        self.killed_for: int | None = None

    def send(self, number: int, *, group: Group | None = None, grace: float = 0.0) -> None:
        """Send a signal, and kill the process for it if it is one to end and would be dropped.

        group: the process group that gets it, if not this process alone. grace: seconds for which
        a process that drops it may still end by itself.
        """
        ends = number in signals.ENDING
        if ends:
            self._note_handler(number)
        if group:
            group.send(number)
        else:
            signals.send(self._pidfd, number)
        if ends:
            self._unsure.pop(number, None)
            self._judge(number, _FIRST_LOOK, grace)

    def sent(self, number: int) -> None:
        """Judge a signal that the terminal has sent to the whole group: look once, at once."""
        if number in signals.ENDING:
            self._judge(number, _FIRST_LOOK, signals.GRACE)

    def expect(self, number: int) -> None:
        """Look before a terminal sends a signal, which it does a moment later, on its own."""
        # The look is the one before sending; the next one comes when it has been sent.
        if number in signals.ENDING:
            self._note_handler(number)
            self._looks[number] = (time.monotonic() + _FIRST_LOOK * 2, _FIRST_LOOK)

    def next_look(self) -> float | None:
        """Return when to call `look_again`, by the monotonic clock; None if all is decided."""
        if not self._looks and not self._kills:
            return None
        return min([*[look for look, _ in self._looks.values()], *self._kills.values()])

    def look_again(self) -> None:
        """Look again at what is undecided, and kill if it is time."""
        now = time.monotonic()
        for number, (look, pause) in list(self._looks.items()):
            if look <= now:
                self._judge(number, min(pause * 2, _LAST_PAUSE), 0.0)
        for number, moment in list(self._kills.items()):
            if moment <= now and self._runs(self._ways[number]):
                self._kills[number] = now + _FIRST_LOOK
            elif moment <= now:
                self._kill_for(number)

    def _runs(self, until: float) -> bool:
        """Return whether the process runs, or waits to, and has run for less than that.

        On a busy machine, Python on its way out took longer than the moment that it had (seen:
        exit status 33 became 130).
        """
        fields = self._stat()
        return bool(fields) and fields[0] in "RD" and _time_of(fields) < until

    def _stat(self) -> list[str]:
        try:
            return procfs.stat_fields(procfs.pid_of_pidfd(self._pidfd)) or []
        except KernelError:
            return []

    def hasten(self) -> None:
        """Kill at once what has only a moment left: it has stopped, or is about to stop us."""
        for number in list(self._kills):
            self._kill_for(number)

    def _look(self, number: int) -> str:
        """Return what becomes of a signal, as `fates.fate_on` does, and note if it is taken."""
        try:
            fate = fates.fate_on(procfs.pid_of_pidfd(self._pidfd), number)
        except KernelError:
            fate = fates.TAKEN
        if fate == fates.TAKEN:
            self._taken[number] = time.monotonic()
        return fate

    def _judge(self, number: int, pause: float, grace: float) -> None:
        self._looks.pop(number, None)
        had_handler = self._handlers.pop(number, None)
        image = had_handler or self._image()  # before the look, or it may be the next one's
        fate = self._look(number)
        if fate == fates.TAKEN:
            self._await_delivery(number, pause, image)
            return
        if had_handler is not None:
            if had_handler == self._image():
                return  # it has run its handler, and taken it down
            self._taken.pop(number, None)
        if fate == fates.DEFAULT:
            if time.monotonic() - self._taken.get(number, -_RECENT) < _RECENT:
                grace = max(grace, _ON_ITS_WAY)
            # The verdict stands: a process that sets a handler up now is not on its way out.
            self._kills.setdefault(number, time.monotonic() + grace)
            self._ways.setdefault(number, _time_of(self._stat()) + grace)
            if not grace:
                self._kill_for(number)
        # While Python, for example, starts a program it blocks every signal, as dash does around a
        # fork; what came meanwhile is dropped when it unblocks them.
        elif fate == fates.BLOCKED:
            self._unsure[number] = 0
            self._looks[number] = (time.monotonic() + pause, pause)
        elif fate == fates.UNSURE:
            self._unsure[number] = self._unsure.get(number, 0) + 1
            if self._unsure[number] < _UNSURE_LOOKS:
                self._looks[number] = (time.monotonic() + _FIRST_LOOK, _FIRST_LOOK)

    def _note_handler(self, number: int) -> None:
        """Look before a signal is sent."""
        image = self._image()
        self._handlers.pop(number, None)
        if self._look(number) == fates.TAKEN:
            self._handlers[number] = image

    def _await_delivery(self, number: int, pause: float, image: object) -> None:
        """Look again at what has a handler and has not run it: it may be executing a program."""
        try:
            undelivered = fates.is_undelivered(procfs.pid_of_pidfd(self._pidfd), number)
        except KernelError:
            return
        if undelivered or self._image() != image:
            self._handlers[number] = image
            self._looks[number] = (time.monotonic() + pause, pause)

    def _image(self) -> object:
        try:
            return processes.image_of(procfs.pid_of_pidfd(self._pidfd))
        except KernelError:
            return None

    def _kill_for(self, number: int) -> None:
        self._kills.clear()
        self._looks.clear()
        if self.killed_for is None:
            self.killed_for = number
        signals.send(self._pidfd, signals.KILL)


def _time_of(fields: list[str]) -> float:
    """Return the seconds for which a process has run, by its fields as `procfs` returns them."""
    return sum(map(int, fields[11:13])) / os.sysconf("SC_CLK_TCK")  # utime, stime
