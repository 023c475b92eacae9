"""The process beside pasta or slirp4netns: it starts the program, and ends it with the command.

What is named `_inner` runs in that process, the rest in the parent. A process of ours is needed
since neither program ends with the network namespace that it serves; and a command may outlive its
launcher. It holds none of the command's descriptors, and reads nothing but the program's messages.
"""

from __future__ import annotations

import errno
import fcntl
import os
import select
import time

from pyspaces.errors import Refusal
from pyspaces.features.ids.program import DIRECTORIES
from pyspaces.kernel import ioctl_ns, libc, nsfs, spawn
from pyspaces.launch.network import flushing, helper
from pyspaces.launch.outer.ending import discard
from pyspaces.visible import visible

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal
    from collections.abc import Callable, Mapping, Sequence

    from pyspaces.kernel.spawn import Spawned
    from pyspaces.launch.network.engines import Program
    from pyspaces.launch.network.helper import Helper
else:
    import _signal as signal  # plain numbers: see status.py

NAME = b"pyspaces-uplink"
# Takes 25 ms by itself, and much longer on a busy machine. In seconds.
_PATIENCE = 60.0
_LONGEST = 2000  # bytes of its last messages that are kept
# Of pasta, which writes to syslog in an empty directory of its own.
_CHATTER = (b"Failed to send ", b"No external routable interface for IPv6")


class Pipes:
    """The pipes between a program and us, in our process: what it says, when it is ready, our end.

    said: it writes its messages there. ready: slirp4netns writes there once it is ready. alive:
    slirp4netns ends when the other end is closed.
    """

    def __init__(self) -> None:
        self.said, self.says = os.pipe()
        self.ready, self.readies = os.pipe()
        self.alive, self.lives = os.pipe()

    def of_program(self) -> tuple[int, ...]:
        """Return the ends of the program, from descriptor 2 on."""
        return self.says, self.readies, self.alive

    def close_of_program(self) -> None:
        """Close these."""
        for end in self.of_program():
            os.close(end)


def start(what: str, engine: Program, pidfd: int, network: int, sockets: int) -> Helper:
    """Start a program, and return once the network is connected. Raises KernelError.

    what: its name. engine: the program; its descriptor 0 is the network namespace, 1 the user
    namespace that owns it, 2 takes messages, and `Pipes` has the others. pidfd: of the command.
    network: a socket of its network. sockets: one that tells of the others there.
    """

    def begin_inner() -> helper.Serve:
        pipes = Pipes()
        engine.before_inner()
        try:
            program = _start_inner(engine.words, network, pipes)
            try:
                _await_inner(what, program, pipes)
                engine.ready_inner()
            except BaseException:
                discard(program)
                raise
        finally:
            engine.after_inner()
        libc.set_no_new_privs()
        libc.set_capabilities(0, 0, 0)
        libc.set_dumpable(dumpable=False)
        return lambda tell: _attend_inner(program, pipes, pidfd, sockets, tell)

    return helper.begin(
        begin_inner, what=what, name=NAME, kept=(pidfd, network, sockets), patience=_PATIENCE
    )


def owned_by_us(network: int) -> bool:
    """Return whether the network namespace of a socket belongs to our own user namespace."""
    namespace = helper.namespace_of(network)
    owner = ioctl_ns.owner(namespace)
    os.close(namespace)
    if owner is None:
        return True
    inode = os.fstat(owner).st_ino
    os.close(owner)
    return inode == nsfs.inode_or_none("/proc/self/ns/user")


def _start_inner(words: Sequence[str], network: int, pipes: Pipes) -> Spawned:
    namespace = helper.namespace_of(network)
    owner = ioctl_ns.owner(namespace)
    os.close(network)
    ends = (namespace, namespace if owner is None else owner, *pipes.of_program())
    us = os.getpid()
    try:
        program = spawn.spawn_alone(lambda: _become_inner(words, ends, us))
    finally:
        os.close(namespace)
        if owner is not None:
            os.close(owner)
        pipes.close_of_program()
    return program


def _become_inner(words: Sequence[str], ends: Sequence[int], parent: int) -> None:
    """Become the program, with `ends` as its descriptors from 0 on and no others."""
    # It dies with us, if somebody kills us; a signal that comes before does nothing.
    libc.set_parent_death_signal(signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)
    libc.set_signal_mask(libc.signal_set())  # none: the launcher has blocked them around the clone
    # pasta takes the answer that it is ignored already, as Python has it, for a failure.
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    moved = [fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, len(ends)) for end in ends]
    for number, end in enumerate(moved):
        os.dup2(end, number, inheritable=True)
    spawn.close_others(*range(len(ends)))
    variables: Mapping[str, str] = {"PATH": ":".join(DIRECTORIES), "LC_ALL": "C"}
    try:
        os.execve(words[0], [*words], variables)
    except OSError as error:
        os.write(2, os.fsencode(error.strerror or "") + b"\n")
        os._exit(1)


def _await_inner(what: str, program: Spawned, pipes: Pipes) -> None:
    """Wait until the program is ready. Raises Refusal with its own words."""
    said = b""
    until = time.monotonic() + _PATIENCE
    poller = select.poll()
    for descriptor in (pipes.said, pipes.ready):
        poller.register(descriptor, select.POLLIN)
    while (left := until - time.monotonic()) > 0:
        for descriptor, _ in poller.poll(left * 1000):
            data = os.read(descriptor, 4096)
            if not data:
                poller.unregister(descriptor)
                if descriptor == pipes.said:
                    raise Refusal(last_words(said) or "it ended", what=what)
            elif descriptor == pipes.ready:
                return
            said += data if descriptor == pipes.said else b""
            # pasta writes its pid once it is ready; the file of that is the pipe.
            if b"\n%d\n" % program.pid in b"\n" + said:
                return
    raise Refusal(os.strerror(errno.ETIMEDOUT), what=what)


def _attend_inner(
    program: Spawned, pipes: Pipes, pidfd: int, sockets: int, tell: Callable[[bytes], object]
) -> None:
    """End the program with the command; or if it ends before, tell its last words."""
    said = b""
    poller = select.poll()
    for descriptor in (pipes.said, pidfd, program.pidfd):
        poller.register(descriptor, select.POLLIN)
    while True:
        ready = [descriptor for descriptor, _ in poller.poll()]
        if pipes.said in ready:
            data = os.read(pipes.said, 4096)
            said = (said + data)[-2 * _LONGEST :]
            if not data:
                poller.unregister(pipes.said)
            continue  # all that it has said comes before its end
        if pidfd in ready:
            flushing.wait(sockets)
            break
        tell(last_words(said).encode(errors="replace"))
        break
    os.close(pipes.lives)
    discard(program)


def last_words(said: bytes) -> str:
    """Return what a program has said, in one line, without what it always says."""
    lines = [line.strip() for line in said[-_LONGEST:].splitlines()]
    told = [line for line in lines if line and not line.startswith(_CHATTER) and not line.isdigit()]
    return "; ".join(visible(line.decode(errors="replace")) for line in told)
