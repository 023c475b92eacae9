"""The caller's side: has a server started, asks it for children, and ends it.

Runs in the parent. All of it happens while no other thread forks, and so in one thread at a time.
"""

from __future__ import annotations

import atexit
import os
import time

from pyspaces import record_data  # noqa: F401 - for requests: the root may move before the first
from pyspaces.kernel import constants, libc, nsfs, processes, procfs, spawn
from pyspaces.kernel.libc import KernelError
from pyspaces.kernel.spawn import Spawned
from pyspaces.launch import channel, rights, signals
from pyspaces.launch.command import caller_environment
from pyspaces.launch.handed import Handed
from pyspaces.launch.server import process, wire
from pyspaces.launch.server.facts import facts, row_of, status_text
from pyspaces.launch.server.process import Gone, Server, Unable
from pyspaces.launch.signals import Inherited
from pyspaces.recent import Recent

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from pyspaces.launch.channel import Channel
    from pyspaces.launch.services import Launch, Services
    from pyspaces.plan import Plan

# Seconds from one start to the next: if the caller has changed, and if no server was of use.
_PAUSE, _LONG_PAUSE = 1.0, 60.0
_MOST_INHERITED = 200


class _Changed(Exception):
    """The server is not as this thread is any more. `child`: what it has created; may be None."""

    def __init__(self, child: Spawned | None) -> None:
        super().__init__()
        self.child = child


class _State:
    server: Server | None = None
    not_before = 0.0  # when the next one may be started, by the monotonic clock
    # As they were sent: plans without their commands, and requests.
    plans, requests = Recent(), Recent()


def create(launch: Launch, services: Services, flags: int) -> tuple[Spawned, Channel] | None:
    """Create the child of a launch; returns and raises as `choice.create` does."""
    if not libc.is_dumpable():
        # Nobody may look into this process; into a new interpreter others might, for a moment.
        end_for_good()
        return None
    # A handler of a signal that came between a question and its answer may launch something, too.
    is_asked = _State.server is not None and _State.server.is_asked
    if is_asked or _needs_fork(launch, services):
        return None
    # Twice: a server that was killed, or differs from this thread by now, is started anew.
    for _ in range(2):
        try:
            return _create(launch, services, flags)
        except Gone:
            _State.not_before = 0.0
        except _Changed:
            if time.monotonic() < _State.not_before:
                break
            end()
        except Unable:
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
    """Try once, with no child left if it fails.

    Raises Gone, _Changed and Unable; KernelError of the creation.
    """
    ours, theirs = channel.pair()
    try:
        child = _ask(launch, services, flags, theirs)
    except _Changed as changed:
        ours.close()
        _end_waiting(changed.child)
        raise
    except (KernelError, Unable):
        ours.close()
        raise
    except BaseException:
        # Nobody knows whether there is a child. Before our end is closed: it would end by itself
        # then, and be a zombie without descriptors by which to know it.
        end()
        _end_stray(theirs)
        ours.close()
        raise
    finally:
        theirs.close()
    return child, ours


def _end_waiting(child: Spawned | None) -> None:
    """End a child that nobody speaks to any more: it ends by itself, unless it was stopped."""
    if not child:
        return
    _kill(child.pidfd)
    nsfs.has_ended(child.pidfd, timeout=None)
    nsfs.reap_by_pidfd(child.pidfd)
    os.close(child.pidfd)


def _kill(pidfd: int) -> None:
    try:
        signals.send(pidfd, constants.SIGKILL)
    except PermissionError:  # it has the ids that this process has given up
        return


