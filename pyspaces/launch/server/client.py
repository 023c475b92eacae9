"""The caller's side: starts the server, asks it for children, and ends it.

Runs in the parent. All of it happens while no other thread forks, and so in one thread at a time.
"""

from __future__ import annotations

import _socket
import _thread
import atexit
import errno
import fcntl
import os
import sys
import time

from pyspaces.kernel import constants, libc, nsfs, procfs, spawn
from pyspaces.kernel.libc import KernelError
from pyspaces.kernel.spawn import Spawned
from pyspaces.launch import channel, rights, signals
from pyspaces.launch.command import caller_environment
from pyspaces.launch.handed import Handed
from pyspaces.launch.server import wire
from pyspaces.launch.server.facts import facts
from pyspaces.launch.signals import Inherited

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from pyspaces.launch.channel import Channel
    from pyspaces.launch.services import Launch, Services

# Seconds: a server that has not answered by then is ended, whether it is stopped or hung.
_PATIENCE = 10.0
# Seconds from one start to the next: if the caller has changed, and if no server was of use.
_PAUSE, _LONG_PAUSE = 1.0, 60.0
_MOST_INHERITED = 200
_MAIN = (
    "import sys; sys.path.append(sys.argv[1]); "
    "from pyspaces.launch.server.serving import serve; serve()"
)
# Copies with numbers above those that the server is to find.
_ABOVE = 10


class _Gone(Exception):
    """The server has ended, does not answer, or gives an invalid answer."""


class _Unable(Exception):
    """There is no server for this launch: it is for a fork."""


class _Server:
    """A server that has said hello; owns its socket and pidfd.

    is_asked: whether it owes an answer. What comes then is of no use to anybody else.
    """

    def __init__(self, socket: _socket.socket, pidfd: int, hello: wire.Hello) -> None:
        self._socket, self._pidfd = socket, pidfd
        self.facts = hello.facts
        self.is_asked = False

    def ask(self, descriptors: Sequence[int]) -> tuple[bytes, list[int]]:
        """Send a request; return the answer and its descriptors. Raises _Gone, and OSError."""
        self.is_asked = True
        try:
            rights.send(self._socket, wire.ASK, descriptors)
        except OSError as error:
            if error.errno in (errno.EPIPE, errno.ECONNRESET, errno.EAGAIN):
                raise _Gone from None
            self.is_asked = False  # nothing was sent
            raise
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
        _reap(self._pidfd)
        os.close(self._pidfd)


def _reap(pidfd: int) -> None:
    """Reap a child that has ended, and no other that has its number by now."""
    try:
        os.waitid(os.P_PIDFD, pidfd, os.WEXITED)
    except ChildProcessError:  # somebody waits for any child
        return


class _State:
    server: _Server | None = None
    not_before = 0.0  # when the next one may be started, by the monotonic clock


def create(launch: Launch, services: Services, flags: int) -> tuple[Spawned, Channel] | None:
    """Create the child of a launch; returns and raises as `choice.create` does."""
    if not libc.is_dumpable():
        # Nobody may look into this process; into a new interpreter others might, for a moment.
        end_for_good()
        return None
    if _needs_fork(launch, services):
        return None
    # Twice: a server that was killed is started anew.
    for _ in range(2):
        try:
            return _create(launch, services, flags)
        except _Gone:
            _State.not_before = 0.0
        except _Unable:
            break
    return None


def _needs_fork(launch: Launch, services: Services) -> bool:
    """Return whether the launch needs this process's memory, or more than can be sent."""
    return bool(
        launch.attach
        or launch.keep
        or launch.not_for_others
        # What confines a command, and its sockets, are objects of this process.
        or launch.plan.asks("needs_fork")
        or launch.target_variables is not None
        or services.before()
    )


def _create(launch: Launch, services: Services, flags: int) -> tuple[Spawned, Channel]:
    """Try once. Raises _Gone and _Unable, with no child left; KernelError of the creation."""
    ours, theirs = channel.pair()
    try:
        child = _child_of(*_asked(launch, services, flags, theirs))
    except BaseException as error:
        if not isinstance(error, KernelError | _Unable):
            # Nobody knows whether there is a child. Before our end is closed: it would end by
            # itself then, and be a zombie without descriptors by which to know it.
            end()
            _end_stray(theirs)
        ours.close()
        raise
    finally:
        theirs.close()
    return child, ours


