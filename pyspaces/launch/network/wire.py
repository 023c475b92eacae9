"""The wire between the child and the launcher, by which its network is connected with another one.

Runs in the parent, but for what is named `_inner`, which runs in the child.
"""

from __future__ import annotations

import errno
import fcntl
import os

from pyspaces.errors import BETWEEN, Report
from pyspaces.kernel import constants, mountapi, rtnetlink
from pyspaces.kernel.libc import KernelError, Naming
from pyspaces.kernel.rtnetlink import Interfaces
from pyspaces.launch import rights
from pyspaces.launch.network import flushing
from pyspaces.launch.outer import prepare
from pyspaces.launch.service import Service

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyspaces.errors import SpaceError
    from pyspaces.kernel.spawn import Spawned
    from pyspaces.launch.network.shared import SharedNetwork
    from pyspaces.launch.services import Launch
    from pyspaces.status import Ended

_PLACE = "/etc/hosts"
_INSIDE = constants.RESOLVE_IN_ROOT | constants.RESOLVE_NO_MAGICLINKS


class Wire:
    """The pair of sockets between the child and the launcher, and the file of names.

    hosts: its path, and its status, by which it is known; None for a hold, which shows none.
    own_root: whether the root of the command is a file system that this launch creates.
    """

    def __init__(
        self, hosts: tuple[str, os.stat_result] | None = None, *, own_root: bool = False
    ) -> None:
        self._ours, self._theirs = rights.pair()
        self._hosts, self._own_root = hosts, own_root
        self._mount = -1

    def find_inner(self) -> None:
        """Copy the mount of the file of names, by the rights and paths of the caller."""
        if self._hosts is None:
            return
        path, known = self._hosts
        with Naming("open", path):
            found = os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
        if not os.path.samestat(os.fstat(found), known):
            raise KernelError(errno.ENOENT, "open", [], path)
        self._mount = mountapi.open_tree(found)
        attributes = constants.MOUNT_ATTR_RDONLY | constants.MOUNT_ATTR_NOSUID
        attributes |= constants.MOUNT_ATTR_NODEV | constants.MOUNT_ATTR_NOEXEC
        mountapi.mount_setattr(self._mount, attributes, recursive=False)
        os.close(found)

    def show_inner(self) -> None:
        """Mount it on /etc/hosts of the command's root.

        That is created only in a root of our own: what exists already is not changed.
        """
        with Naming("open", _PLACE):
            place = _place_inner(create=self._own_root)
        try:
            mountapi.move_mount(self._mount, place)
        finally:
            os.close(place)
            os.close(self._mount)

    def give_inner(self) -> None:
        """Send a socket of this network, and one that tells of the others. Raises KernelError."""
        made, sockets = rtnetlink.socket(), flushing.opened_inner()
        with Naming("sendmsg"):
            rights.send(self._theirs, b".", [made, sockets.fileno()])
        os.close(made)
        sockets.close()
        self.close()

    def take(self) -> tuple[Interfaces, int]:
        """Return what the child has sent: the interfaces of its network, and the other socket."""
        with Naming("recvmsg"):
            made, sockets = rights.take(self._ours, 1, 2)[1]
        return Interfaces(made), sockets

    def close(self) -> None:
        """Close both ends; more than once is fine."""
        self._ours.close()
        self._theirs.close()


def _place_inner(*, create: bool) -> int:
    """Open the place for the file. Links in a root of somebody else do not lead out of it."""
    top = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        return mountapi.openat2(top, _PLACE, os.O_PATH, _INSIDE)
    except KernelError as error:
        if error.errno != errno.ENOENT or not create:
            raise
        return _new_place_inner(top)
    finally:
        os.close(top)


def _new_place_inner(top: int) -> int:
    directory, name = os.path.split(_PLACE)
    if not os.path.lexists(directory):
        os.mkdir(directory, 0o755)
    above = mountapi.openat2(top, directory, os.O_PATH | os.O_DIRECTORY, _INSIDE)
    try:
        if os.fstat(above).st_dev != os.fstat(top).st_dev:
            raise KernelError(errno.ENOENT, "open", [], _PLACE)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        os.close(os.open(name, flags, 0o644, dir_fd=above))
        return os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=above)
    finally:
        os.close(above)


class Connected(Service):
    """The connection of a command with another network: found first, made while it waits.

    _other: what leads to that network; None if nothing is open. _sockets: one of the network of the
    command, that tells of the others there; -1 for none.
    """

    _other: SharedNetwork | Interfaces | None = None
    _sockets = -1

    def open(self) -> None:
        """Find the other network. Raises SpaceError if there is none, or it may not be used."""
        try:
            self._wire = self.launch.between = self._find()
        except KernelError as error:
            self._close()
            raise failure(error, self.launch) from error
        except BaseException:
            self._close()
            raise
        assert self._other
        self.launch.not_for_others.append(self._forget)

    def held(self, child: Spawned) -> None:
        """Connect the network of the child, while it waits. Raises SpaceError."""
        interfaces, self._sockets = self._wire.take()
        try:
            with Naming("ioctl"):
                namespace = fcntl.ioctl(interfaces.fileno(), constants.SIOCGSKNS)
            try:
                self.launch.observe(self._connect(interfaces, namespace, child.pid))
            finally:
                os.close(namespace)
        except KernelError as error:
            raise failure(error, self.launch) from error
        finally:
            interfaces.close()
            self._wire.close()

    def _find(self) -> Wire:
        """Set `_other`, and return the wire for the child. Raises KernelError and SpaceError."""
        raise NotImplementedError

    def _connect(self, interfaces: Interfaces, namespace: int, pid: int) -> str:
        """Connect the network of the process `pid`, and return what to say about it.

        interfaces: those of that network. namespace: a descriptor of it. Raises KernelError.
        """
        raise NotImplementedError

    def started(self, child: Spawned) -> None:
        """Leave a hold alone: it is connected as long as it lives."""
        plan = self.launch.plan
        if plan.holds("existing") and plan.existing.hold:
            self._close()

    def ended(self, ended: Ended) -> None:
        """Let what the command has sent last arrive, and leave the other network."""
        sockets, self._sockets = self._sockets, -1
        try:
            if sockets >= 0:
                flushing.wait(sockets)
        finally:
            self.release()

    def _forget(self) -> None:
        """Close, in a new process, what belongs to the networks."""
        sockets, self._sockets = self._sockets, -1
        if sockets >= 0:
            os.close(sockets)
        other, self._other = self._other, None
        if other:
            other.close()

    def _close(self) -> None:
        self._forget()
        if self.launch.between:
            self.launch.between.close()


def failure(error: KernelError, launch: Launch) -> SpaceError:
    """Return the error of a launch whose network could not be connected."""
    return prepare.failure(Report.of(BETWEEN, error), launch.plan)
