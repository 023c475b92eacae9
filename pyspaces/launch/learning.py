"""What a command calls, watched by user notification, and written as a profile: --seccomp-learn.

The kernel reports each call to a process beside the launcher, which notes its number and lets it
go on: seccomp_unotify(2). That answer is for watching only, and decides nothing: the arguments may
change meanwhile. It works for ordinary users. Runs in the parent, but for `Handover` (in the child)
and `_watch` (in that process). Loaded only if it was asked for.
"""

from __future__ import annotations

import _socket
import errno
import fcntl
import json
import os
import select
import struct
import sys

from pyspaces.errors import SpaceError
from pyspaces.features.confinement.compiling import PACKAGES
from pyspaces.features.confinement.groups import NEW
from pyspaces.kernel import bpf, constants, libc, nsfs, spawn
from pyspaces.kernel.libseccomp import Library, Missing
from pyspaces.launch import rights, signals
from pyspaces.launch.records import files
from pyspaces.launch.service import Service

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyspaces.kernel.spawn import Spawned
    from pyspaces.launch.services import Launch
    from pyspaces.status import Ended

# include/uapi/linux/seccomp.h: of these numbers on the machines that pyspaces knows, and the
# structures: id, pid, flags, then struct seccomp_data; id, value, error, flags.
_RECEIVE, _SEND = 0xC0502100, 0xC0182101
_NOTIFICATION, _RESPONSE = struct.Struct("=QIIiIQ6Q"), struct.Struct("=QqiI")
_CONTINUE = 1
_CALL = struct.Struct("=Ii")  # of an answer: the architecture, and the number
_MOST_ANSWER = 1 << 16
# Numbers that a command makes up, of which there are millions: so many are noted.
_MOST_UNNAMED = 16
_NEWER = {number: name for name, number in NEW.items()}
# High, so that a descriptor of the command with this number is not taken for ours.
_FIRST_DESCRIPTOR = 250
# What a command needs though it may not have been seen: to end, and to go on after a signal.
_ALWAYS = ("execve", "exit", "exit_group", "restart_syscall", "rt_sigreturn")


class Handover:
    """How the child sends the listener: by the one call that is not reported."""

    def __init__(self, socket: _socket.socket, library: Library) -> None:
        self._socket = socket
        number = library.number("sendmsg")
        assert number is not None
        self.program = _program(library.native(), number, socket.fileno())

    def install_inner(self) -> None:
        """Install the filter, and send its listener. Raises KernelError."""
        flag = constants.SECCOMP_FILTER_FLAG_NEW_LISTENER
        listener = libc.set_seccomp_filter(self.program, flag)
        # No call but this one before the listener has been received: it would wait for ever.
        words = (_socket.SOL_SOCKET, _socket.SCM_RIGHTS, struct.pack("i", listener))
        self._socket.sendmsg([b"\0"], [words])


def _program(architecture: int, sendmsg: int, descriptor: int) -> bytes:
    """Return the filter: every call is reported, but sendmsg(2) on one descriptor."""
    first_word = 16 if sys.byteorder == "little" else 20  # of the first argument, its low half
    rows = (
        (bpf.LOAD_WORD, 0, 0, 4),
        (bpf.EQUAL, 0, 5, architecture),
        (bpf.LOAD_WORD, 0, 0, 0),
        (bpf.EQUAL, 0, 3, sendmsg),
        (bpf.LOAD_WORD, 0, 0, first_word),
        (bpf.EQUAL, 0, 1, descriptor),
        (bpf.RETURN, 0, 0, constants.SECCOMP_RET_ALLOW),
        (bpf.RETURN, 0, 0, constants.SECCOMP_RET_USER_NOTIF),
    )
    return bpf.assembled(rows)