def _asked(
    launch: Launch, services: Services, flags: int, theirs: Channel
) -> tuple[bytes, list[int]]:
    """Send a launch to the server, and return the answer and its descriptors."""
    opened: list[int] = []
    try:
        own, umask = facts()
        server = _server_like(own)
        opened.append(os.open(".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC))
        first = [theirs.fileno(), *opened, *([launch.post.link] if launch.post else [])]
        inherited = launch.inherited or Inherited.capture()
        handed = launch.handed or Handed()
        sources, targets = _given(handed)
        request = wire.Request(
            plan=launch.plan.to_data(whole=False),
            variables=dict(caller_environment() if launch.variables is None else launch.variables),
            mask=tuple(map(int, inherited.mask)),
            ignored=tuple(map(int, inherited.ignored)),
            handed=(handed.executable, handed.process_group),
            umask=umask if handed.umask is None else handed.umask,
            held=services.holding() is not None,
            flags=flags,
            targets=tuple(targets),
            own=1 + len(first),
        )
        opened.append(wire.memory_of(request))
        return server.ask([opened[-1], *first, *sources])
    except (OSError, ValueError) as error:
        raise _Unable from error
    finally:
        rights.close(opened)


def _given(handed: Handed) -> tuple[list[int], list[int]]:
    """Return the descriptors that a command is given, and the numbers that it has them by."""
    inherited = _inheritable()
    found = {number: number for number in (inherited if handed.kept is None else handed.kept)}
    for number, source in enumerate(handed.streams):
        if source >= 0 or number in inherited:
            found[number] = source if source >= 0 else number
    return list(found.values()), list(found)


def _inheritable() -> list[int]:
    """Return the descriptors that a command inherits. Raises _Unable where they are too many."""
    found = []
    for name in os.listdir("/proc/thread-self/fd"):
        try:
            if os.get_inheritable(int(name)):
                found.append(int(name))
        except OSError:  # closed by now, as that of the listing is
            continue
    if len(found) > _MOST_INHERITED:
        raise _Unable
    return found


def _child_of(answer: bytes, descriptors: list[int]) -> Spawned:
    """Return the child that the server reports. Raises _Unable, KernelError, and _Gone."""
    kind, body = answer[:1], answer[1:]
    if kind == wire.CREATED and body.isdigit() and len(descriptors) == 1:
        return Spawned(pid=int(body), pidfd=descriptors[0])
    rights.close(descriptors)
    if kind == wire.UNABLE:
        raise _Unable
    number, _, rest = body.partition(b"\0")
    call, separator, path = rest.partition(b"\0")
    if kind != wire.REFUSED or not separator or not number.isdigit():
        raise _Gone
    raise KernelError(int(number), os.fsdecode(call), (), os.fsdecode(path) or None)


def _end_stray(theirs: Channel) -> None:
    """End the child of a server that died before it could report it: it holds the channel."""
    link = f"socket:[{os.fstat(theirs.fileno()).st_ino}]"
    for child in procfs.children_of(os.getpid()):
        folder = f"/proc/{child}/fd"
        if any(_leads_to(f"{folder}/{name}", link) for name in procfs.names_in(folder)):
            os.kill(child, constants.SIGKILL)
            spawn.reap(child)


def _leads_to(path: str, link: str) -> bool:
    try:
        return os.readlink(path) == link
    except OSError:
        return False


# --- the server -----------------------------------------------------------------------------------


def end() -> None:
    """End the server, if there is one."""
    with spawn.forks_held():
        server, _State.server = _State.server, None
        if server:
            server.end()


def end_for_good() -> None:
    """End the server, if there is one; the next is not to wait because of that."""
    end()
    _State.not_before = 0.0


def _forget() -> None:
    """Close what there is of a server: in a forked child, whose children it cannot create."""
    server, _State.server = _State.server, None
    _State.not_before = 0.0
    if server:
        server.close()


os.register_at_fork(after_in_child=_forget)
# A socket that the interpreter itself closes at its end makes it warn.
atexit.register(_forget)


def _server_like(own: dict[str, str | None]) -> _Server:
    """Return a server that is as this thread. Raises _Unable, and what a start raises."""
    server = _State.server
    if server and server.facts == own:
        return server
    now = time.monotonic()
    if now < _State.not_before:
        raise _Unable
    end()
    _State.not_before = now + _LONG_PAUSE
    server = _start()
    if server.facts != own:
        server.end()
        raise _Unable
    _State.server, _State.not_before = server, now + _PAUSE
    return server


def _start() -> _Server:
    """Start a server. Raises _Unable, and OSError."""
    words = (sys.executable or "", *("-I", "-S", "-X", "utf8", "-c", _MAIN), _package_root())
    # The program of a frozen application is no interpreter; texts are to be the same bytes.
    frozen, encoding = getattr(sys, "frozen", False), sys.getfilesystemencoding()
    if frozen or encoding != "utf-8" or not (os.path.isabs(words[0]) and os.path.isabs(words[-1])):
        raise _Unable
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
    with signals.Blocked():  # as the server stays
        numbers = (wire.SOCKET, wire.CALLER)
        return spawn.execute(words, variables, dict(zip(numbers, copies, strict=True)))


def _greeted(pid: int, socket: _socket.socket) -> _Server:
    """Hear the hello of a server. Raises _Unable, with no server left."""
    descriptors: list[int] = []
    try:
        data, descriptors = _heard(socket)
        hello = wire.hello_of(data)
        if hello.program != wire.program() or len(descriptors) != 1:
            raise _Gone
    except BaseException as error:
        socket.close()
        rights.close(descriptors)
        os.kill(pid, constants.SIGKILL)
        spawn.reap(pid)
        if isinstance(error, _Gone | wire.Malformed):
            raise _Unable from None
        raise
    return _Server(socket, descriptors[0], hello)


def _heard(socket: _socket.socket) -> tuple[bytes, list[int]]:
    """Wait for the next message. Raises _Gone if none of ours comes in time."""
    if not nsfs.wait_for(socket.fileno(), _PATIENCE):
        raise _Gone
    try:
        data, descriptors = wire.receive(socket)
    except (OSError, wire.Malformed):
        raise _Gone from None
    if not data:
        rights.close(descriptors)
        raise _Gone
    return data, descriptors
