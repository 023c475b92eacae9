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
from pyspaces.launch import init, rights, signals
from pyspaces.launch.channel import Channel
from pyspaces.launch.command import (
    context_of,
    needs_equipment,
    of_another_command,
    told_steps,
    working_directory,
)
from pyspaces.launch.handed import Handed
from pyspaces.launch.inner import Context, Telling, run_inner
from pyspaces.launch.server import wire
from pyspaces.launch.server.facts import facts, status_text
from pyspaces.launch.server.wire import SOCKET
from pyspaces.launch.services import Launch
from pyspaces.launch.signals import Inherited
from pyspaces.recent import Recent

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import NoReturn

    from pyspaces.feature import Step
    from pyspaces.plan import Plan

    Steps = tuple[tuple[Step, bytes], ...]

NAME = b"pyspaces-server"
# Seconds between two looks at whether somebody waits for this process alone.
_FIRST_LOOK, _LATEST_LOOK = 0.05, 2.0


def serve() -> NoReturn:
    """Create what is asked for, until the caller has gone or sends something invalid."""
    libc.set_name(NAME)
    executing.forget_ignored()
    # No handler of Python's is of use here, and each child would have to take it away.
    signals.take_defaults()
    _keep_only(SOCKET, wire.CALLER)
    os.chdir("/")
    socket = _socket.socket(fileno=SOCKET)
    hello = wire.Hello(program=wire.program(), facts=facts(status_text()))
    own = nsfs.pidfd_open(os.getpid())
    rights.send(socket, wire.packed(hello), [own])
    os.close(own)
    poller = select.poll()
    for descriptor in (SOCKET, wire.CALLER):
        poller.register(descriptor, select.POLLIN)
    # For good: there is no other thread, so it need not be taken for each clone.
    spawn.forks_held().__enter__()
    # What is there by now stays: a collection in a child need not touch, and so copy, all of it.
    gc.collect()
    gc.freeze()
    while True:
        _wait(poller)
        try:
            _answer(socket, *wire.receive(socket))
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


def _wait(poller: select.poll) -> None:
    """Wait for the next message; end if the caller has gone, or waits for nobody but this process.

    A wait(2) for any child ends if no child is left, and is not to go on for ever because of one
    that its caller does not know of.
    """
    look = _FIRST_LOOK
    while not (ready := poller.poll(look * 1000)):
        if _is_waited_for():
            os._exit(0)
        look = min(look * 2, _LATEST_LOOK)
    if ready[0][0] == wire.CALLER:  # the socket, which was registered first, comes first
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
    if not data:
        os._exit(0)
    raised: list[int] = []
    try:
        asked, given = wire.asked_of(data, descriptors)
        data, request = _request_of(asked[0], given)
        try:
            sources = _out_of_the_way([*given, wire.CALLER], request.targets, raised)
            os.fchdir(given[1])
        except OSError:
            answer, pidfd = wire.UNABLE, -1
        else:
            # Here, though the caller could send the request to a child that is there already:
            # whatever the child does takes two to three times as long, each page that it writes to
            # being copied (tried).
            context = _context_of((data, *asked[1:]), request, sources)
            moves = list(zip(sources[request.own : -1], request.targets, strict=True))
            # These two stay until the answer is sent: what is freed right after a clone is copied,
            # page by page.
            start = _start_of(context, moves)
            answer, pidfd = _created(start, request.flags)
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


def _out_of_the_way(
    descriptors: Sequence[int], targets: Sequence[int], raised: list[int]
) -> list[int]:
    """Return descriptors for these, none of which has a number that is a target.

    raised: gets the copies that it takes, whose numbers are above all targets.
    """
    taken, found = {*targets}, []
    for descriptor in descriptors:
        own = descriptor
        if descriptor in taken:
            own = fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, max(taken) + 1)
            raised.append(own)  # at once: it has to be closed if the next one fails
        found.append(own)
    return found