class Learning(Service):
    """The profile of what one command calls."""

    task = "write the profile"

    def __init__(self, launch: Launch) -> None:
        super().__init__(launch)
        self._watcher: Spawned | None = None

    def open(self) -> None:
        """Try the place of the file. Raises UsageFault, and SpaceError without the library."""
        try:
            self._library = Library()
        except Missing as error:
            hint = f"install libseccomp: the package is {PACKAGES}"
            raise SpaceError(f"cannot name system calls: {error}", hint=hint) from None
        self._place = files.usable("seccomp-learn", self.launch.plan.seccomp.learn or "")
        ours, theirs = rights.pair()
        high = fcntl.fcntl(theirs.fileno(), fcntl.F_DUPFD_CLOEXEC, _FIRST_DESCRIPTOR)
        theirs.close()
        self._ours, self._theirs = ours, _socket.socket(fileno=high)
        self.launch.handover = Handover(self._theirs, self._library)
        self.launch.not_for_others += [self._place.close, self._ours.close]

    def held(self, child: Spawned) -> None:
        """Start the process that watches, before the child can make a call that waits for it."""
        del child
        reading, writing = rights.pair()

        def watch() -> None:
            # Else it would wait for itself to send the listener.
            self._theirs.close()
            reading.close()
            _watch(self._ours.fileno(), writing.fileno())

        with signals.Blocked():
            self._watcher = spawn.spawn(watch)
        writing.close()
        self._ours.close()
        self._theirs.close()
        self._ours = reading

    def ended(self, ended: Ended) -> None:
        """Write what the command has called."""
        del ended
        try:
            self._ours.send(b"\0")
            answer = self._ours.recv(_MOST_ANSWER)
            if not answer:
                raise OSError(errno.EPIPE, "the process that watches has died")
            self._place.write(self._profile(answer))
        except OSError as error:
            self.launch.tell(f"cannot write the profile: {files.told(error)}")
        finally:
            self.release()

    def release(self) -> None:
        """Close everything, and wait for the process that watches."""
        self._ours.close()
        self._theirs.close()
        self._place.close()
        if self._watcher:
            # It ends by itself, when nobody is left whose calls it has to answer.
            os.close(self._watcher.pidfd)
            nsfs.reap(self._watcher.pid)
            self._watcher = None

    def _profile(self, answer: bytes) -> str:
        names, architectures = set(_ALWAYS), set()
        for architecture, number in _CALL.iter_unpack(answer[1:]):
            name = _name_of(self._library, architecture, number)
            if name is None:
                self.launch.tell(f"call {number} has no name here: the profile lacks it")
            else:
                names.add(name)
                architectures.add(self._library.name_of_architecture(architecture))
        if answer[0]:
            self.launch.tell("more calls have no name here: the profile lacks them")
        others = sorted(name for name in architectures if name)
        profile = {
            "defaultAction": "SCMP_ACT_ERRNO",
            "defaultErrnoRet": errno.ENOSYS,
            "architectures": [f"SCMP_ARCH_{name.upper()}" for name in others],
            "syscalls": [{"names": sorted(names), "action": "SCMP_ACT_ALLOW"}],
        }
        return json.dumps(profile, indent=2) + "\n"


def _watch(receiving: int, telling: int) -> None:
    """Answer every call of the command; at the end, send the list of them.

    Every signal is blocked: at Ctrl-C the command may still have something to do. What has outlived
    the command goes on, with a process that nobody waits for.
    """
    os.setsid()
    listener = _received(receiving)
    if listener < 0:  # the launch has failed before
        return
    spawn.close_others(listener, telling)
    watcher = _Watcher(listener)
    watcher.serve(until=telling)
    # Without that byte, no answer is wanted; left unread, it would make sending one fail.
    if os.read(telling, 1):
        os.write(telling, watcher.told())
    os.close(telling)
    if not watcher.is_alone():
        spawn.spawn_alone(lambda: watcher.serve(until=None))


class _Watcher:
    """Answers the calls of the command and of all that it has started, and notes them."""

    def __init__(self, listener: int) -> None:
        self._listener = listener
        self._runs = False
        self._library = Library()
        self._numbers = [self._library.number(name) for name in ("execve", "execveat")]
        self._seen: dict[tuple[int, int], None] = {}
        self._unnamed = 0

    def serve(self, *, until: int | None) -> None:
        """Answer calls until a descriptor can be read, or until no process is left."""
        poller = select.poll()
        poller.register(self._listener, select.POLLIN)
        if until is not None:
            poller.register(until, select.POLLIN)
        while ready := dict(poller.poll()):
            events = ready.get(self._listener, 0)
            if events & select.POLLIN:
                self._answer()
            elif until in ready or until is None:
                return
            elif events:
                poller.unregister(self._listener)  # POLLHUP: nobody is left

    def told(self) -> bytes:
        """Return the answer: whether there were calls that are not in it, and the others."""
        calls = b"".join(_CALL.pack(*call) for call in self._seen)
        return bytes([self._unnamed > _MOST_UNNAMED]) + calls

    def is_alone(self) -> bool:
        """Return whether no process is left whose calls come here."""
        poller = select.poll()
        poller.register(self._listener, 0)
        return bool(poller.poll(0))

    def _answer(self) -> None:
        room = bytearray(_NOTIFICATION.size)
        try:
            fcntl.ioctl(self._listener, _RECEIVE, room)
        except OSError as error:
            if error.errno == errno.ENOENT:  # who made it was killed meanwhile
                return
            raise
        number, _, _, call, architecture, *_ = _NOTIFICATION.unpack(room)
        # What comes before is our own child, on its way to exec.
        self._runs = self._runs or call in self._numbers
        if self._runs:
            self._note(architecture, call)
        try:
            fcntl.ioctl(self._listener, _SEND, _RESPONSE.pack(number, 0, 0, _CONTINUE))
        except OSError as error:
            if error.errno != errno.ENOENT:
                raise

    def _note(self, architecture: int, call: int) -> None:
        """Note a call: those that have a name are few, and are all noted."""
        if (architecture, call) in self._seen:
            return
        if _name_of(self._library, architecture, call) is None:
            self._unnamed += 1
            if self._unnamed > _MOST_UNNAMED:
                return
        self._seen[architecture, call] = None


def _name_of(library: Library, architecture: int, number: int) -> str | None:
    return library.name(architecture, number) or _NEWER.get(number)


def _received(receiving: int) -> int:
    """Return the listener, which the child sends; -1 if it ends before."""
    _, found, _ = rights.receive(_socket.socket(fileno=receiving), 1, 1)
    return found[0] if found else -1
