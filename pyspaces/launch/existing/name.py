"""The name of a command: taken before it is created, and given up once it has ended.

Runs in the parent.
"""

from __future__ import annotations

from pyspaces.features.existing.registry import Claim
from pyspaces.kernel import procfs
from pyspaces.launch.service import Service, members_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyspaces.kernel.spawn import Spawned
    from pyspaces.launch.services import Launch


def _network_of(launch: Launch) -> str:
    """Return what a new network namespace is connected by; empty without one."""
    plan = launch.plan
    if not plan.has("net"):
        return ""
    if plan.holds("between") and plan.between.subnets:
        return "bridge"
    if plan.holds("network") and plan.network.allow_host:
        return "proxy"
    return str(launch.facts.get("network", "none"))


class Name(Service):
    """The claim to a name: first for the launcher, then for the command."""

    task = "give up the name"

    def open(self) -> None:
        """Take the name. Raises SpaceError that says who has it."""
        assert self.launch.plan.existing.name is not None
        self._claim = Claim(self.launch.plan.existing.name)

    def held(self, child: Spawned) -> None:
        """Pass the name to the child."""
        launch = self.launch
        # `stop` asks the process that watches the name: a program that has started a
        # function is no mere launcher, and must not be the one.
        self._claim.pass_to(
            procfs.pid_of_pidfd(child.pidfd),
            made=launch.plan.namespaces,
            watched=not (launch.plan.existing.hold or launch.calls),
            members=members_of(launch, child),
            subnets=launch.plan.between.subnets if launch.plan.holds("between") else (),
            network=_network_of(launch),
            ports=tuple(f"{port.place()}:{port.inside}" for port in launch.ports),
        )

    def release(self) -> None:
        """Give the name up."""
        self._claim.give_up()
