"""Our own process 1 of a pid namespace: reaps orphans, passes signals on, reports to the launcher.

Runs in the first process of the namespace only, which stays the forked interpreter: after the root
has moved there may be no interpreter to execute, and what a fork shares with its launcher costs
nothing. So it has the launcher's memory, and is in the command's reach: it is not dumpable, which
refuses its memory, descriptors and environment to a command with all capabilities of its own user
namespace. (Not to one that is root of the host, without `--user`: that may look into everything,
unless its capabilities are dropped.) What can be found of the caller's environment is overwritten,
so that neither has anything to read there.
"""

from __future__ import annotations

import errno
import os
import struct

from pyspaces import status
from pyspaces.kernel import constants, erasing, libc, procfs, spawn
from pyspaces.kernel.libc import KernelError
from pyspaces.launch import fates, signals
from pyspaces.launch.channel import ENDED, RECORD, STOPPED
from pyspaces.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import NoReturn

    from pyspaces.features.life import Life
    from pyspaces.kernel.spawn import Spawned

TITLE = spawn.INIT_NAME.encode()


class Post(Record):
    """What process 1 needs, made in the launcher before the fork.

    area: where /proc reads the command line and environment of this process from, as (start, end).
    link: the descriptor by which it reports. wait_all: whether it outlives the command, until every
    process of the namespace has ended. own_session: whether the command leads a session.
    own_terminal: whether it has a terminal of its own there. shares_memory: whether the command is
    a function of this interpreter, and no program.
    """

    area: tuple[tuple[int, int], ...]
    link: int
    wait_all: bool
    own_session: bool
    own_terminal: bool
    shares_memory: bool = False

    def serve_inner(
        self, start: Callable[[], object], limit: Callable[[], object] | None
    ) -> NoReturn:
        """Become process 1: run `start` in a child, the command, and end as it does.

        limit: what gives up rights of this process that only the start needs, if anything.
        """
        if not self.shares_memory:
            _forget_inner(self.area)
        # Before there is a command. This was executed in the user namespace of the launcher, where
        # whoever is inside has no capability: __ptrace_may_access() in kernel/ptrace.c.
        libc.set_dumpable(dumpable=False)
        # Where the caller ignores SIGCHLD, the kernel would reap all children, and say nothing.
        give_back = signals.notice_ends()

        def begin() -> None:
            give_back()
            start()

        command = _start_limited_inner(begin, limit) if limit else spawn.spawn_alone(begin)
        if self.shares_memory:
            # Not before: the function, and what it starts, have their environment there.
            _forget_inner(self.area)
        # Standard output too: a reader must see its end when the command is done.
        spawn.close_others(self.link, command.pidfd)
        erasing.forget_variables()
        _Server(self, command).run_inner()


