"""Stop and continue: the command with its launcher, so that a shell sees one job.

Runs in the parent.
"""

from __future__ import annotations

import time

from pyspaces.kernel import processes, procfs
from pyspaces.kernel.libc import KernelError
from pyspaces.launch import fates, signals
from pyspaces.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyspaces.kernel.spawn import Spawned
    from pyspaces.launch.outer.relay import Relay
    from pyspaces.launch.services import Launch
    from pyspaces.launch.signals import Group, Received

# How long a command may take to stop before SIGSTOP is sent and we stop alone, and how often we
# look. Whoever pressed Ctrl-Z waits for a prompt.
_PATIENCE = 0.25
_PAUSE = 0.005


class _Asked(Record):
    """A signal to stop that has not stopped the command yet.

    look: when to look again. last: when to give up. forced: whether SIGSTOP was sent.
    """

    number: int
    look: float
    last: float
    forced: bool = False


class Stops:
    """What the launcher does about stops of one command, and about its own.

    group: the process group of its own that the command has; None if it is in the launcher's.
    drops: whether the kernel drops a signal to stop that the command has no handler for.
    was_asked: whether the stop that comes, or has come, is one that was asked for.
    """

    def __init__(self, launch: Launch, child: Spawned, group: Group | None, *, drops: bool) -> None:
        self._child, self._group, self._drops = child, group, drops
        self._own_session = launch.plan.holds("life") and launch.plan.life.own_session
        self._link, self._relay, self._job = launch.link, launch.relay, launch.job
        self.was_asked = False
        self._was_stopped = False
        self._asked: _Asked | None = None

    def stop(self, signal: Received, *, was_sent: bool = False) -> None:
        """Pass on what the terminal gives to a whole group to stop it, as SIGTSTP at Ctrl-Z.

        If it would be dropped, the command gets SIGSTOP, which it cannot drop. A process 1 that
        reads the terminal in the background would try for ever, and stop us at each time: before we
        have read the SIGTERM that came with it (seen).
        was_sent: whether the command's own group has it already.
        """
        if self._group and signals.has_job_control() is False:
            # Nobody could continue us. The kernel would drop it on a group like ours, and does not
            # on the command's, whose parent is in another one: setpgid(2).
            if was_sent:
                self._continue_group()
            return
        self.was_asked = True
        fate, _ = self._look(signal.number)
        if self._group:
            if not was_sent:
                self._group.send(signal.number)
        elif self._is_to_send(signal) and not (self._drops and fate == fates.DEFAULT):
            signals.send(self._child.pidfd, signal.number)
        if fate != fates.TAKEN:
            now = time.monotonic()
            self._asked = _Asked(number=signal.number, look=now, last=now + _PATIENCE)
            self.look_again()

    def _is_to_send(self, signal: Received) -> bool:
        # Process 1 of ours is in our group: it has what the terminal sends, and passes it on.
        return signal.from_process or (self._own_session and not self._link)

    def next_look(self) -> float | None:
        """Return when to call `look_again`, by the monotonic clock; None if all is decided."""
        return self._asked.look if self._asked else None

    def look_again(self) -> None:
        """Stop a command that has dropped the signal, and ourselves if it cannot stop.

        A shell blocks signals around each fork: process 1 drops what came meanwhile when it
        unblocks them, and one look would not see that (seen with dash). And while a child of
        vfork(2) is stopped before its exec, its parent waits and cannot stop (seen with dash).
        """
        now = time.monotonic()
        asked = self._asked
        if asked is None or now < asked.look:
            return
        fate, stuck = self._look(asked.number)
        if fate == fates.TAKEN:
            self._asked = None
            return
        if self._drops and not asked.forced and (fate == fates.DEFAULT or now >= asked.last):
            signals.send(self._child.pidfd, signals.STOP)
            asked = asked.replace(forced=True, last=max(asked.last, now + _PAUSE * 4))
        if now < asked.last:
            self._asked = asked.replace(look=now + _PAUSE)
        elif asked.forced or stuck:
            self._halt()
        else:  # blocked by a command that can be stopped: its own decision
            self._asked = None

    def go_on(self) -> None:
        """Pass on SIGCONT, unless `fg` has sent it to the whole group already."""
        self.was_asked = False
        self._asked = None
        if self._relay:
            self._relay.resume()
        was_stopped, self._was_stopped = self._was_stopped, False
        if self._group:
            # Nobody but us continues it. After it has the terminal: or it would use that in the
            # background, and the second SIGCONT for this could discard a Ctrl-Z (seen).
            if self._job:
                self._job.give_again()
            self._continue_group()
            return
        if was_stopped and not self._link:
            if signals.was_continued(self._child.pid):
                return
            # Continued, and stopped once more by a second Ctrl-Z: that report is a new one, and
            # SIGCONT would undo it.
            if number := signals.stopped_by(self._child.pid):
                self.follow(number)
                return
        if self._link:
            # Process 1 knows whether the command is still in that stop.
            signals.send_marked(self._child.pidfd, signals.CONT, self._link.stops_told)
        else:
            signals.send(self._child.pidfd, signals.CONT)

    @property
    def is_stopping(self) -> bool:
        """Return whether the command was asked to stop, and has not yet."""
        return self._asked is not None

    def forget(self) -> None:
        """Cancel the stop: the command goes on."""
        self._asked = None
        self.was_asked = False
        self._continue_group()

    def _continue_group(self) -> None:
        if self._group:
            self._group.send(signals.CONT)
        # The leader may have left its group, or have been stopped apart from it.
        if not self._link:
            signals.send(self._child.pidfd, signals.CONT)

    def follow(self, number: int) -> None:
        """Stop as the command has, so that the shell which waits for us sees its job stopped."""
        stopped_by_terminal = self._group and number in signals.STOPPING
        if stopped_by_terminal and signals.has_job_control() is False:
            self._continue_group()
            return
        if not self.was_asked and signals.is_of_command_alone(number):
            return
        self._halt()

    def _halt(self) -> None:
        self._asked = None
        if self._relay:
            self._relay.suspend()
        if self._job:
            self._job.take_back()
        self._was_stopped = True
        if not signals.stop_self() and self._relay:
            self._relay.resume()
        if self._job:
            self._job.forget_stops()

    def wait_for_terminal(self, relay: Relay) -> None:
        """Stop because the relay cannot use the caller's terminal in the background.

        Not by a system call that the kernel stops us in, and would stop us in again whenever we
        are continued: the clock would never be looked at.
        """
        relay.suspend()
        self._was_stopped = True
        if not signals.stop_self():
            relay.give_up_input()

    def _look(self, number: int) -> tuple[str, bool]:
        """Return what becomes of a signal to the command, and whether it cannot stop now."""
        try:
            process = procfs.pid_of_pidfd(self._child.pidfd)
        except KernelError:
            return fates.TAKEN, False
        if self._link:
            # The first child of our process 1 is the command; orphans come behind it.
            children = processes.children_of(process)
            if not children:
                return fates.TAKEN, False
            process = children[0]
        state = procfs.status_field(process, "State") or ""
        # T: still stopped from before, if our process 1 had no time to pass SIGCONT on.
        return fates.fate_on(process, number), state[:1] in ("D", "T")