def _start_of(context: Context, moves: Sequence[tuple[int, int]]) -> Callable[[], NoReturn]:
    """Return what the child does. moves: descriptors, and the numbers that they have there."""
    telling = Telling(context)

    def be_child_inner() -> NoReturn:
        os.close(SOCKET)
        for source, target in moves:
            os.dup2(source, target)
        run_inner(telling)

    return be_child_inner


def _created(start: Callable[[], object], flags: int) -> tuple[bytes, int]:
    """Create the child; return the answer, and its pidfd or -1."""
    try:
        pid, pidfd = spawn.spawn_sibling(start, flags)
    except KernelError as error:
        words = (b"%d" % (error.errno or 0), error.call.encode(), os.fsencode(error.filename or ""))
        return wire.REFUSED + b"\0".join(words), -1
    return wire.CREATED + b"%d" % pid, pidfd


class _Known:
    """What is known of the last launches, since the next one is often like one of them.

    requests: by their bytes. plans: each with the steps that it takes, by its bytes. contexts: what
    a child was given, by its request and what it was handed; only those in which nothing but the
    command and descriptors differs from child to child.
    """

    requests, plans, contexts = Recent(), Recent(), Recent()


def _request_of(data: bytes, given: Sequence[int]) -> tuple[bytes, wire.Request]:
    """Read a request for which these descriptors came, and take its umask. Raises Malformed.

    Returns its bytes, too: those that are known already, so that they are there once.
    """
    known: tuple[bytes, wire.Request] | None = _Known.requests.find(data)
    if known is None:
        known = data, wire.request_of(data)
        _Known.requests.keep(data, known, len(data))
    request = known[1]
    if request.own + len(request.targets) != len(given):
        raise wire.Malformed("the number of descriptors")
    os.umask(request.umask)
    return known


def _plan_of(data: bytes, command: tuple[str, ...]) -> tuple[Plan, Steps]:
    known: tuple[Plan, Steps] | None = _Known.plans.find(data)
    if known is None:
        plan = wire.plan_of(data, command)
        known = plan.of_command(()), told_steps(plan)
        _Known.plans.keep(data, known, len(data))
    plan, steps = known
    return plan.of_command(command), steps


def _context_of(asked: wire.Asked, request: wire.Request, sources: Sequence[int]) -> Context:
    data, command, handed = asked
    # By its bytes: records with the same variables in another order are equal.
    context: Context | None = _Known.contexts.find((data, handed))
    if context is None:
        return _new_context(asked, request, sources)
    number, launcher, place = sources[0], sources[-1], working_directory()
    changes = {}
    if command != context.plan.command:
        changes = of_another_command(context, command)
    # Often the very same: the numbers of descriptors are the lowest that are free.
    if (context.channel.fileno(), context.launcher, context.directory) != (number, launcher, place):
        changes |= {"channel": Channel(number), "launcher": launcher, "directory": place}
    if changes:
        context = context.replace(**changes)
        _Known.contexts.keep((data, handed), context, _size(data, command))
    return context


def _size(data: bytes, command: tuple[str, ...]) -> int:
    return len(data) + sum(map(len, command))


def _new_context(asked: wire.Asked, request: wire.Request, sources: Sequence[int]) -> Context:
    data, command, handed = asked
    plan, steps = _plan_of(request.plan, command)
    launch = Launch(plan, tell=lambda text: None, observe=lambda text: None)
    launch.variables = request.variables
    mask, ignored = frozenset(request.mask), frozenset(request.ignored)
    launch.inherited = Inherited(mask=mask, ignored=ignored, by_default=True)
    if request.own == 3:
        # Of this process: it is its memory that the child has.
        launch.post = init.make_post(plan.life, sources[2], shares_memory=False)
    executable, process_group = handed
    if handed != (None, None):
        launch.handed = Handed(executable=executable, process_group=process_group)
    channel = Channel(sources[0])
    context = context_of(launch, channel, sources[-1], held=request.held, steps=steps)
    if request.own == 2 and not needs_equipment(plan):
        _Known.contexts.keep((data, handed), context, _size(data, command))
    return context