def _ask(launch: Launch, services: Services, flags: int, theirs: Channel) -> Spawned:
    """Let the server create the child.

    Whether the server is as this thread is looked at meanwhile: the child waits for our word.
    """
    opened: list[int] = []
    try:
        status = status_text()
        server = _State.server or _started_like(facts(status))
        opened.append(os.open(".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC))
        first = [theirs.fileno(), *opened, *([launch.post.link] if launch.post else [])]
        sources, targets = _given(launch.handed or Handed())
        numbers = {"flags": flags, "targets": tuple(targets), "own": len(first)}
        asked = _asked_for(launch, status, held=services.holding() is not None, **numbers)
        server.ask(wire.packed_asked(asked), [*first, *sources])
    except (OSError, ValueError) as error:
        raise Unable from error
    finally:
        rights.close(opened)
    is_alike = _is_like(server, status)
    try:
        child = _child_of(*server.answer())
    except (Unable, KernelError):
        if is_alike:
            raise
        raise _Changed(None) from None
    if not is_alike:
        raise _Changed(child)
    return child


def _asked_for(launch: Launch, status: str, **more: Any) -> wire.Asked:
    """Return what ASK carries for a launch. status: of this thread. more: fields of its Request."""
    inherited = launch.inherited or Inherited.capture(ignored_bits=row_of(status, "SigIgn"))
    handed = launch.handed or Handed()
    fields = {
        "plan": _data_of(launch.plan),
        "variables": caller_environment() if launch.variables is None else dict(launch.variables),
        "mask": tuple(map(int, inherited.mask)),
        "ignored": tuple(map(int, inherited.ignored)),
        "umask": int(row_of(status, "Umask"), 8) if handed.umask is None else handed.umask,
        **more,
    }
    # A command finds its variables in the order in which the caller has them.
    source = (fields, [*fields["variables"]])
    request = _State.requests.find(source)
    if request is None:
        request = wire.packed(wire.Request(**fields))
        _State.requests.keep(source, request, len(request))
    return request, launch.plan.command, (handed.executable, handed.process_group)


def _data_of(plan: Plan) -> bytes:
    """Return a plan without its command, as it is sent."""
    source = {**vars(plan), "command": ()}
    data: bytes | None = _State.plans.find(source)
    if data is None:
        data = wire.data_of(plan)
        _State.plans.keep(source, data, len(data))
    return data


def _is_like(server: Server, status: str) -> bool:
    """Return whether the server passes on to a child what this thread would."""
    try:
        return server.facts == facts(status)
    except OSError:
        return False


def _given(handed: Handed) -> tuple[list[int], list[int]]:
    """Return the descriptors that a command is given, and the numbers that it has them by.

    Raises Unable if they are too many.
    """
    # If `kept` says which others there are, only the standard streams have to be looked at.
    inherited = _inheritable(_open_here() if handed.kept is None else range(3))
    found = {number: number for number in (inherited if handed.kept is None else handed.kept)}
    for number, source in enumerate(handed.streams):
        if source >= 0 or number in inherited:
            found[number] = source if source >= 0 else number
    if len(found) > _MOST_INHERITED:
        raise Unable
    return list(found.values()), list(found)


def _open_here() -> list[int]:
    return [int(name) for name in os.listdir("/proc/thread-self/fd")]


def _inheritable(descriptors: Iterable[int]) -> list[int]:
    """Return those that a command inherits."""
    found = []
    for descriptor in descriptors:
        try:
            if os.get_inheritable(descriptor):
                found.append(descriptor)
        except OSError:  # closed by now, as that of the listing is
            continue
    return found


def _child_of(answer: bytes, descriptors: list[int]) -> Spawned:
    """Return the child that the server reports. Raises Unable, KernelError, and Gone."""
    kind, body = answer[:1], answer[1:]
    if kind == wire.CREATED and body.isdigit() and len(descriptors) == 1:
        return Spawned(pid=int(body), pidfd=descriptors[0])
    rights.close(descriptors)
    if kind == wire.UNABLE:
        raise Unable
    number, _, rest = body.partition(b"\0")
    call, separator, path = rest.partition(b"\0")
    if kind != wire.REFUSED or not separator or not number.isdigit():
        raise Gone
    raise KernelError(int(number), os.fsdecode(call), (), os.fsdecode(path) or None)


def _end_stray(theirs: Channel) -> None:
    """End the child of a server that died before it could report it: it holds the channel."""
    link = f"socket:[{os.fstat(theirs.fileno()).st_ino}]"
    for child in processes.children_of(os.getpid()):
        directory = f"/proc/{child}/fd"
        if any(_leads_to(f"{directory}/{name}", link) for name in procfs.names_in(directory)):
            nsfs.kill_and_reap(child)


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
    """End the server, if there is one, and forget what it was sent; the next need not wait."""
    end()
    _State.not_before = 0.0
    _State.plans, _State.requests = Recent(), Recent()


def _forget() -> None:
    """Close what there is of a server: in a forked child, whose children it cannot create."""
    server, _State.server = _State.server, None
    _State.not_before = 0.0
    if server:
        server.close()


os.register_at_fork(after_in_child=_forget)
# A socket that the interpreter itself closes at its end makes it warn.
atexit.register(_forget)


def _started_like(own: dict[str, str | None]) -> Server:
    """Start a server that is as this thread. Raises Unable, and what a start raises."""
    now = time.monotonic()
    if now < _State.not_before:
        raise Unable
    _State.not_before = now + _LONG_PAUSE
    server = process.start()
    if server.facts != own:
        server.end()
        raise Unable
    _State.server, _State.not_before = server, now + _PAUSE
    return server
