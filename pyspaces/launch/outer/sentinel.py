"""Two helper processes of a launcher with a terminal: the sentinel and the guard.

The sentinel is in the command's process group, though not in its pid namespace: what the terminal
sends to that group, it reports to the launcher. The guard is in a group of its own, and puts the
caller's terminal back if the launcher is killed. What is named `_inner` runs in them, the rest in
the parent.
"""

from __future__ import annotations

import os
import select
import struct
import termios

from pyspaces.kernel import constants, libc, nsfs, spawn
from pyspaces.kernel.libc import KernelError
from pyspaces.launch import signals
from pyspaces.launch.outer.ending import discard

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pyspaces.kernel.spawn import Spawned

SIZE = 2  # bytes: the signal, and whether the kernel sent it
# By this the launcher asks whether all is reported that came before. The kernel delivers it, a
# real-time signal, after all others that are pending: signal(7).
MARK = 64
_TOLD = (*signals.OF_TERMINAL, signals.HUP)


def start(*, group: int, own: int, tty: int, not_from: tuple[int, ...]) -> tuple[Spawned, int]:
    """Start the sentinel of process group `group`; return it, and the descriptor of its reports.

    own: the group that gets terminal `tty` back when the launcher dies. not_from: processes that
    pass signals on, which are not reported. Raises OSError.
    """
    reading, writing = os.pipe()
    launcher = -1

    def be_sentinel_inner() -> None:
        _keep_only_inner(writing, launcher, tty)
        _tell_inner(writing, launcher, not_from)
        _give_back_inner(tty, group, own)

    try:
        launcher = nsfs.pidfd_open(os.getpid())
        with signals.Blocked():
            child = spawn.spawn(be_sentinel_inner)
        try:
            os.setpgid(child.pid, group)
        except OSError:
            discard(child)
            raise
    except BaseException:
        os.close(reading)
        raise
    finally:
        os.close(writing)
        if launcher >= 0:
            os.close(launcher)
    os.set_blocking(reading, False)
    return child, reading


def _tell_inner(writing: int, launcher: int, not_from: tuple[int, ...]) -> None:
    """Report signals as long as the launcher lives; every signal is blocked here."""
    os.set_blocking(writing, False)
    received = libc.signalfd((*_TOLD, signals.TERM, MARK))
    parent = os.getppid()
    poller = select.poll()
    for descriptor in (received, launcher):
        poller.register(descriptor, select.POLLIN)
    while all(descriptor != launcher for descriptor, _ in poller.poll()):
        try:
            data = os.read(received, constants.SIGNALFD_SIGINFO_SIZE)
        except BlockingIOError:  # a SIGCONT has discarded the stop that poll(2) announced (seen)
            continue
        number, _, code, sender = struct.unpack_from("IiiI", data)
        if number == signals.TERM:  # read behind those with lower numbers, INT and QUIT
            if sender == parent:
                return
            continue
        if code <= 0 and sender in not_from and number != MARK:
            continue
        if number == MARK and sender != parent:
            continue
        try:
            os.write(writing, bytes((number, code > 0)))
        except OSError:  # the pipe is full, or nobody reads any more
            continue


def _give_back_inner(tty: int, group: int, own: int) -> None:
    try:
        if os.tcgetpgrp(tty) == group:
            os.tcsetpgrp(tty, own)
    except OSError:
        return


def start_guard(terminal: int, saved: list[Any]) -> Spawned | None:
    """Start the process that gives `terminal` the modes `saved` if the launcher dies.

    Return None if there can be no more processes.
    """
    try:
        launcher = nsfs.pidfd_open(os.getpid())
    except KernelError:
        return None

    def be_guard_inner() -> None:
        _guard_inner(launcher, terminal, saved)

    try:
        with signals.Blocked():
            return spawn.spawn(be_guard_inner)
    except KernelError:
        return None
    finally:
        os.close(launcher)


def _guard_inner(launcher: int, terminal: int, saved: list[Any]) -> None:
    os.setpgid(0, 0)
    _keep_only_inner(launcher, terminal)
    nsfs.has_ended(launcher, timeout=None)
    # A shell that has the terminal by now has modes of its own; with all of them off is ours only.
    _, output, _, local, *_ = termios.tcgetattr(terminal)
    if not (output & termios.OPOST or local & (termios.ICANON | termios.ISIG)):
        termios.tcsetattr(terminal, termios.TCSANOW, saved)


def _keep_only_inner(*kept: int) -> None:
    """Close everything else: readers of the command's output must see its end."""
    libc.set_name(b"pyspaces-tty")
    spawn.close_others(*kept)
