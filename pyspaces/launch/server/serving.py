"""The server's side: a single-threaded process that creates children of its parent.

Runs in the server, and what is named `_inner` in the children. It blocks every signal, keeps no
descriptor but its socket and a pidfd of its caller, and ends when either says that the caller has
gone.
"""

from __future__ import annotations

import _socket
import fcntl
import gc
import os
import select

from pyspaces import record_data  # noqa: F401 - takes requests apart; here once for all of them
from pyspaces.kernel import executing, libc, nsfs, processes, procfs, spawn
from pyspaces.kernel.libc import KernelError
from pyspaces.launch import init, inner, rights
from pyspaces.launch.channel import Channel
from pyspaces.launch.command import context_of
from pyspaces.launch.handed import Handed
from pyspaces.launch.server import wire
from pyspaces.launch.server.facts import facts, status_rows
from pyspaces.launch.services import Launch
from pyspaces.launch.signals import Inherited
from pyspaces.plan import Plan

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import NoReturn

NAME = b"pyspaces-server"
# Seconds between two looks at whether somebody waits for this process alone.
_FIRST_LOOK, _LATEST_LOOK = 0.05, 2.0


def serve() -> NoReturn:
    """Create what is asked for, until the caller has gone or sends something invalid."""
    libc.set_name(NAME)
    executing.forget_ignored()
    _keep_only(wire.SOCKET, wire.CALLER)
    os.chdir("/")
    socket = _socket.socket(fileno=wire.SOCKET)
    hello = wire.Hello(program=wire.program(), facts=facts(status_rows()))
    own = nsfs.pidfd_open(os.getpid())
    rights.send(socket, wire.packed(hello), [own])
    os.close(own)
    # What is there by now stays: a collection in a child need not touch, and so copy, all of it.
    gc.collect()
    gc.freeze()
    while True:
        _wait(socket)
        try:
            data, descriptors = wire.receive(socket)
            if not data:
                os._exit(0)
            _answer(socket, data, descriptors)
        except (wire.Malformed, OSError):  # no message of ours, or nobody to answer
            os._exit(1)


def _keep_only(*kept: int) -> None:
    """Leave standard streams that nobody else has, and nothing that a command inherits."""
    spawn.close_others(0, 1, 2, *kept)
    for number in (0, 1, 2, *kept):
        try:
            os.set_inheritable(number, False)
        except OSError:  # a standard stream that the caller has closed
            continue


def _wait(socket: _socket.socket) -> None:
    """Wait for the next message; end if the caller has gone, or waits for nobody but this process.

    A wait(2) for any child ends if no child is left, and is not to go on for ever because of one
    that its caller does not know of.
    """
    poller = select.poll()
    for descriptor in (socket.fileno(), wire.CALLER):
        poller.register(descriptor, select.POLLIN)
    look = _FIRST_LOOK
    while not (ready := poller.poll(look * 1000)):
        if _is_waited_for():
            os._exit(0)
        look = min(look * 2, _LATEST_LOOK)
    if all(descriptor == wire.CALLER for descriptor, _ in ready):
        os._exit(0)


def _is_waited_for() -> bool:
    """Return whether a thread of the caller waits for a child, and this process is the only one.

    A thread in wait(2) is where the kernel calls do_wait(); proc_pid_wchan(5). If that cannot
    be read, the answer is no.
    """
    caller = os.getppid()
    threads = procfs.names_in(f"/proc/{caller}/task")
    waits = any(
        procfs.read_or_none(f"/proc/{caller}/task/{thread}/wchan") == "do_wait"
        for thread in threads
    )
    return waits and processes.children_of(caller) == [os.getpid()]


def _answer(socket: _socket.socket, data: bytes, descriptors: list[int]) -> None:
    """Create a child and report it. Raises Malformed and OSError; all that was sent is closed."""
    raised: list[int] = []
    try:
        if data != wire.ASK or not descriptors:
            raise wire.Malformed(repr(data[:1]))
        request = wire.request_of(descriptors[0])
        if request.own not in (3, 4) or request.own + len(request.targets) != len(descriptors):
            raise wire.Malformed("the number of descriptors")
        try:
            _raise(descriptors[1:], request.targets, raised)
            os.fchdir(descriptors[2])
        except OSError:
            answer, pidfd = wire.UNABLE, -1
        else:
            answer, pidfd = _created(request, raised)
    finally:
        os.chdir("/")
        rights.close([*descriptors, *raised])
    # Now that nothing of the caller's is open here: it may wait for the end of a pipe. To answer
    # first, and let the child begin meanwhile, makes no launch faster (450 in turns, each way).
    rights.send(socket, answer, [pidfd] if pidfd >= 0 else [])
    if pidfd >= 0:
        os.close(pidfd)
        # The child may wait for this processor, and the other one may have the caller: 0.4 ms.
        os.sched_yield()
        # After a clone, the first write to each page is a fault. Those that the next request would
        # take are taken now, while the child runs, by the same work once more: 0.15 ms of a launch.
        _context_of(request, raised)


def _raise(descriptors: Sequence[int], targets: Sequence[int], raised: list[int]) -> None:
    """Add copies, and one of the caller's pidfd, whose numbers are above all that are targets."""
    base = max((2, wire.CALLER, *targets)) + 1
    for descriptor in (*descriptors, wire.CALLER):
        # One by one: what is open has to be known if the next one fails.
        raised.append(fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, base))  # noqa: PERF401


def _created(request: wire.Request, raised: Sequence[int]) -> tuple[bytes, int]:
    """Create the child; return the answer, and its pidfd or -1.

    raised: the descriptors behind that of the request, and the caller's pidfd.
    """
    # Here, though the caller could send the request to a child that is there already: whatever the
    # child does takes two to three times as long, each page that it writes to being copied (tried).
    context = _context_of(request, raised)
    moves = list(zip(raised[request.own - 1 : -1], request.targets, strict=True))

    def be_child_inner() -> None:
        os.close(wire.SOCKET)
        # The caller's descriptors, by the numbers that they have there.
        for source, target in moves:
            os.dup2(source, target)
        inner.run_inner(context)

    try:
        child = spawn.spawn_sibling(be_child_inner, request.flags)
    except KernelError as error:
        words = (b"%d" % (error.errno or 0), error.call.encode(), os.fsencode(error.filename or ""))
        return wire.REFUSED + b"\0".join(words), -1
    return wire.CREATED + b"%d" % child.pid, child.pidfd


def _context_of(request: wire.Request, raised: Sequence[int]) -> inner.Context:
    try:
        plan = Plan.from_data(request.plan)
    except (TypeError, ValueError) as error:
        raise wire.Malformed(str(error)) from None
    launch = Launch(plan, tell=lambda text: None, observe=lambda text: None)
    launch.variables = request.variables
    launch.inherited = Inherited(mask=frozenset(request.mask), ignored=frozenset(request.ignored))
    if request.own == 4:
        # Of this process: it is its memory that the child has.
        launch.post = init.make_post(plan.life, raised[2], shares_memory=False)
    os.umask(request.umask)
    executable, process_group = request.handed
    launch.handed = Handed(executable=executable, process_group=process_group)
    return context_of(launch, Channel(raised[0]), raised[-1], held=request.held)
