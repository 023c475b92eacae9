"""The way into a network of several commands: a socket that acts on its network namespace.

Runs in the parent; what is named `_inner` runs in a process that ends at once. The network belongs
to the caller, but only who is in its namespaces can make a socket of them.
"""

from __future__ import annotations

import errno

from pyspaces.errors import SpaceError
from pyspaces.kernel import constants, libc, nsfs, processes, rtnetlink, spawn
from pyspaces.kernel.libc import KernelError
from pyspaces.kernel.rtnetlink import Interfaces
from pyspaces.launch import rights, signals
from pyspaces.launch.outer.ending import discard

TYPE_CHECKING = False
if TYPE_CHECKING:
    from _socket import socket

    from pyspaces.features.existing.registry import Holder

# How long, in seconds, the process may take that makes the socket; it takes milliseconds.
_PATIENCE = 60.0
_DONE = b"0"


def open_holder(holder: Holder) -> tuple[int, Interfaces]:
    """Return a pidfd of the process that holds a network, and the interfaces there.

    Raises KernelError, and SpaceError if it has ended.
    """
    opened: list[int] = []
    try:
        opened.append(nsfs.pidfd_open(holder.pid))
        opened.append(nsfs.open_file(f"/proc/{holder.pid}/ns/user"))
        opened.append(nsfs.open_file(f"/proc/{holder.pid}/ns/net"))
        # If it still runs, what was opened is its own.
        if processes.start_time(holder.pid) != holder.start or nsfs.has_ended(opened[0]):
            raise KernelError(errno.ESRCH, "open", [], f"/proc/{holder.pid}/ns")
        interfaces = Interfaces(_socket_of(*opened[1:]))
        return opened.pop(0), interfaces
    except KernelError as error:
        if error.errno not in (errno.ESRCH, errno.ENOENT):
            raise
        raise SpaceError(f"network: {holder.name}: has ended") from None
    finally:
        rights.close(opened)


def _socket_of(user: int, network: int) -> int:
    """Return a netlink socket of a network namespace, and of the user namespace that owns it."""
    ours, theirs = rights.pair()

    def make_inner() -> None:
        # Nobody inside may look into this process, which has the caller's memory.
        libc.set_dumpable(dumpable=False)
        ours.close()
        try:
            _join_inner(user, network)
            rights.send(theirs, _DONE, [rtnetlink.socket()])
        except OSError as error:
            call = error.call if isinstance(error, KernelError) else ""
            rights.send(theirs, b"%d %s" % (error.errno or errno.EIO, call.encode()))

    try:
        with spawn.forks_held(), signals.Blocked():
            child = spawn.spawn(make_inner)
        theirs.close()
        try:
            return _answer(ours)
        finally:
            discard(child)
    finally:
        ours.close()
        theirs.close()


def _join_inner(user: int, network: int) -> None:
    try:
        # Root of the host stays in its own user namespace.
        libc.setns(network, constants.CLONE_NEWNET)
    except KernelError:
        libc.setns(user, constants.CLONE_NEWUSER)
        libc.setns(network, constants.CLONE_NEWNET)


def _answer(ours: socket) -> int:
    if not nsfs.wait_for(ours.fileno(), _PATIENCE):
        raise KernelError(errno.ETIMEDOUT, "setns")
    try:
        data, found, _ = rights.receive(ours, 256, 1)
    except OSError as error:
        raise KernelError(error.errno or 0, "recvmsg") from None
    if data == _DONE and found:
        return found[0]
    number, _, call = data.partition(b" ")
    raise KernelError(int(number or b"0") or errno.EIO, call.decode())
