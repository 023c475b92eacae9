"""A command on a network of several, and a hold that is one: their services.

Runs in the parent. The two user namespaces lie side by side. The caller, who owns both, connects
their networks; a command has no right in that of the network, whatever its maps and capabilities
are.
"""

from __future__ import annotations

import os

from pyspaces.features.network import between, subnets
from pyspaces.kernel.libc import KernelError
from pyspaces.launch.network import shared
from pyspaces.launch.network.wire import Connected, Wire, failure
from pyspaces.launch.service import Service

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyspaces.kernel.rtnetlink import Interfaces
    from pyspaces.kernel.spawn import Spawned
    from pyspaces.launch.network.shared import Member, SharedNetwork
    from pyspaces.plan import Plan


class Membership(Connected):
    """The connection of a command with a network of several."""

    task = "leave the network"
    _other: SharedNetwork | None = None
    _member: Member | None = None

    def _find(self) -> Wire:
        plan = self.launch.plan
        self._other = shared.SharedNetwork(plan.between.network or "", what="net")
        with self._other:
            path, known, self._token = self._other.create_names()
        own_root = plan.holds("mounts") and plan.mounts.empty_root
        return Wire((path, known), own_root=own_root)

    def _connect(self, interfaces: Interfaces, namespace: int, pid: int) -> str:
        plan, network = self.launch.plan, self._other
        assert network
        hostname, given_as = _name_on_network(plan)
        with network:
            self._member = network.add(
                namespace,
                pid,
                wanted=plan.between.addresses,
                hostname=hostname,
                given_as=given_as,
                token=self._token,
            )
            interfaces.bring_up(shared.INSIDE)
            # No default route: there is no way out of the network, and a program is told so at
            # once.
            addresses = self._member.addresses
            for address, subnet in zip(addresses, network.subnets, strict=True):
                interfaces.add_address(shared.INSIDE, address, subnet.bits)
            network.write_names()
        self.launch.facts |= {"network": network.name, "addresses": [*addresses]}
        return f"has the address {' and '.join(addresses)} on {network.name}"

    def release(self) -> None:
        """Leave the network: the addresses are free, whatever else may still run in there."""
        network, member = self._other, self._member
        self._member = None
        try:
            if network:
                network.remove_names(self._token)
            if network and member:
                with network:
                    network.disconnect(member)
                    network.write_names()
        finally:
            self._close()


def _name_on_network(plan: Plan) -> tuple[str, str]:
    """Return what the others call a command, and by which option: its host name, or its name.

    Both are empty if it has neither, or a name that cannot be that of a host.
    """
    if plan.holds("uts") and plan.uts.hostname:
        return plan.uts.hostname, "hostname"
    name = plan.existing.name if plan.holds("existing") else None
    return ("", "") if not name or between.host_fault(name) else (name, "name")


class Bridge(Service):
    """The bridge of a hold that is a network, and the files of that."""

    task = "remove the files of the network"

    def open(self) -> None:
        """Create the files: the name is ours. Raises SpaceError."""
        shared.create_files(self._name())
        self._wire = self.launch.between = Wire()

    def held(self, child: Spawned) -> None:
        """Create the bridge, while the child waits. Raises SpaceError."""
        interfaces, sockets = self._wire.take()
        os.close(sockets)
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
