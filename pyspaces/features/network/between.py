"""What the network of a command is connected with: a network of several, or a bridge of the host.

Pure, but for the steps, which the child takes; `launch/network` has what acts on these values, and
`subnets.py` the arithmetic.
"""

from __future__ import annotations

from pyspaces.feature import NETWORK, Feature, Part, Step, many, value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from pyspaces.feature import Given
    from pyspaces.launch.inner.steps import Context
    from pyspaces.plan import Plan

# The names of a file that every resolver reads, and that a command cannot have.
_RESERVED = ("localhost", "ip6-localhost", "ip6-loopback")
_LETTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._")


class Between(Part):
    """The connection of a command with others.

    network: the name of the network that the command is on. bridge: the bridge of the host that it
    is connected with. addresses: its addresses there, with the lengths of their prefixes on a
    bridge; on a network, without any, the next free ones. gateways: its default routes, on a
    bridge. subnets: those of the network that a hold is.
    """

    is_served = True
    is_equipped = True
    needs_fork = True

    network: str | None = None
    bridge: str | None = None
    addresses: tuple[str, ...] = ()
    gateways: tuple[str, ...] = ()
    subnets: tuple[str, ...] = ()

    def faults(self, plan: Plan) -> Iterator[str]:
        if self.subnets:
            yield from self._faults_of_hold(plan)
        if self.bridge is not None:
            yield from self._faults_of_bridge(plan)
        elif self.gateways:
            yield "gateway: requires --veth"
        if self.network is not None:
            yield from self._faults_of_member(plan)
        elif self.bridge is None and self.addresses:
            yield "ip: requires a network: add --net=NETWORK or --veth"

    def _faults_of_member(self, plan: Plan) -> Iterator[str]:
        from pyspaces.features.network import subnets

        sizes: list[int] = []
        for text in self.addresses:
            try:
                sizes.append(subnets.address_of(text)[1])
            except ValueError as error:
                yield f"ip: {error}"
        if len(set(sizes)) < len(sizes):
            yield "ip: a command has one address of IPv4 and one of IPv6 on a network, at most"
        hostname = plan.uts.hostname if plan.holds("uts") else None
        if hostname is not None and (fault := host_fault(hostname)):
            yield f"hostname: {fault}"

    def _faults_of_hold(self, plan: Plan) -> Iterator[str]:
        from pyspaces.features.network import subnets

        try:
            subnets.subnets_of(self.subnets)
        except ValueError as error:
            yield f"subnet: {error}"
        if self.network is not None or self.bridge is not None:
            yield "subnet: a network cannot be on another one"
        if not (plan.holds("existing") and plan.existing.hold):
            yield "subnet: only a hold can be a network"

    def _faults_of_bridge(self, plan: Plan) -> Iterator[str]:
        from pyspaces.features.network import wiring

        yield from wiring.faults(self.bridge or "", self.addresses, self.gateways)
        others = {
            "--net=NETWORK": self.network is not None,
            "--net=user": plan.holds("uplink"),
            # An allow-list would keep nobody from anything.
            "--allow-host": plan.holds("network") and plan.network.allow_host,
        }
        yield from (f"veth: cannot be combined with {word}" for word in others if others[word])


def host_fault(name: str) -> str | None:
    """Return why others on a network could not know a command by this name, or None."""
    if not _LETTERS.issuperset(name) or name[:1] in "-.":
        return f"{name!r}: on a network, a host name is made of letters, digits and ._-"
    if name.lower() in _RESERVED:
        return f"{name}: on a network, this is the name of the loopback"
    return None


def _read(given: Given, plan: Plan) -> Between:
    del plan
    # What `settings.networks` has made of the value of --net.
    return Between(
        network=given.values.get("between"),
        bridge=given.text("veth"),
        addresses=tuple(given.texts("ip")),
        gateways=tuple(given.texts("gateway")),
    )


def _give_inner(context: Context) -> None:
    assert context.between
    context.between.give_inner()


def _show_names_inner(context: Context) -> None:
    assert context.between
    context.between.show_inner()


def _text_of(plan: Plan) -> str:
    network = plan.between
    if network.subnets:
        return f"create a bridge for {' and '.join(network.subnets)}"
    if network.bridge is not None:
        return f"the bridge {network.bridge}"
    return network.network or ""


SHOW_NAMES = Step(
    title="show the names on the network",
    applies=lambda plan: plan.between.network is not None,
    act=_show_names_inner,
    detail=lambda plan: "/etc/hosts",
)
GIVE = Step(
    title="connect to the network",
    applies=lambda plan: plan.between != Between(),
    act=_give_inner,
    detail=_text_of,
)

FEATURE = Feature(
    name="between",
    part=Between,
    settings=(
        value(
            "veth",
            NETWORK,
            "BRIDGE",
            "connect the network namespace with this bridge of the host; takes root; needs --net",
        ),
        many(
            "ip",
            NETWORK,
            "ADDRESS[/BITS]",
            "an address on the network of --net=NETWORK (the next free one), or with --veth and"
            " the length of its prefix; repeatable",
        ),
        many(
            "gateway",
            NETWORK,
            "ADDRESS",
            "with --veth, send what goes to other networks to this address; repeatable",
        ),
    ),
    read=_read,
    needs={"network": ("net", "mount"), "subnets": ("net",), "bridge": ("net",)},
    # As they are written in a conflict, without the dashes in front.
    options={
        "network": "net=NETWORK",
        "bridge": "veth",
        "addresses": "ip",
        "gateways": "gateway",
        "subnets": "subnet",
    },
    quiet=("network", "bridge", "subnets"),
    no_equivalent=dict.fromkeys(Between._fields, "unshare(1) connects no namespaces"),
)
