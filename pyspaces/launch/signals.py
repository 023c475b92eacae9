"""Signals around a launch: what the command inherits, and what the launcher passes on.

What ends in `_inner` runs in the child, `take_defaults` there and in the launch server, everything
else in the parent. Must not know a Plan.
"""

from __future__ import annotations

import errno
import os

from pyspaces.kernel import constants, libc, nsfs, procfs
from pyspaces.kernel.libc import KernelError
from pyspaces.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal
    from collections.abc import Callable, Iterable
else:
    import _signal as signal  # plain numbers: see status.py

# Asked to end by one of these, a command that is pid 1 and takes no notice is killed.
ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
# By these the terminal stops a group: at Ctrl-Z, and if one uses it in the background.
BACKGROUND = (signal.SIGTTIN, signal.SIGTTOU)
STOPPING = (signal.SIGTSTP, *BACKGROUND)
FORWARDED = (
    *(*ENDING, signal.SIGUSR1, signal.SIGUSR2),
    *(signal.SIGWINCH, signal.SIGCONT, *STOPPING),
)
CHLD, CONT, STOP, WINCH = signal.SIGCHLD, signal.SIGCONT, signal.SIGSTOP, signal.SIGWINCH
HUP, INT, KILL = signal.SIGHUP, signal.SIGINT, signal.SIGKILL
QUIT, TERM, TSTP = signal.SIGQUIT, signal.SIGTERM, signal.SIGTSTP
# What a terminal sends, and always to a whole group.
OF_TERMINAL = (INT, QUIT, signal.SIGTSTP, *BACKGROUND)

# What a process 1 gets to end by itself that may have had the signal before we could look: from the
# terminal, or from a kill of its whole group. Its handlers may be down already, on its way out.
GRACE = 0.1
# Python ignores these at its start; the command must find them as the caller of Python had them.
# Whether the caller ignored them cannot be known any more, and hardly anybody does.
_IGNORED_BY_PYTHON = (signal.SIGPIPE, signal.SIGXFSZ)
# The C library keeps two signals to itself; of the others, a process chooses the action of all but
# two.
_ALL = frozenset(signal.valid_signals())
_KNOWN = _ALL - {signal.SIGKILL, signal.SIGSTOP}
# What ends a process that has no handler, and is not passed on: signal(7).
_FATAL = _KNOWN.difference(FORWARDED, (signal.SIGCHLD, signal.SIGURG))

# The marks of a signal that process 1 of ours is to send to its group, and of a SIGCONT for the
# command in whatever stop it is; others count from 0.
WHOLE_GROUP, ANY_STOP = -1, -2

# How often a process is woken once its time is over, and the latest time that any clock counts to.
_WAKE_EVERY, _LONGEST_TIMER = 0.05, 2.0**31 - 1


class Inherited(Record):
    """What the caller gave to this process and the command must get: mask and ignored signals.

    by_default: whether all others have their default actions in this process already.
    """

    mask: frozenset[int]
    ignored: frozenset[int]
    by_default: bool = False

    @classmethod
    def capture(
        cls, *, alone: bool = False, with_python: bool = False, ignored_bits: str | None = None
    ) -> Inherited:
        """Read the state of this process, before the launcher changes any of it.

        alone: whether nothing but the interpreter, at its start, can have looked at signals here:
        then it knows what is ignored, and the kernel need not be asked. with_python: whether what
        Python itself ignores, SIGPIPE and SIGXFSZ, stays ignored. ignored_bits: the row SigIgn of
        /proc/self/status, if it has been read.
        """
        ignored = _ignored_by_python() if alone else _ignored(ignored_bits)
        return cls(
            mask=frozenset(signal.pthread_sigmask(signal.SIG_BLOCK, ())),
            ignored=frozenset(ignored.difference(() if with_python else _IGNORED_BY_PYTHON)),
        )

    def restore_actions_inner(self) -> None:
        """Ignore in this process what is to be ignored, with no handlers, right before exec."""
        if not self.by_default:
            take_defaults(but=self.ignored)
        for number in self.ignored & _KNOWN:
            signal.signal(number, signal.SIG_IGN)


def take_defaults(*, but: frozenset[int] = frozenset()) -> None:
    """Give the signals of this process their default actions, but for some."""
    for number in _KNOWN:
        if number not in but and signal.getsignal(number) not in (signal.SIG_DFL, None):
            signal.signal(number, signal.SIG_DFL)


