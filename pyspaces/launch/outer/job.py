"""The terminal between the caller's process group and the command's own, as a shell has it.

Runs in the parent. Loaded only if the command has a process group of its own and there is a
controlling terminal; `sentinel` is the process that reports what the terminal sends to that group.

A command whose input and output are the terminal gets it at its start, if we have it. In a pipeline
it stays with the caller's group, so that the rest can read it, until somebody in the command's
group uses it: the kernel then sends SIGTTIN or SIGTTOU to that group, the sentinel reports it, and
we hand the terminal over and continue the group. It comes back when the job stops, when the command
has ended, and when somebody in the caller's group uses it.
"""

from __future__ import annotations

import os
import time

from pyspaces.kernel import nsfs, procfs
from pyspaces.launch import signals
from pyspaces.launch.outer import sentinel
from pyspaces.launch.outer.ending import discard
from pyspaces.launch.service import Service

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from pyspaces.kernel.spawn import Spawned

# A command may kill the sentinel, which is in its group: seconds until there is a new one.
_RENEWAL = 0.05
# How long the sentinel has, in seconds, for its last report.
_LAST_WORDS = 1.0
# How long a shell has, in seconds, to see that the rest of our group was continued. If we end
# before it has, it takes the whole job for stopped, and the terminal away from a pager: bash 5.2
# reads what its children report child by child, not in the order of time (seen, 1 of 40 on a busy
# machine).
_SHELL_LOOKS = 0.2
# What one read(2) takes of its reports: all that a pipe holds, a whole number of records.
_MOST_TOLD = sentinel.SIZE << 15


class JobControl(Service):
    """The caller's terminal, which the command's process group gets and gives back."""

    task = "give the terminal back"

    def open(self) -> None:
        """Open the controlling terminal, if there still is one."""
        try:
            self.launch.job = Job(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC))
        except OSError:
            return

    def held(self, child: Spawned) -> None:
        """Look after the process group of the child."""
        if self.launch.job:
            self.launch.job.begin(child.pid, has_init=self.launch.post is not None)

    def release(self) -> None:
        """Give the terminal back to the caller's group."""
        if self.launch.job:
            self.launch.job.close()


