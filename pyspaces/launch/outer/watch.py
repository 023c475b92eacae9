"""Wait for the command to end, and do what has to be done until then.

Runs in the parent. What process 1 makes of a signal is in `process_1`, stops are in `stops`, the
time limit is in `clock`.
"""

from __future__ import annotations

import _thread
import select
import time

from pyspaces.kernel import nsfs
from pyspaces.launch import signals
from pyspaces.launch.outer.ending import reap
from pyspaces.launch.signals import Received
from pyspaces.status import SIGNAL_BASE, Ended, Status, die_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from pyspaces.kernel.spawn import Spawned
    from pyspaces.launch.outer.job import Job
    from pyspaces.launch.outer.process_1 import Process1
    from pyspaces.launch.outer.relay import Relay
    from pyspaces.launch.outer.stops import Stops
    from pyspaces.launch.services import Launch
    from pyspaces.launch.signals import Group

# A poll(2) of days is as good as one without limit, and its milliseconds fit an int.
_LONGEST_POLL = 86400.0


class Watch:
    """What the launcher does about the command while it runs.

    launch: what its services have added for the watch. finished: called once with how the command
    ended. ended: how the command ended; None until that has been noticed.
    """

    def __init__(self, launch: Launch, child: Spawned, finished: Callable[[Ended], object]) -> None:
        plan = launch.plan
        self._launch, self._child = launch, child
        self._own_session = plan.holds("life") and plan.life.own_session
        self._dies_with_us = plan.kill_signal() == signals.KILL
        # With a pid namespace, killing the child leaves none of its processes behind.
        self._alone = plan.has("pid")
        # The kernel drops what the first process of a pid namespace has no handler for.
        self._pid_1 = self._alone and not launch.post
        # Made when there is something to judge, or to stop: most commands get no signal at all.
        self._judge: Process1 | None = None
        self._halts: Stops | None = None
        self._reader = launch.reader
        self._link = launch.link
        self._relay = launch.relay
        self._group: Group | None = None
        if launch.leaves_group():
            delegate = child.pidfd if launch.post else -1
            self._group = signals.Group(number=child.pid, delegate=delegate)
        self._job = launch.job
        self._clock = launch.clock
        self._dying_of: int | None = None
        self._peak_floor = launch.peak_floor
        self._companions = launch.companions
        self._lost = ""
        self._finished = finished
        self._begun = time.monotonic()
        self._received: set[int] = set()
        self.ended: Ended | None = None
        # One thread at a time. A handler of a signal may come in the middle of what that does, and
        # ask for something: it is let in, and finds that somebody is inside.
        self._lock = _thread.RLock()
        self._is_inside = False
        # A program may move its root later, and could not load this any more.
        if (self._relay or not self._reader) and (judge := self._process_1) and self._relay:
            self._relay.expect = judge.expect

    @property
    def _process_1(self) -> Process1 | None:
        """The command as process 1 of a pid namespace; None if it is not one."""
        if self._pid_1 and not self._judge:
            from pyspaces.launch.outer.process_1 import Process1

            self._judge = Process1(self._child.pidfd)
        return self._judge

    @property
    def _stops(self) -> Stops:
        if not self._halts:
            from pyspaces.launch.outer.stops import Stops

            # The kernel drops what stops a process that has no handler for it, if that is process
            # 1, or in the only process group of a session (orphaned: setpgid(2)).
            drops = (self._pid_1 or self._own_session) and self._link is None
            self._halts = Stops(self._launch, self._child, self._group, drops=drops)
        return self._halts

    def run(self, limit: float | None = None) -> Ended | None:
        """Wait for the command to end; return None if it still runs after `limit` seconds."""
        until = None if limit is None else time.monotonic() + limit
        while True:
            with self._lock:
                if self.ended:
                    return self.ended
                if self._is_inside:
                    return self._wait_inside(limit)
                try:
                    self._is_inside = True
                    self._act()
                    poller, pause = self._poller(), self._pause(until)
                finally:
                    self._is_inside = False
            ready = poller.poll(pause)
            with self._lock:
                try:
                    self._is_inside = True
                    if found := self.ended or self._notice(ready):
                        return found
                finally:
                    self._is_inside = False
            if until is not None and time.monotonic() >= until:
                return None

    def _notice(self, ready: list[tuple[int, int]]) -> Ended | None:
        """Do what is to be done after a wait; return how the command ended, if it has."""
        # Before the end is looked at: at Ctrl-C the terminal's signal has ended the command, and
        # the same signal is waiting here.
        self._act()
        if self._relay:
            self._move(self._relay, ready)
        if self._child.pidfd in dict(ready):
            if self._job:
                self._job.drain()
            self._take_signals()
            return self._finish()
        self._look_for_companions(ready)
        return None

    def _wait_inside(self, limit: float | None) -> Ended | None:
        """Wait in a handler that has come in the middle of `run`; poll finds nothing new there."""
        if limit == 0 or not nsfs.has_ended(self._child.pidfd, timeout=limit):
            return None
        return self._finish()

    def ask(self, number: int) -> None:
        """Send a signal; a process 1 that would drop one of ENDING is killed for it."""
        with self._lock:
            if not self.ended:
                self._send(number)

    def _act(self) -> None:
        # The clock first: what is done about a signal may stop this process.
        self._keep_time()
        if self._reader or self._link or self._job:
            self._take_signals()
            self._keep_time()
        if self._halts:
            self._halts.look_again()
        if self._job:
            self._job.look_again()
        if self._relay and self._relay.is_in_background:
            self._stops.wait_for_terminal(self._relay)
        if self._judge:
            self._judge.look_again()

    def _move(self, relay: Relay, ready: list[tuple[int, int]]) -> None:
        relay.move(ready)
        if relay.hung_up:
            relay.hung_up = False
            self._send(signals.HUP)

    def _poller(self) -> select.poll:
        poller = select.poll()
        parts = [part.fileno() for part in (self._reader, self._link, self._job) if part]
        for descriptor in (self._child.pidfd, *parts, *self._companions):
            if descriptor >= 0:  # a part has none, or has closed it
                poller.register(descriptor, select.POLLIN)
        if self._relay:
            for descriptor, events in self._relay.interests():
                poller.register(descriptor, events)
        return poller

    def _look_for_companions(self, ready: list[tuple[int, int]]) -> None:
        """Kill the command if a helper that it needs has ended."""
        ended = [self._companions[one] for one, _ in ready if one in self._companions]
        # The helpers see the end of the command as we do, and may be faster.
        if ended and not nsfs.has_ended(self._child.pidfd):
            self._lost = ended[0]
            self._kill()
        if ended:
            self._companions = {}

    def _pause(self, until: float | None) -> float:
        """Return the milliseconds up to the next moment at which there is something to do."""
        moments = [] if until is None else [until]
        parts = (self._clock, self._halts, self._judge, self._relay, self._job)
        moments += [look for part in parts if part and (look := part.next_look()) is not None]
        now = time.monotonic()
        first = min(moments, default=now + _LONGEST_POLL)
        return max(0.0, min(first - now, _LONGEST_POLL)) * 1000

    # --- signals ------------------------------------------------------------------------------

    def _send(self, number: int, *, group: Group | None = None, grace: float = 0.0) -> None:
        if self._process_1:
            self._process_1.send(number, group=group, grace=grace)
        elif group:
            group.send(number)
        else:
            signals.send(self._child.pidfd, number)

    def _take_signals(self) -> None:
        for stopped_by in self._link.stops() if self._link else ():
            self._follow(stopped_by)
        if self._job:
            for number, by_terminal in self._job.told():
                self._take_of_group(self._job, number, by_terminal)
        while self._reader and (signal := self._reader.read()):
            self._received.add(signal.number)
            self._take(signal)

    def _take(self, signal: Received) -> None:
        number = signal.number
        if number == signals.CHLD:
            self._follow(signals.stopped_by(self._child.pid))
        elif self._reader and number in self._reader.fatal:
            self._die(number)
        elif number in signals.STOPPING:
            self._stop(signal)
        elif number == signals.CONT:
            self._stops.go_on()
        elif number == signals.WINCH and self._relay:
            self._relay.resize()
        elif self._own_session:
            self._send_to_session(signal)
        elif self._group:
            # What terminals send is for the group, no matter who has sent it to us; so is the
            # rest if it comes from the terminal.
            whole = number in signals.OF_TERMINAL or not signal.from_process
            self._send(number, group=self._group if whole else None)
        elif signal.from_process:
            # To us alone, or to our group, and so to the command before this.
            self._send(number, grace=signals.GRACE)
        elif self._process_1:
            self._process_1.sent(number)

    def _send_to_session(self, signal: Received) -> None:
        """Send a signal to a command that leads a session; what terminals send, to its group.

        A shell that has got SIGINT alone waits for its child, which knows of nothing (seen).
        """
        of_terminal = signal.number in signals.OF_TERMINAL
        if self._link and of_terminal and not signal.from_process:
            return  # process 1, which is in our group, has it too, and passes it on
        delegate = self._child.pidfd if self._link else -1
        group = signals.Group(number=self._child.pid, delegate=delegate)
        whole = of_terminal or not signal.from_process
        self._send(signal.number, group=group if whole else None)

    def _stop(self, signal: Received) -> None:
        job = self._job
        used = signal.number in signals.BACKGROUND and not signal.from_process
        if job and used and job.has_terminal():
            # A process of our own group, such as a pager, uses the terminal that the command has.
            job.take_back()
            job.continue_others()
            return
        self._hasten()
        self._stops.stop(signal)

    def _take_of_group(self, job: Job, number: int, by_terminal: bool) -> None:
        """Take a signal that the command's group got, from its terminal or from itself."""
        if number in signals.BACKGROUND:
            if not self._gets_terminal(job):
                self._stop_with_group(job, number, mirror=True)
        elif number in signals.STOPPING:
            if by_terminal or job.is_given:  # from itself: as vi does at Ctrl-Z
                self._stop_with_group(job, number, mirror=signals.has_job_control() is not False)
        elif by_terminal:
            self._received.add(number)
            job.mirror(number)
            if self._process_1:
                self._process_1.sent(number)

    def _stop_with_group(self, job: Job, number: int, *, mirror: bool) -> None:
        if mirror:
            job.mirror(number)
        self._hasten()
        self._stops.stop(Received(number=number, from_process=False), was_sent=True)

    def _gets_terminal(self, job: Job) -> bool:
        """Give the command the terminal that it uses; return whether it will have it.

        If not, it has to stop, as a job in the background does.
        """
        if self._stops.is_stopping:
            job.want()
            return True
        if not job.give():
            if signals.has_job_control() is not False:
                return False
            # Nobody would ever give it to us. The kernel sends the same to an orphaned group.
            self._send(signals.HUP, group=self._group)
        if not job.is_to_stop:  # else it is continued by the `fg` to come
            self._stops.forget()
        return True

    def _follow(self, stopped_by: int | None) -> None:
        # A library must not stop the program that uses it.
        if stopped_by is None or not self._reader:
            return
        if self._job and stopped_by in signals.BACKGROUND and self._gets_terminal(self._job):
            return
        # The command's stop may be seen before the sentinel has reported the signal.
        by_key = stopped_by in signals.STOPPING and not self._stops.was_asked
        if self._job and by_key and self._job.is_given and signals.has_job_control() is not False:
            self._job.mirror(stopped_by)
        self._hasten()
        self._stops.follow(stopped_by)

    def _die(self, number: int) -> None:
        """Put everything back, then end by this signal."""
        if self._dies_with_us:
            self._dying_of = number
            signals.send(self._child.pidfd, signals.KILL)
            return
        # The command gets another signal from the kernel, or none, and may go on.
        for part in (self._relay, self._job):
            if part:
                part.close()
        die_of(number)

    def _hasten(self) -> None:
        """Kill at once what was asked to end: once we have stopped, nobody would."""
        if self._judge:
            self._judge.hasten()

    # --- when the time is over ----------------------------------------------------------------

    def _keep_time(self) -> None:
        if self._clock:
            self._clock.look_again(self._ask_to_end, self._kill)

    def _ask_to_end(self) -> None:
        self._send(signals.TERM)
        # A process that is stopped notices nothing else. Process 1 of ours takes one SIGCONT for
        # both: a second one, with another mark, would be lost while the first is pending.
        if self._group:
            self._group.send(signals.CONT)
        elif self._link:
            signals.send_marked(self._child.pidfd, signals.CONT, signals.ANY_STOP)
        if not self._link:
            signals.send(self._child.pidfd, signals.CONT)

    def _kill(self) -> None:
        """Kill the command, and those of its processes that can be found."""
        signals.send(self._child.pidfd, signals.KILL)
        if not self._alone and self._own_session:
            signals.send_to_group(self._child.pid, signals.KILL)

    # --- the end ------------------------------------------------------------------------------

    def settle(self, status: Status) -> Status:
        """Take the status of a child that the caller has reaped; return that of the command."""
        with self._lock:
            told = self._link.status() if self._link else None
            self.ended = Ended(pid=self._child.pid, status=told or status)
            self._finished(self.ended)
            return self.ended.status

    def _finish(self) -> Ended:
        if self.ended:
            return self.ended
        if self._relay:
            self._relay.finish(self._reader)
        wall = time.monotonic() - self._begun
        status, usage = reap(self._child.pid, wall=wall, peak_floor=self._peak_floor)
        told = self._link.status() if self._link else None
        if told is not None:
            status = told
        elif status.signal == signals.KILL and self._judge and self._judge.killed_for:
            status = Status(signal=self._judge.killed_for)
        cause = status.signal if status.signal in signals.ENDING else None
        if self._pid_1 and status.code == SIGNAL_BASE + signals.INT:
            # Process 1 cannot end itself by a signal: a shell that tries to exits with this. A loop
            # in the shell that waits for us is to end at Ctrl-C all the same.
            cause = signals.INT
        self.ended = Ended(
            pid=self._child.pid,
            status=status,
            signal=self._dying_of or (cause if cause in self._received else None),
            usage=usage,
            timed_out=bool(self._clock and self._clock.is_over),
            killed=bool(self._clock and self._clock.killed and status.signal == signals.KILL),
            lost=self._lost,
        )
        self._finished(self.ended)
        return self.ended
