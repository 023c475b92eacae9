"""A command on a network of several, and a hold that is one: their services.

Runs in the parent, but for what is named `_inner`, which runs in the child. The two user namespaces
lie side by side. The caller, who owns both, connects their networks; a command has no right in that
of the network, whatever its maps and capabilities are.
"""

from __future__ import annotations

import errno
import fcntl
import os

from pyspaces.errors import BETWEEN, Report
from pyspaces.features.network import subnets
from pyspaces.kernel import constants, libc, mountapi, rtnetlink
from pyspaces.kernel.libc import KernelError, Naming
from pyspaces.kernel.rtnetlink import Interfaces
from pyspaces.launch import rights
from pyspaces.launch.network import shared
from pyspaces.launch.outer import prepare
from pyspaces.launch.service import Service

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyspaces.errors import SpaceError
    from pyspaces.kernel.spawn import Spawned
    from pyspaces.launch.network.shared import Member, SharedNetwork
    from pyspaces.launch.services import Launch

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
        """Send a socket of this network. Raises KernelError."""
        made = rtnetlink.socket()
        with Naming("sendmsg"):
            rights.send(self._theirs, b".", [made])
        os.close(made)
        self.close()

    def take(self) -> Interfaces:
        """Return the interfaces of the network of the child, once that has sent the socket."""
        with Naming("recvmsg"):
            return Interfaces(rights.take(self._ours, 1, 1)[1][0])

    def close(self) -> None:
        """Close both ends; more than once is fine."""
        self._ours.close()
        self._theirs.close()


def _place_inner(*, create: bool) -> int:
    """Open the place for the file. Links in a root of somebody else do not lead out of it."""
    top = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        return libc.openat2(top, _PLACE, os.O_PATH, _INSIDE)
    except KernelError as error:
        if error.errno != errno.ENOENT or not create:
            raise
        return _new_place_inner(top)
    finally:
        os.close(top)


def _new_place_inner(top: int) -> int:
    folder, name = os.path.split(_PLACE)
    if not os.path.lexists(folder):
        os.mkdir(folder, 0o755)
    above = libc.openat2(top, folder, os.O_PATH | os.O_DIRECTORY, _INSIDE)
    try:
        if os.fstat(above).st_dev != os.fstat(top).st_dev:
            raise KernelError(errno.ENOENT, "open", [], _PLACE)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        os.close(os.open(name, flags, 0o644, dir_fd=above))
        return os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=above)
    finally:
        os.close(above)


class Membership(Service):
    """The connection of a command with a network of several."""

    task = "leave the network"

    def __init__(self, launch: Launch) -> None:
        super().__init__(launch)
        self._network: SharedNetwork | None = None
        self._member: Member | None = None

    def open(self) -> None:
        """Open the network. Raises SpaceError if there is no network of that name."""
        name = self.launch.plan.between.network or ""
        try:
            self._network = shared.SharedNetwork(name, what="net")
            with self._network:
                path, known, self._token = self._network.create_names()
            self._wire = self.launch.between = Wire(
                (path, known), own_root=_has_own_root(self.launch)
            )
        except KernelError as error:
            self._close()
            raise failure(error, self.launch) from error
        except BaseException:
            self._close()
            raise
        self.launch.not_for_others.append(self._network.close)

    def held(self, child: Spawned) -> None:
        """Connect the network of the child, while it waits. Raises SpaceError."""
        assert self._network
        interfaces = self._wire.take()
        try:
            with self._network:
                self._connect(self._network, interfaces, child.pid)
        except KernelError as error:
            raise failure(error, self.launch) from error
        finally:
            interfaces.close()
            self._wire.close()
        assert self._member
        addresses = self._member.addresses
        self.launch.facts["network"] = self._network.name
        self.launch.facts["addresses"] = [*addresses]
        self.launch.observe(f"has the address {' and '.join(addresses)} on {self._network.name}")

    def _connect(self, network: SharedNetwork, interfaces: Interfaces, pid: int) -> None:
        plan = self.launch.plan
        hostname = (plan.uts.hostname if plan.holds("uts") else None) or ""
        with Naming("ioctl"):
            namespace = fcntl.ioctl(interfaces.fileno(), constants.SIOCGSKNS)
        try:
            self._member = network.add(
                namespace,
                pid,
                wanted=plan.between.addresses,
                hostname=hostname,
                token=self._token,
            )
        finally:
            os.close(namespace)
        interfaces.bring_up(shared.INSIDE)
        # No default route: from the network there is no way out, and a program is told so at once.
        for address, subnet in zip(self._member.addresses, network.subnets, strict=True):
            interfaces.add_address(shared.INSIDE, address, subnet.bits)
        network.write_names()

    def started(self, child: Spawned) -> None:
        """Leave a hold alone: it is on the network as long as it lives."""
        plan = self.launch.plan
        if plan.holds("existing") and plan.existing.hold:
            self._close()

    def release(self) -> None:
        """Leave the network: the addresses are free, whatever else may still run in there."""
        network, member = self._network, self._member
        try:
            if network:
                network.remove_names(self._token)
            if network and member:
                with network:
                    network.disconnect(member)
                    network.write_names()
        finally:
            self._close()

    def _close(self) -> None:
        network, self._network = self._network, None
        self._member = None
        if network:
            network.close()
        if self.launch.between:
            self.launch.between.close()


class Bridge(Service):
    """The bridge of a hold that is a network, and the files of that."""

    task = "remove the files of the network"

    def open(self) -> None:
        """Create the files: the name is ours. Raises SpaceError."""
        shared.create_files(self._name())
        self._wire = self.launch.between = Wire()

    def held(self, child: Spawned) -> None:
        """Create the bridge, while the child waits. Raises SpaceError."""
        interfaces = self._wire.take()
        try:
            interfaces.create_bridge(shared.BRIDGE)
            for subnet in subnets.subnets_of(self.launch.plan.between.subnets):
                interfaces.add_address(shared.BRIDGE, subnet.text(subnet.gateway), subnet.bits)
        except KernelError as error:
            raise failure(error, self.launch) from error
        finally:
            interfaces.close()
            self._wire.close()

    def release(self) -> None:
        """Remove the files: the launch has failed, or the hold has ended."""
        self._wire.close()
        shared.remove_files(self._name())

    def _name(self) -> str:
        return self.launch.plan.existing.name or ""


def _has_own_root(launch: Launch) -> bool:
    return launch.plan.holds("mounts") and launch.plan.mounts.empty_root


def failure(error: KernelError, launch: Launch) -> SpaceError:
    """Return the error of a launch whose network could not be connected."""
    return prepare.failure(Report.of(BETWEEN, error), launch.plan)