class _Server:
    def __init__(self, post: Post, command: Spawned) -> None:
        self._post = post
        self._command = command
        self._word: int | None = None
        self._stops = 0  # how many stops of the command the launcher was told of
        self._is_stopped = False

    def run_inner(self) -> NoReturn:
        """Take signals until it is time to end; all of them are blocked here."""
        while True:
            received = signals.wait_for_any_inner()
            if received.number == constants.SIGCHLD:
                self._reap_inner()
            elif received.mark == signals.WHOLE_GROUP and not self._post.own_session:
                self._send_to_group_inner(received.number)
            elif received.number == signals.CONT:
                self._continue_inner(received.mark)
            elif received.from_process or self._is_for_session_inner(received.number):
                whole = received.mark == signals.WHOLE_GROUP or not received.from_process
                self._pass_on_inner(received.number, whole=whole)

    def _is_for_session_inner(self, number: int) -> bool:
        """Return whether the command is to have what the kernel has sent to the launcher's group.

        Not a change of the caller's window: the kernel tells of that of the command's own once it
        has the new size. Told before, the command would read the old one.
        """
        return self._post.own_session and not (self._post.own_terminal and number == signals.WINCH)

    def _reap_inner(self) -> None:
        """Reap all processes that have ended; one SIGCHLD may stand for several."""
        while True:
            try:
                pid, word = os.waitpid(-1, os.WNOHANG | os.WUNTRACED | os.WCONTINUED)
            except ChildProcessError:
                self._end_inner()
            if pid == 0:
                return
            if pid != self._command.pid:
                continue
            self._is_stopped = os.WIFSTOPPED(word)
            if os.WIFCONTINUED(word):
                continue
            if self._is_stopped:
                self._stops += 1
                self._tell_inner(STOPPED, os.WSTOPSIG(word))
                continue
            self._word = word
            self._tell_inner(ENDED, word)
            if not self._post.wait_all:
                self._end_inner()

    def _send_to_group_inner(self, number: int) -> None:
        """Send signal `number` to our group, and continue a command that has left it.

        As an interactive shell does, which then stops itself by `suspend`.
        """
        os.kill(0, number)
        if number == signals.CONT and self._has_left_inner():
            self._continue_inner(signals.ANY_STOP)

    def _has_left_inner(self) -> bool:
        try:
            return os.getpgid(self._command.pid) != os.getpgrp()
        except ProcessLookupError:  # ended, and reaped
            return False

    def _continue_inner(self, stop: int) -> None:
        """Continue the command, if it is still in the stop that the launcher means.

        `fg` sends SIGCONT to the whole group, and so to the launcher, to us and to the command. By
        the time that the launcher has passed its own on, a second Ctrl-Z may have stopped the
        command again, or be about to: SIGCONT would undo the one and discard the other (seen).
        """
        self._reap_inner()
        meant = stop in (self._stops, signals.ANY_STOP)
        if self._word is None and self._is_stopped and meant:
            signals.send(self._command.pidfd, signals.CONT)

    def _pass_on_inner(self, number: int, *, whole: bool) -> None:
        """Pass a signal on: to the command, or to the whole group of one that leads a session."""
        if self._word is not None:
            # The command has ended; a request to end is for the processes that it has left.
            if number in signals.ENDING:
                signals.send_to_all_inner(number)
            return
        if number not in signals.FORWARDED:
            return
        dropped = number in signals.STOPPING and self._post.own_session
        # The only group of its session: the kernel would drop them there.
        if dropped and self._fate_inner(number) == fates.DEFAULT:
            number = signals.STOP
        if not (whole and self._post.own_session and self._send_to_session_inner(number)):
            signals.send(self._command.pidfd, number)

    def _send_to_session_inner(self, number: int) -> bool:
        """Send a signal to the command's group; False if that is not there yet, or to stop."""
        if number in (signals.STOP, *signals.STOPPING):
            return False
        try:
            os.killpg(self._command.pid, number)
        except ProcessLookupError:
            return False
        return True

    def _fate_inner(self, number: int) -> str:
        """Return what becomes of a signal to the command; /proc may be the host's, or missing."""
        try:
            return fates.fate_on(procfs.pid_of_pidfd(self._command.pidfd), number)
        except KernelError:
            return fates.TAKEN

    def _tell_inner(self, kind: bytes, number: int) -> None:
        try:
            os.write(self._post.link, struct.pack(RECORD, kind, number))
        except OSError as error:
            if error.errno != errno.EPIPE:  # a launcher that has gone needs no telling
                raise

    def _end_inner(self) -> NoReturn:
        word = self._word or 0
        os._exit(status.Status.from_wait(word).shell_code)


def _start_limited_inner(start: Callable[[], object], limit: Callable[[], object]) -> Spawned:
    """Start the command once this process is limited: until then it could be traced and used."""
    reading, writing = os.pipe()

    def wait() -> None:
        os.close(writing)
        if not os.read(reading, 1):
            os._exit(status.FAILED)
        os.close(reading)
        start()

    command = spawn.spawn_alone(wait)
    limit()
    os.write(writing, b"\0")
    return command


def make_post(life: Life, link: int, *, shares_memory: bool) -> Post:
    """Prepare process 1, in the launcher: once it runs, /proc may be another's, or missing."""
    return Post(
        area=erasing.visible_memory(),
        link=link,
        wait_all=life.init_wait,
        own_session=life.own_session,
        own_terminal=life.pty,
        shares_memory=shares_memory,
    )


def _forget_inner(area: tuple[tuple[int, int], ...]) -> None:
    """Overwrite what /proc/1/cmdline and /proc/1/environ show, and what ps calls this process."""
    for start, end in area:
        libc.overwrite(start, end - start)
    for start, end in area[:1]:
        if end - start > len(TITLE):
            libc.write_memory(start, TITLE)
    libc.set_name(TITLE)