class Job:
    """Gives the terminal to the command and back. tty: a descriptor of it, owned from here on."""

    def __init__(self, tty: int) -> None:
        self._tty = tty
        self._own = os.getpgrp()
        self._group = 0
        self._not_from: tuple[int, ...] = ()
        self._given = False  # whether the command's group has the terminal from us
        self._wanted = False  # whether it has asked for it
        self._sentinel: Spawned | None = None
        self._reading = -1
        self._kept: list[tuple[int, bool]] = []
        self._renewal: float | None = None
        self._is_up_to_date = False
        self._continued: float | None = None  # when the rest of the caller's group was continued

    def begin(self, group: int, *, has_init: bool) -> None:
        """Look after `group`, that of the command, which is there and has not executed yet.

        has_init: whether the leader of the group is our process 1, and not the command.
        """
        self._group = group
        self._not_from = (os.getpid(), group) if has_init else (os.getpid(),)
        self._start_sentinel()
        # No pipeline: nobody else is about to read. If somebody is, it comes back.
        if self._foreground() == self._own and all(map(_is_terminal_of_ours, (0, 1))):
            self.give()

    # --- for the watch ------------------------------------------------------------------------

    def fileno(self) -> int:
        """Return the descriptor by which the sentinel reports; -1 if there is no sentinel."""
        return self._reading

    def next_look(self) -> float | None:
        """Return when to call `look_again`, by the monotonic clock."""
        return self._renewal

    def look_again(self) -> None:
        """Replace a sentinel that was killed."""
        if self._renewal is not None and time.monotonic() >= self._renewal:
            self._renewal = None
            self._start_sentinel()

    def told(self) -> Iterator[tuple[int, bool]]:
        """Yield the signals that the command's group got, and whether the terminal sent them."""
        if self._sentinel and signals.stopped_by(self._sentinel.pid):
            signals.send(self._sentinel.pidfd, signals.CONT)
        self._read()
        while self._kept:
            yield self._kept.pop(0)

    def _read(self) -> None:
        """Read what the sentinel has reported by now.

        Process 1 cannot stop for SIGTTIN and tries again and again: a thousand records, and one use
        of the terminal. A SIGCONT for each would discard a SIGTSTP that comes meanwhile (seen).
        """
        if self._reading < 0:
            return
        try:
            data = os.read(self._reading, _MOST_TOLD)
        except BlockingIOError:
            return
        if not data:
            self._end_sentinel()
            self._renewal = time.monotonic() + _RENEWAL
        for record in zip(data[::2], map(bool, data[1::2]), strict=True):
            if record[0] == sentinel.MARK:
                self._is_up_to_date = True
            elif record[0] not in signals.BACKGROUND or self._kept[-1:] != [record]:
                self._kept.append(record)

    def forget_stops(self) -> None:
        """Drop the reports of stops that are over, after the shell has continued the job.

        Passed on to our group now, SIGTSTP would discard the SIGCONT that we have not read yet. And
        a report that comes later would stop the job again (seen, in 1 of 20 under load). The
        command's group does not have the terminal meanwhile, so no new stop is among them.
        """
        self._catch_up()
        self._kept = [one for one in self._kept if one[0] not in signals.STOPPING]

    def _catch_up(self) -> None:
        """Wait until the sentinel has reported all that it got until now, and read it."""
        if not self._sentinel:
            return
        for number in (signals.CONT, sentinel.MARK):  # somebody may have stopped it
            signals.send(self._sentinel.pidfd, number)
        limit = time.monotonic() + _LAST_WORDS
        self._is_up_to_date = False
        while not self._is_up_to_date and self._reading >= 0:
            if not nsfs.wait_for(self._reading, timeout=limit - time.monotonic()):
                return
            self._read()

    @property
    def is_to_stop(self) -> bool:
        """Return whether the terminal has sent a SIGTSTP that the sentinel has not reported yet.

        A SIGCONT to the group would discard it.
        """
        if any(number == signals.TSTP for number, _ in self._kept):
            return True
        pending = self._sentinel and procfs.status_field(self._sentinel.pid, "ShdPnd")
        return bool(pending and int(pending, 16) >> (signals.TSTP - 1) & 1)

    def drain(self) -> None:
        """Let the sentinel report all that it knows and end: the command has ended."""
        if self._sentinel:
            signals.send(self._sentinel.pidfd, signals.TERM)
            nsfs.has_ended(self._sentinel.pidfd, timeout=_LAST_WORDS)

    # --- the terminal -------------------------------------------------------------------------

    @property
    def is_given(self) -> bool:
        """Return whether the command's group has the terminal, or one made from it has."""
        return self._descends(self._foreground(), (self._group,))

    def has_terminal(self) -> bool:
        """Return whether the terminal is with the caller's group, or with one made from it."""
        return self._descends(self._foreground(), (self._own, self._group))

    def _descends(self, group: int, groups: tuple[int, ...]) -> bool:
        """Return whether a group is one of `groups`, or its leader descends from one of them.

        As that of another sandbox in the same pipeline does, or a job of a shell inside.
        """
        process = group
        while process > 0:
            try:
                if process in groups or os.getpgid(process) in groups:
                    return True
            except ProcessLookupError:
                return False
            process = procfs.parent_of(process)
        return False

    def give(self) -> bool:
        """Hand the terminal to the command's group, if we have it; return whether we had."""
        self._wanted = True
        if not self.has_terminal():
            return False
        self._given = self._set(self._group)
        return self._given

    def want(self) -> None:
        """Note that the command uses the terminal, for when the job is continued."""
        self._wanted = True

    def give_again(self) -> None:
        """Hand the terminal over once more after a stop, if the shell has given it to us."""
        self._given = False
        if self._wanted and self._foreground() == self._own:
            self.give()

    def take_back(self) -> None:
        """Return the terminal to the caller's group, if the command's group or nobody has it."""
        group = self._foreground()
        if group == self._own:
            self._given = False
            return
        if self._given or group == self._group or (group > 0 and not _is_there(group)):
            self._set(self._own)
        self._given = False

    def mirror(self, number: int) -> None:
        """Send the rest of the caller's group what the terminal would have sent it."""
        os.kill(0, number)

    def continue_others(self) -> None:
        """Continue the rest of the caller's group, stopped when it used the terminal."""
        self.mirror(signals.CONT)
        self._continued = time.monotonic()

    def close(self) -> None:
        """Put everything back; more than once is fine."""
        self._end_sentinel()
        if self._tty < 0:
            return
        self.take_back()
        os.close(self._tty)
        self._tty = -1
        if signals.are_pending(signals.BACKGROUND):  # used after our last look at our signals
            self.continue_others()
        if self._continued is not None:
            pause = self._continued + _SHELL_LOOKS - time.monotonic()
            time.sleep(max(0.0, pause))

    def _foreground(self) -> int:
        """Return the group in the foreground; 0 if it is not visible, -1 without a terminal."""
        try:
            return os.tcgetpgrp(self._tty)
        except OSError:
            return -1

    def _set(self, group: int) -> bool:
        # SIGTTOU is blocked: tcsetpgrp(3) from the background then works.
        try:
            os.tcsetpgrp(self._tty, group)
        except OSError:
            return False
        return True

    def _start_sentinel(self) -> None:
        try:
            self._sentinel, self._reading = sentinel.start(
                group=self._group, own=self._own, tty=self._tty, not_from=self._not_from
            )
        except OSError:  # the group has gone, or there can be no more processes
            self._sentinel, self._reading = None, -1

    def _end_sentinel(self) -> None:
        if self._sentinel:
            discard(self._sentinel)
            self._sentinel = None
        if self._reading >= 0:
            os.close(self._reading)
            self._reading = -1


def _is_terminal_of_ours(stream: int) -> bool:
    try:
        os.tcgetpgrp(stream)
    except OSError:
        return False
    return True


def _is_there(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except OSError as error:
        return isinstance(error, PermissionError)
    return True
