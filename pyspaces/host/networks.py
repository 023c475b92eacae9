"""The networks of several commands on this host: create, list and remove them.

Runs in the caller. Must not know the command line. A network is a hold: a process that does nothing
keeps a network namespace with a bridge, under a registered name.
"""

from __future__ import annotations

from pyspaces import launch
from pyspaces.errors import SpaceError, UsageFault
from pyspaces.features.existing import registry
from pyspaces.features.network import subnets
from pyspaces.features.network.between import Between
from pyspaces.features.network.uplink import WORDS
from pyspaces.host.stopping import Stopping
from pyspaces.kernel import constants, procfs
from pyspaces.launch.awaiting import Beside
from pyspaces.launch.network import shared
from pyspaces.record import Record
from pyspaces.settings import plan_from

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import ClassVar

SUBNET = "10.77.0.0/24"
# Seconds between TERM and KILL for a process of ours, which ends at once.
_GRACE = 10.0


class OnNetwork(Record):
    """A command on a network. pid: of its first process, as its launcher knows it; 0 if unknown."""

    addresses: tuple[str, ...]
    hostname: str
    pid: int


class Network(Record):
    """A network. pid: of the process that keeps it. members: the commands on it."""

    name: str
    subnets: tuple[str, ...]
    pid: int
    members: tuple[OnNetwork, ...] = ()

    _nested: ClassVar = {"members": OnNetwork}


def create(name: str, subnets_of_it: Sequence[str] = ()) -> None:
    """Create a network, and return once commands can be on it.

    subnets_of_it: one of IPv4, one of IPv6, or both; SUBNET without any. Raises UsageFault for an
    invalid name or subnet, and SpaceError if the name is in use.
    """
    try:
        texts = tuple(map(str, subnets.subnets_of(subnets_of_it or (SUBNET,))))
    except ValueError as error:
        raise UsageFault([f"subnet: {error}"]) from None
    if name in WORDS:
        raise UsageFault([f"network: {name}: no command could join it: --net={name} has a meaning"])
    if (holder := registry.find(name)) and holder.subnets:
        raise SpaceError(f"network: {name}: exists already")
    # Without CAP_SYS_ADMIN, it takes a user namespace. With it, there must be none: in there, every
    # process of its owner has all capabilities, even one that has none here: user_namespaces(7).
    user = not procfs.has_capability(constants.CAP_SYS_ADMIN)
    plan = plan_from({"user": user, "net": True, "hold": True, "name": name})
    with Beside(f"creating the network {name}"):
        launch.start(plan.replace(between=Between(subnets=texts))).close()


def names() -> list[str]:
    """Return the names of the networks that can be used from here."""
    return [
        holder.name
        for holder in registry.holders()
        if holder.subnets and holder.ready and not holder.is_elsewhere()
    ]


def networks() -> list[Network]:
    """Return the networks that can be used from here. Leaves out one that ends meanwhile."""
    found = []
    for name in names():
        try:
            network = shared.SharedNetwork(name)
        except SpaceError:  # has ended, or is about to end
            continue
        try:
            members = tuple(
                OnNetwork(addresses=one.addresses, hostname=one.hostname, pid=one.pid)
                for one in network.members()
            )
        finally:
            network.close()
        texts = tuple(map(str, network.subnets))
        found.append(Network(name=name, subnets=texts, pid=network.pid, members=members))
    return found


def remove(name: str, *, force: bool = False) -> None:
    """Remove a network, and wait until its name is free.

    force: even if commands are on it; they go on without it. Raises SpaceError if there is no such
    network, or if it is in use.
    """
    network = shared.SharedNetwork(name)
    try:
        with network:
            network.check_alive()
            members = network.members()
            if members and not force:
                raise SpaceError(
                    f"network: {name}: is in use",
                    details=[str(member) for member in members],
                    hint="stop these commands first, or cut them off with --force",
                )
            for member in members:
                network.remove(member)
            # Launches that wait for the lock see this, and fail.
            shared.remove_files(name)
            with Stopping(name) as stopping:
                stopping.finish(grace=_GRACE)
    finally:
        network.close()
