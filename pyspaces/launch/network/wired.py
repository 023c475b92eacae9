"""A command that is connected with a bridge of the host: --veth.

Runs in the parent. The two connected interfaces go with the network namespace of the command,
however that and this process end. The command's end of the wire is all that it gets: it has no
right in the network namespace of the host.
"""

from __future__ import annotations

import errno
import os

from pyspaces.features.network import subnets
from pyspaces.kernel import rtnetlink
from pyspaces.kernel.libc import KernelError
from pyspaces.kernel.rtnetlink import Interfaces
from pyspaces.launch.network import bridges
from pyspaces.launch.network.shared import INSIDE
from pyspaces.launch.network.wire import Connected, Wire

_PREFIX = "psp"


class Wired(Connected):
    """The connection of a command with a bridge of the host."""

    task = "remove the interface on the bridge"
    _other: Interfaces | None = None
    _name = ""

    def _find(self) -> Wire:
        self._other = Interfaces(rtnetlink.socket())
        bridge = self._bridge()
        bridges.check_rights(self._other, bridge)
        self._index = bridges.index_of(self._other, bridge)
        return Wire()

    def _connect(self, interfaces: Interfaces, namespace: int, pid: int) -> str:
        between, host = self.launch.plan.between, self._other
        assert host
        hosts = [subnets.host_of(text) for text in between.addresses]
        self._name = f"{_PREFIX}{os.urandom(6).hex()}"
        host.create_veth(
            self._name,
            master=self._index,
            network=namespace,
            peer=INSIDE,
            peer_mac=subnets.hardware_address(hosts[0][0]) if hosts else b"\2" + os.urandom(5),
            # A bridge without an address of its own takes the lowest one of its ports, and all that
            # remember it lose the host for a while. This one is higher than any device's.
            mac=b"\xfe" + os.urandom(5),
        )
        host.set_alias(self._name, f"pyspaces: process {pid}")
        interfaces.bring_up(INSIDE)
        for address, subnet in hosts:
            interfaces.add_address(INSIDE, address, subnet.bits)
        for gateway in between.gateways:
            interfaces.add_route(gateway, through=INSIDE)
        self.launch.facts |= {"network": self._bridge(), "interface": self._name}
        self.launch.facts["addresses"] = [address for address, _ in hosts]
        return f"has the interface {self._name} on {self._bridge()}"

    def release(self) -> None:
        """Remove the interface: at once, and even if another process still runs in there."""
        try:
            if self._other and self._name:
                self._other.remove(self._name)
        except KernelError as error:
            # Has gone with the namespace; or was never there.
            if error.errno != errno.ENODEV:
                raise
        finally:
            self._close()

    def _bridge(self) -> str:
        return self.launch.plan.between.bridge or ""
