"""Helper programs of the host, such as newuidmap: find them, run them, read their output.

Runs in the parent. Loaded only if a launch needs one: `subprocess` would take longer than the
launch. Must not know what a program is for.
"""

from __future__ import annotations

import errno
import fcntl
import os
import select
import struct

from pyspaces.kernel import libc, nsfs, spawn
from pyspaces.kernel.libc import KernelError
from pyspaces.record import Record
from pyspaces.status import CANNOT_EXECUTE, Status

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal
else:
    import _signal as signal  # plain numbers: see status.py

_WORD = struct.Struct("i")
# After the caller's own PATH, which may be short under a service manager.
DIRECTORIES = ("/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin")


class Finished(Record):
    """The status of a program, and its output: standard output and error."""

    status: Status
    output: str


def find(name: str) -> str | None:
    """Return the path of program `name`, from PATH or the usual directories, or None."""
    for directory in (*os.get_exec_path(), *DIRECTORIES):
        path = os.path.join(directory, name)
        if os.path.isfile(path) and os.access(path, os.X_OK):
            return path
    return None


def run(path: str, *arguments: str) -> Finished:
    """Run a program to its end, in the C locale and without input. Raises KernelError."""
    argv = [path, *arguments]
    # A process more costs 2 ms, which most callers need not pay.
    attended = signal.getsignal(signal.SIGCHLD) == signal.SIG_IGN
    start = _attend if attended else _become
    # No other child may inherit the writing ends: they would keep back the end-of-file.
    with spawn.forks_held():
        reading, writing = _pipe()
        answer, answering = _pipe()
        try:
            child = spawn.spawn(lambda: start(argv, writing, answering))
        except BaseException:
            os.close(reading)
            os.close(answer)
            raise
        finally:
            os.close(writing)
            os.close(answering)
    try:
        output = _hear(reading, child.pidfd)
        data = os.read(answer, _WORD.size)
        if attended:
            nsfs.reap(child.pid)
        else:
            data = _WORD.pack(os.waitpid(child.pid, 0)[1])
    except ChildProcessError as error:  # somebody else has waited for it
        raise KernelError(error.errno or 0, "waitpid", [child.pid], path) from None
    finally:
        os.close(reading)
        os.close(answer)
        os.close(child.pidfd)
    if len(data) != _WORD.size:
        raise KernelError(errno.ECHILD, "waitpid", [child.pid], path)
    return Finished(status=Status.from_wait(*_WORD.unpack(data)), output=output)


def _pipe() -> tuple[int, int]:
    """Return a pipe whose ends are above 2, even if standard streams are closed.

    The program gets its own standard streams at 0, 1 and 2.
    """
    ends = []
    for end in os.pipe():
        ends.append(fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 3))
        os.close(end)
    reading, writing = ends
    return reading, writing


def _attend(argv: list[str], writing: int, answering: int) -> None:
    """Wait for the program and send its status; runs in a process between it and us.

    If SIGCHLD is ignored, as in some callers, the kernel discards the status of a child. This
    process can change that without affecting the caller.
    """
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    child = spawn.spawn_alone(lambda: _become(argv, writing, answering))
    os.close(writing)
    _, word = os.waitpid(child.pid, 0)
    os.write(answering, _WORD.pack(word))


def _become(argv: list[str], writing: int, answering: int) -> None:
    """Become the program; runs in the new process. answering: closed by exec."""
    # The launcher blocks signals around a clone and reads them later; a helper wants its own.
    libc.set_signal_mask(libc.signal_set())
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.set_inheritable(0, True)  # dup2(2) changes nothing where both are 0
    os.dup2(writing, 1)
    os.dup2(writing, 2)
    variables = {**os.environ, "LC_ALL": "C"}
    try:
        os.execve(argv[0], argv, variables)
    except OSError as error:
        os.write(2, os.fsencode(f"{argv[0]}: {error.strerror}\n"))
        os._exit(CANNOT_EXECUTE)


def _hear(reading: int, pidfd: int) -> str:
    """Return what the program wrote until it ended, even if others still hold the pipe."""
    os.set_blocking(reading, False)
    poller = select.poll()
    poller.register(reading, select.POLLIN)
    poller.register(pidfd, select.POLLIN)
    chunks = []
    ended = False
    while not ended:
        ended = pidfd in dict(poller.poll())
        try:
            while chunk := os.read(reading, 65536):
                chunks.append(chunk)
            poller.unregister(reading)
        except (BlockingIOError, KeyError):
            continue
    return os.fsdecode(b"".join(chunks))