def notice_ends() -> Callable[[], object]:
    """Give SIGCHLD its default action: ignored, it says nothing. Return what gives it back."""
    action = signal.signal(signal.SIGCHLD, signal.SIG_DFL) or signal.SIG_DFL
    return lambda: signal.signal(signal.SIGCHLD, action)


def _ignored_by_python() -> set[int]:
    return {number for number in _KNOWN if signal.getsignal(number) == signal.SIG_IGN}


def _ignored(bits: str | None) -> set[int]:
    """Return what this process ignores, even if a library outside of Python has set that."""
    text = bits or procfs.status_field("self", "SigIgn")
    if text is None:
        return _ignored_by_python()
    ignored = int(text, 16)
    numbers = range(1, ignored.bit_length() + 1)  # not _KNOWN: few are ignored
    return {number for number in numbers if ignored >> (number - 1) & 1} & _KNOWN


class Group(Record):
    """The process group that the command has to itself.

    number: as this process counts. delegate: a pidfd of our process 1 in it, or -1. Process 1
    passes on what it gets, and could not know what the whole group has got; so it sends that.
    """

    number: int
    delegate: int = -1

    def send(self, number: int) -> None:
        """Send signal `number` to all of it; a group that has gone is no error."""
        if self.delegate >= 0:
            send_marked(self.delegate, number, WHOLE_GROUP)
        else:
            send_to_group(self.number, number)


class Blocked:
    """Context in which this thread takes no signal; what arrives waits until the end."""

    def __enter__(self) -> None:
        self._mask = signal.pthread_sigmask(signal.SIG_BLOCK, _ALL)

    def __exit__(self, *_: object) -> None:
        signal.pthread_sigmask(signal.SIG_SETMASK, self._mask)


class Received(Record):
    """A signal; whether a process sent it, and not the terminal; and the mark of the sender."""

    number: int
    from_process: bool
    mark: int = 0


class Reader:
    """Context in which the signals of FORWARDED, and SIGCHLD, are read from a descriptor.

    So are those that would end this process before it has put everything back, in `fatal`.

    SIGCHLD gets its default action meanwhile: ignored (as some callers leave it) it would make the
    kernel throw the command's status away. Only for the main thread of a program that waits for
    nothing else, such as the command line.
    wake_after: seconds after which this process is not left stopped any more, no matter by whom;
    never if None.
    """

    def __init__(self, *, wake_after: float | None = None) -> None:
        self._wake_after = wake_after
        self.fatal = frozenset(n for n in _FATAL if signal.getsignal(n) == signal.SIG_DFL)
        # SIGCHLD reports a command that stops: a pidfd reports its end only.
        self._numbers = (*FORWARDED, CHLD, *self.fatal)

    def __enter__(self) -> Reader:
        self._descriptor = libc.signalfd(self._numbers)
        self._kept: list[Received] = []
        self._mask = signal.pthread_sigmask(signal.SIG_BLOCK, self._numbers)
        self._action = signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        self._end_timer: Callable[[], object] | None = None
        if self._wake_after is not None:
            # A clock that nobody can stop: to send SIGCONT continues a process, even one that
            # blocks it. Again and again, since it may be stopped again.
            from pyspaces.kernel import timer

            seconds = min(self._wake_after, _LONGEST_TIMER)
            self._end_timer = timer.start(seconds, every=_WAKE_EVERY, number=CONT)
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._descriptor)
        if self._end_timer:
            self._end_timer()
        # None: a handler that was not installed from Python, which cannot be put back.
        if self._action is not None:
            signal.signal(signal.SIGCHLD, self._action)
        signal.pthread_sigmask(signal.SIG_SETMASK, self._mask)

    def fileno(self) -> int:
        """Return the descriptor, for poll(2)."""
        return self._descriptor

    def keep(self, received: Received) -> None:
        """Put a signal back that came too early; `read` returns it again."""
        self._kept.append(received)

    def read_new(self) -> Received | None:
        """Return the next signal that arrived and was not kept, or None.

        Left out are those of our own timer, and what we have sent to our own process group.
        """
        while True:
            try:
                data = os.read(self._descriptor, constants.SIGNALFD_SIGINFO_SIZE)
            except BlockingIOError:
                return None
            # struct signalfd_siginfo: ssi_signo, ssi_errno, ssi_code, ssi_pid come first. A
            # positive code is the kernel's (SI_KERNEL for the terminal), the others a process's.
            number, _, code, sender = libc.numbers(data[:16], 4, signed=True)
            if code != constants.SI_TIMER and sender != os.getpid():
                return Received(number=number, from_process=code <= 0)

    def read(self) -> Received | None:
        """Return the next signal that waits, or None."""
        return self._kept.pop(0) if self._kept else self.read_new()


