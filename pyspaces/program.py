"""Helper programs of the host, such as newuidmap: found, run to their end, and heard.

Runs in the parent. Loaded only where a launch needs one: `subprocess` would cost more than the
launch. Must not know what a program is for.
"""

from __future__ import annotations

import os
import select

from pyspaces import spawn
from pyspaces.kernel import libc
from pyspaces.kernel.libc import KernelError
from pyspaces.record import Record
from pyspaces.status import CANNOT_EXECUTE, Status

# Behind the caller's own PATH, which may be bare under a service manager.
_FOLDERS = ("/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin")


class Finished(Record):
    """How a program ended, and all that it wrote to its standard output and error."""

    status: Status
    output: str


def find(name: str) -> str | None:
    """Return the path of program `name`, by PATH and then by the usual folders; None without."""
    for folder in (*os.get_exec_path(), *_FOLDERS):
        path = os.path.join(folder, name)
        if os.path.isfile(path) and os.access(path, os.X_OK):
            return path
    return None


def run(path: str, *arguments: str) -> Finished:
    """Run a program to its end, in the C locale and without input. Raises KernelError."""
    argv = [path, *arguments]
    # No other child may inherit the writing end: it would keep back the end-of-file.
    with spawn.forks_held():
        reading, writing = os.pipe()
        try:
            child = spawn.spawn(lambda: _become(argv, writing))
        except BaseException:
            os.close(reading)
            raise
        finally:
            os.close(writing)
    try:
        output = _hear(reading, child.pidfd)
        _, word = os.waitpid(child.pid, 0)
    except ChildProcessError as error:  # SIGCHLD is ignored: the kernel kept no status
        raise KernelError(error.errno or 0, "waitpid", [child.pid], path) from None
    finally:
        os.close(reading)
        os.close(child.pidfd)
    return Finished(status=Status.from_wait(word), output=output)


def _become(argv: list[str], writing: int) -> None:
    """Become the program; runs in the new process."""
    # The launcher blocks signals around a clone and reads them later; a helper wants its own.
    libc.unblock_signals()
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(writing, 1)
    os.dup2(writing, 2)
    variables = {**os.environ, "LC_ALL": "C"}
    try:
        os.execve(argv[0], argv, variables)
    except OSError as error:
        os.write(2, os.fsencode(f"{argv[0]}: {error.strerror}\n"))
        os._exit(CANNOT_EXECUTE)


def _hear(reading: int, pidfd: int) -> str:
    """Return what the program wrote until it ended, whoever else still holds the pipe."""
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
