"""A server as its caller has it: a process with an interpreter of its own, asked by a socket.

Runs in the parent, while no other thread forks. Must not know a launch.
"""

from __future__ import annotations

import _socket
import _thread
import errno
import fcntl
import os
import sys
import time

from pyspaces.kernel import constants, executing, nsfs
from pyspaces.launch import rights, signals
from pyspaces.launch.server import wire

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

# Seconds: a server that has not answered by then is ended, whether it is stopped or hung.
_PATIENCE = 10.0
_MAIN = (
    "import sys; sys.path.append(sys.argv[1]); "
    "from pyspaces.launch.server.serving import serve; serve()"
)
# Copies with numbers above those that the server is to find.
_ABOVE = 10


class Gone(Exception):
    """The server has ended, does not answer, or gives an invalid answer."""


class Unable(Exception):
    """There is no server for this launch: it is for a fork."""


class Server:
    """A server that has said hello; owns its socket and pidfd.

    is_asked: whether it owes an answer. What comes then is of no use to anybody else.
    """

    def __init__(self, socket: _socket.socket, pidfd: int, hello: wire.Hello) -> None:
        self._socket, self._pidfd = socket, pidfd
        self.facts = hello.facts
        self.is_asked = False

    def ask(self, request: bytes, descriptors: Sequence[int]) -> None:
        """Send a request, which `answer` has to follow. Raises Gone, and OSError."""
        if len(request) <= wire.LARGEST_SENT:
            self._send(wire.ASK + request, descriptors)
            return
        memory = wire.memory_of(request)
        try:
            self._send(wire.ASK, [memory, *descriptors])
        finally:
            os.close(memory)

    def _send(self, message: bytes, descriptors: Sequence[int]) -> None:
        self.is_asked = True
        try:
            rights.send(self._socket, message, descriptors)
        except OSError as error:
            if error.errno in (errno.EPIPE, errno.ECONNRESET, errno.EAGAIN):
                raise Gone from None
            self.is_asked = False  # nothing was sent
            raise

    def answer(self) -> tuple[bytes, list[int]]:
        """Return the answer to a request, and its descriptors. Raises Gone."""
        answer = _heard(self._socket)
        self.is_asked = False
        return answer

    def close(self) -> None:
        """Close what this process has of it."""
        self._socket.close()
        os.close(self._pidfd)

    def end(self) -> None:
        """End and reap it, unless a thread that waits for any child has reaped it."""
        self._socket.close()
        if self.is_asked or not nsfs.has_ended(self._pidfd, timeout=1):
            signals.send(self._pidfd, constants.SIGKILL)
            nsfs.has_ended(self._pidfd, timeout=None)
        nsfs.reap_by_pidfd(self._pidfd)
        os.close(self._pidfd)


def start() -> Server:
    """Start a server. Raises Unable, and OSError."""
    words = (sys.executable or "", *("-I", "-S", "-X", "utf8", "-c", _MAIN), _package_root())
    # The program of a frozen application is no interpreter; texts are to be the same bytes.
    frozen, encoding = getattr(sys, "frozen", False), sys.getfilesystemencoding()
    if frozen or encoding != "utf-8" or not (os.path.isabs(words[0]) and os.path.isabs(words[-1])):
        raise Unable
    ours, theirs = rights.pair()
    copies: list[int] = []
    try:
        copies.append(fcntl.fcntl(theirs.fileno(), fcntl.F_DUPFD_CLOEXEC, _ABOVE))
        caller = nsfs.pidfd_open(os.getpid())
        copies.append(fcntl.fcntl(caller, fcntl.F_DUPFD_CLOEXEC, _ABOVE))
        os.close(caller)
        pid = _execute(words, copies)
    except BaseException:
        ours.close()
        raise
    finally:
        theirs.close()
        rights.close(copies)
    return _greeted(pid, ours)


def _package_root() -> str:
    path = __file__
    for _ in ("server", "launch", "pyspaces", "the root"):
        path = os.path.dirname(path)
    return path


def _execute(words: Sequence[str], copies: Sequence[int]) -> int:
    """Execute the server, by a thread that has ended when this returns, or by the main one.

    The signal of PR_SET_PDEATHSIG comes when the *thread* ends whose child a process is, and a
    child of the server has the server's parent. Once that thread has ended, the kernel puts the
    first thread of this process, the main one, in its place: find_alive_thread() in kernel/exit.c.
    """
    if _thread.get_native_id() == os.getpid():
        return _executed(words, copies)
    told: list[tuple[int | BaseException, str]] = []
    done = _thread.allocate_lock()
    done.acquire()

    def run() -> None:
        try:
            told.append((_executed(words, copies), os.readlink("/proc/thread-self")))
        except BaseException as error:  # noqa: BLE001 - raised by the thread that waits
            told.append((error, ""))
        finally:
            done.release()

    _thread.start_new_thread(run, ())
    done.acquire()
    result, thread = told[0]
    if isinstance(result, BaseException):
        raise result
    while os.path.lexists(f"/proc/{thread}"):
        time.sleep(0.0002)
    return result


def _executed(words: Sequence[str], copies: Sequence[int]) -> int:
    # A loader that finds its libraries by this only; the rest is none of the server's business.
    path = os.environb.get(b"LD_LIBRARY_PATH")
    variables = {} if path is None else {b"LD_LIBRARY_PATH": path}
    numbers = (wire.SOCKET, wire.CALLER)
    pid = 0
    try:
        with signals.Blocked():  # as the server stays
            pid = executing.execute(words, variables, dict(zip(numbers, copies, strict=True)))
    except BaseException:
        if pid:  # a signal that had to wait has a handler that raises, as Ctrl-C has
            nsfs.kill_and_reap(pid)
        raise
    return pid


def _greeted(pid: int, socket: _socket.socket) -> Server:
    """Hear the hello of a server. Raises Unable, with no server left."""
    descriptors: list[int] = []
    try:
        data, descriptors = _heard(socket)
        hello = wire.hello_of(data)
        if hello.program != wire.program() or len(descriptors) != 1:
            raise Gone
    except BaseException as error:
        socket.close()
        rights.close(descriptors)
        nsfs.kill_and_reap(pid)
        if isinstance(error, Gone | wire.Malformed):
            raise Unable from None
        raise
    return Server(socket, descriptors[0], hello)


def _heard(socket: _socket.socket) -> tuple[bytes, list[int]]:
    """Wait for the next message. Raises Gone if none of ours comes in time."""
    if not nsfs.wait_for(socket.fileno(), _PATIENCE):
        raise Gone
    try:
        data, descriptors = wire.receive(socket)
    except (OSError, wire.Malformed):
        raise Gone from None
    if not data:
        rights.close(descriptors)
        raise Gone
    return data, descriptors