def wait_for_any_inner() -> Received:
    """Wait for the next signal of any kind; every one is blocked in this process.

    But for those that it has sent itself, to its own group.
    """
    while (told := signal.sigwaitinfo(_KNOWN)).si_pid == os.getpid():
        continue
    # A process inside that stops its group, as an editor does, has sent the command its own.
    of_group = told.si_signo in STOPPING and told.si_pid > 0
    from_process = told.si_code <= 0 and not of_group
    return Received(number=told.si_signo, from_process=from_process, mark=told.si_errno)


def send_to_all_inner(number: int) -> None:
    """Send signal `number` to every process of the namespace but this, its first."""
    try:
        os.kill(-1, number)
    except ProcessLookupError:
        return


def send(pidfd: int, number: int) -> None:
    """Send signal `number` to the process behind `pidfd`; one that has ended is no error."""
    try:
        signal.pidfd_send_signal(pidfd, number)
    except ProcessLookupError:
        return


def send_marked(pidfd: int, number: int, mark: int) -> None:
    """Send signal `number` with a mark that its receiver understands."""
    try:
        nsfs.pidfd_send_signal(pidfd, number, mark)
    except KernelError as error:
        if error.errno != errno.ESRCH:
            raise


def wait_for_ending_inner() -> None:
    """Wait for TERM or INT; meanwhile the kernel reaps the children that fall to this process.

    Blocked, both wait for sigwait even if this is pid 1 and has no handler for them.
    """
    asked = (signal.SIGTERM, signal.SIGINT)
    signal.pthread_sigmask(signal.SIG_SETMASK, asked)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    signal.sigwait(asked)


def send_to_group(group: int, number: int) -> None:
    """Send signal `number` to a process group; one that has gone is no error."""
    try:
        os.killpg(group, number)
    except (ProcessLookupError, PermissionError):
        return


def stopped_by(pid: int) -> int | None:
    """Return the signal that has stopped child `pid` since this was last asked, or None."""
    try:
        told = os.waitid(os.P_PID, pid, os.WSTOPPED | os.WNOHANG)
    except ChildProcessError:
        return None
    return told.si_status if told else None


def was_continued(pid: int) -> bool:
    """Return whether stopped child `pid` has been continued since this was last asked."""
    try:
        return bool(os.waitid(os.P_PID, pid, os.WCONTINUED | os.WNOHANG))
    except ChildProcessError:
        return False


def stop_self() -> bool:
    """Stop this process if a shell controls its jobs; return True once it is continued.

    Returns False at once if none does.

    By SIGSTOP: to stop by SIGTSTP it would have to be unblocked, and a second Ctrl-Z in the moment
    before it is blocked again would stop us without our knowing (seen).
    """
    if not has_job_control():
        return False
    os.kill(os.getpid(), signal.SIGSTOP)
    return True


def has_terminal() -> bool:
    """Return whether this process has a controlling terminal, and so perhaps a shell with jobs."""
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC))
    except OSError:
        return False
    return True


def is_of_command_alone(number: int) -> bool:
    """Return whether a stop by this signal is the command's alone, unless it was asked for.

    SIGSTOP is, if there is no shell: its sender does not know of the launcher, and will continue,
    or kill, only the command.
    """
    return number == STOP and not has_terminal()


def has_job_control() -> bool | None:
    """Return whether a shell would continue this process group: it is not orphaned, setpgid(2).

    That is, the first of our ancestors beyond the group is in our session, as a shell is. None
    if that one is not visible, being outside of our pid namespace.
    """
    group, session, process = os.getpgrp(), os.getsid(0), os.getppid()
    while process > 0:
        try:
            if os.getpgid(process) != group:
                return os.getsid(process) == session
        except ProcessLookupError:
            return False
        process = procfs.parent_of(process)
    return None


def are_pending(numbers: Iterable[int]) -> bool:
    """Return whether one of these signals, blocked here, has been sent and not been read."""
    return not signal.sigpending().isdisjoint(numbers)
