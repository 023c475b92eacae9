"""A command that is connected with a bridge of the host: --veth.

Runs in the parent. The two connected interfaces go with the network namespace of the command,
however that and this process end. The command's end of the wire is all that it gets: it has no
right in the network namespace of the host.
"""

from __future__ import annotations

import errno
import fcntl
import os

from pyspaces.features.network import subnets
from pyspaces.kernel import constants, rtnetlink
from pyspaces.kernel.libc import KernelError, Naming
from pyspaces.kernel.rtnetlink import Interfaces
from pyspaces.launch.network import bridges
from pyspaces.launch.network.joining import Wire, failure
from pyspaces.launch.network.shared import INSIDE
from pyspaces.launch.service import Service

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyspaces.kernel.spawn import Spawned
    from pyspaces.launch.services import Launch

_PREFIX = "psp"


class Wired(Service):
    """The connection of a command with a bridge of the host."""

    task = "remove the interface on the bridge"

    def __init__(self, launch: Launch) -> None:
        super().__init__(launch)
        self._bridge = launch.plan.between.bridge or ""
        self._host: Interfaces | None = None
        self._index = 0
        self._name = ""

    def open(self) -> None:
        """Look for the bridge. Raises SpaceError if there is none, or it may not be used."""
        try:
            self._host = Interfaces(rtnetlink.socket())
            bridges.check_rights(self._host, self._bridge)
            self._index = bridges.index_of(self._host, self._bridge)
            self._wire = self.launch.between = Wire()
        except KernelError as error:
            self._close()
            raise failure(error, self.launch) from error
        except BaseException:
            self._close()
            raise
        self.launch.not_for_others.append(self._host.close)

    def held(self, child: Spawned) -> None:
        """Connect the network of the child, while it waits. Raises SpaceError."""
        assert self._host
        interfaces = self._wire.take()
        try:
            self._connect(self._host, interfaces, child.pid)
        except KernelError as error:
            raise failure(error, self.launch) from error
        finally:
            interfaces.close()
            self._wire.close()
        self.launch.observe(f"has the interface {self._name} on {self._bridge}")

    def _connect(self, host: Interfaces, interfaces: Interfaces, pid: int) -> None:
        between = self.launch.plan.between
        hosts = [subnets.host_of(text) for text in between.addresses]
        self._name = f"{_PREFIX}{os.urandom(6).hex()}"
        with Naming("ioctl"):
            namespace = fcntl.ioctl(interfaces.fileno(), constants.SIOCGSKNS)
        try:
            host.create_veth(
                self._name,
                master=self._index,
                network=namespace,
                peer=INSIDE,
                peer_mac=subnets.hardware_address(hosts[0][0]) if hosts else b"\2" + os.urandom(5),
                # A bridge without an address of its own takes the lowest one of its ports, and all
                # that remember it lose the host for a while. This one is higher than any device's.
                mac=b"\xfe" + os.urandom(5),
            )
        finally:
            os.close(namespace)
        host.set_alias(self._name, f"pyspaces: process {pid}")
        interfaces.bring_up(INSIDE)
        for address, subnet in hosts:
            interfaces.add_address(INSIDE, address, subnet.bits)
        for gateway in between.gateways:
            interfaces.add_route(gateway, through=INSIDE)
        addresses = [address for address, _ in hosts]
        self.launch.facts |= {"network": self._bridge, "interface": self._name}
        self.launch.facts["addresses"] = addresses

    def started(self, child: Spawned) -> None:
        """Leave a hold alone: it is connected as long as it lives."""
        plan = self.launch.plan
        if plan.holds("existing") and plan.existing.hold:
            self._close()

    def release(self) -> None:
        """Remove the interface: at once, and even if another process still runs in there."""
        try:
            if self._host and self._name:
                self._host.remove(self._name)
        except KernelError as error:
            # Has gone with the namespace; or was never there.
            if error.errno != errno.ENODEV:
                raise
        finally:
            self._close()

    def _close(self) -> None:
        host, self._host = self._host, None
        if host:
            host.close()
        if self.launch.between:
            self.launch.between.close()
