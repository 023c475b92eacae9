"""Helper processes of a command that carry its connections: their start and their end.

What is named `_inner` runs in them, the rest in the parent. Such a process takes the words of
strangers, so it has nothing that they could be after: no descriptor but its own, no capability, no
group of the caller, not the user root if the caller is root, and no way for others to look into
it. It is a copy of the launcher and not a new program: the user namespace of its memory stays that
of the caller, so that root of the command's user namespace may not trace it (ptrace(2)).
"""

from __future__ import annotations

import errno
import fcntl
import gc
import os
import time

from pyspaces.errors import Refusal
from pyspaces.kernel import constants, ioctl_ns, libc, nsfs, spawn
from pyspaces.kernel.libc import KernelError
from pyspaces.launch import signals
from pyspaces.launch.inner.identity import drop_groups, leave_session_keyring
from pyspaces.launch.outer.ending import discard
from pyspaces.visible import visible

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pyspaces.kernel.spawn import Spawned

    # The whole life of a helper, which gets what writes to the launcher; and what imports it.
    Serve = Callable[[Callable[[bytes], object]], object]
    Load = Callable[[], Serve]
    # What a helper does before the launch goes on; returns the rest of its life.
    Begin = Callable[[], Serve]

_NOBODY = 65534
_LONGEST_ANSWER = 4096
# How long, in seconds, a helper may take to begin, and to end by itself; both take milliseconds.
_BEGINNING, _ENDING = 10.0, 3.0
_READY = b"\n"


class Helper:
    """A helper process of a command. what: its name for people."""

    def __init__(self, child: Spawned, reading: int, what: str) -> None:
        self.child, self.what = child, what
        self._reading = reading

    def read(self, most: int) -> bytes:
        """Wait for the end of the helper, and return what it has told since it was ready."""
        data = b""
        until = time.monotonic() + _ENDING
        while len(data) < most and nsfs.wait_for(self._reading, until - time.monotonic()):
            piece = os.read(self._reading, most - len(data))
            if not piece:
                break
            data += piece
        return data

    def end(self, *, patience: float = _ENDING) -> None:
        """Reap it; kill it if it does not end by itself."""
        nsfs.has_ended(self.child.pidfd, timeout=patience)
        discard(self.child)
        os.close(self._reading)


def start(
    load: Load,
    *,
    what: str,
    name: bytes,
    kept: Sequence[int],
    network: int = -1,
) -> Helper:
    """Start a helper, and return once it is where it has to be. Raises KernelError with none left.

    load: imports what the helper needs, for which nobody waits, and returns its main function.
    what: its name for people. name: what ps(1) shows. kept: the descriptors that it keeps. network:
    a socket of the network namespace that it moves to; -1 to stay.
    """

    def begin_inner() -> Serve:
        if network >= 0:
            _join_inner(network)
        return serve_inner

    def serve_inner(tell: Callable[[bytes], object]) -> None:
        # While it may still read what the caller may: the user nobody may not.
        serve = load()
        _renounce_inner()
        serve(tell)

    return begin(begin_inner, what=what, name=name, kept=(*kept, network))


def begin(
    act: Begin, *, what: str, name: bytes, kept: Sequence[int], patience: float = _BEGINNING
) -> Helper:
    """Start a helper, and return once `act` has returned there. Raises KernelError with none left.

    act: called first, with the rights of the caller; what it returns comes after that. patience:
    how long `act` may take, in seconds. what, name, kept: as for `start`.
    """
    reading, writing = os.pipe()

    def be_helper_inner() -> None:
        _confine_inner(name, (*kept, writing))
        try:
            serve = act()
        except OSError as error:
            os.write(writing, _told(error))
            return
        os.write(writing, _READY)
        serve(lambda data: _write_inner(writing, data))

    try:
        with signals.Blocked():
            child = spawn.spawn(be_helper_inner)
    except BaseException:
        os.close(reading)
        raise
    finally:
        os.close(writing)
    helper = Helper(child, reading, what)
    try:
        _await(reading, what, patience)
    except BaseException:
        helper.end(patience=0)
        raise
    return helper


def _await(reading: int, what: str, patience: float) -> None:
    answer = b""
    if nsfs.wait_for(reading, patience):
        answer = os.read(reading, _LONGEST_ANSWER)
    if answer[:1] == _READY:
        return
    call, number, path, text = [*answer.split(b"\0"), b"", b"", b""][:4]
    if not number.isdigit():
        raise Refusal(f"{what} died", what="fork")
    if text:
        raise Refusal(text.decode(errors="replace"), what=call.decode())
    raise KernelError(int(number), call.decode(), [], os.fsdecode(path) or None)


def _told(error: OSError) -> bytes:
    call = error.call if isinstance(error, KernelError) else ""
    path = visible(str(error.filename or ""))[: _LONGEST_ANSWER // 2]
    text = error.text if isinstance(error, Refusal) else ""
    fields = (call.encode(), error.errno or errno.EIO, os.fsencode(path), text.encode())
    return b"%s\0%d\0%s\0%s" % fields


# --- in the helper --------------------------------------------------------------------------------


def _confine_inner(name: bytes, kept: Sequence[int]) -> None:
    """Leave all of the caller's behind: a reader that waits for the end of a pipe must see it."""
    libc.set_dumpable(dumpable=False)
    # An object of the program that has started us would close its descriptor when it is collected,
    # and by then the number is one of ours.
    gc.freeze()
    libc.set_name(name)
    os.setsid()
    os.chdir("/")
    # What the interpreter itself may have to say must not get into a connection.
    nowhere = os.open("/", os.O_PATH | os.O_DIRECTORY)
    for stream in {0, 1, 2}.difference(kept):
        os.dup2(nowhere, stream, inheritable=False)
    spawn.close_others(0, 1, 2, *kept)


def _write_inner(writing: int, data: bytes) -> None:
    while data:
        data = data[os.write(writing, data) :]


def _join_inner(network: int) -> None:
    """Move to the network namespace of a socket, which an ordinary user gets to by its owner.

    A socket, and no file of /proc: to look into a process whose ids have changed, an ordinary
    launcher has no right.
    """
    namespace = namespace_of(network)
    os.close(network)
    try:
        # Root of the host stays in its own user namespace, where nobody inside has any right.
        libc.setns(namespace, constants.CLONE_NEWNET)
    except KernelError:
        owner = ioctl_ns.owner(namespace)
        if owner is None:
            raise
        drop_groups()
        libc.setns(owner, constants.CLONE_NEWUSER)
        libc.setns(namespace, constants.CLONE_NEWNET)
        os.close(owner)
    os.close(namespace)


def namespace_of(network: int) -> int:
    """Return a descriptor of the namespace of a socket: SIOCGSKNS of linux/sockios.h."""
    try:
        return fcntl.ioctl(network, constants.SIOCGSKNS)
    except OSError as error:
        raise KernelError(error.errno or 0, "ioctl", ["SIOCGSKNS"]) from None


def _renounce_inner() -> None:
    """Give up everything that a process may give up by itself."""
    leave_session_keyring()
    drop_groups()
    if os.geteuid() == 0:
        for change in (os.setresgid, os.setresuid):
            try:
                change(_NOBODY, _NOBODY, _NOBODY)
            except OSError:  # not mapped in this user namespace, or not allowed
                continue
    libc.set_no_new_privs()
    libc.set_capabilities(0, 0, 0)
    # With fs.suid_dumpable=1 the change of ids has opened it again.
    libc.set_dumpable(dumpable=False)
