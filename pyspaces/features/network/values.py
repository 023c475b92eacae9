"""What a launch says of its network: ports that lead in, ports that lead out.

Pure: these are the values, as plans hold them. `ports.py` has the grammar; `launch/network` has
the processes that carry the connections.
"""

from __future__ import annotations

from pyspaces.feature import NETWORK, Feature, Part, Step, many
from pyspaces.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import ClassVar

    from pyspaces.feature import Given
    from pyspaces.launch.inner.steps import Context
    from pyspaces.plan import Plan


class Port(Record):
    """A port outside and a port inside, one of which leads to the other.

    protocol: `tcp` or `udp`. address: an address of the outside, without brackets; inside it is
    always the loopback. outside: 0 lets the kernel choose a port to listen on.
    """

    inside: int
    outside: int
    address: str = "127.0.0.1"
    protocol: str = "tcp"

    def place(self) -> str:
        """Return the outside end, as in `127.0.0.1:8080/tcp`."""
        address = f"[{self.address}]" if ":" in self.address else self.address
        return f"{address}:{self.outside}/{self.protocol}"


class Network(Part):
    """Ports of the network namespace of the command that are connected with the outside.

    publish: ports of the outside that lead in. forward: ports of the inside that lead out.
    """

    publish: tuple[Port, ...] = ()
    forward: tuple[Port, ...] = ()

    _nested: ClassVar = {"publish": Port, "forward": Port}

    def faults(self, plan: Plan) -> Iterator[str]:
        from pyspaces.features.network import ports  # most launches have none

        yield from ports.faults(self, plan)

    @property
    def crosses(self) -> bool:
        """Whether something of ours stands between the two networks."""
        return bool(self.publish or self.forward)


def _read(given: Given, plan: Plan) -> Network:
    del plan
    texts = {name: given.texts(name) for name in Network._fields}
    if not any(texts.values()):
        return Network()
    from pyspaces.features.network import ports

    return Network(
        publish=ports.parsed("publish", texts["publish"], ports.published, given.faults),
        forward=ports.parsed("forward", texts["forward"], ports.forwarded, given.faults),
    )


def _connect_inner(context: Context) -> None:
    assert context.network
    context.network.give_inner(context)


def _parts(plan: Plan) -> Iterator[str]:
    for port in plan.network.publish:
        yield f"publish {port.place()} as port {port.inside} inside"
    for port in plan.network.forward:
        yield f"forward port {port.inside} inside to {port.place()}"


CONNECT = Step(
    title="connect the network with the outside",
    applies=lambda plan: plan.network.crosses,
    act=_connect_inner,
    parts=_parts,
)

FEATURE = Feature(
    name="network",
    part=Network,
    settings=(
        many(
            "publish",
            NETWORK,
            "[ADDRESS:]OUTSIDE:INSIDE[/udp]",
            "let connections to port OUTSIDE of the host reach port INSIDE; repeatable",
            short="-P",
        ),
        many(
            "forward",
            NETWORK,
            "INSIDE:[ADDRESS:]OUTSIDE[/udp]",
            "let connections to port INSIDE reach port OUTSIDE of the host; repeatable",
        ),
    ),
    read=_read,
    quiet=Network._fields,
    no_equivalent=dict.fromkeys(Network._fields, "unshare(1) connects no ports"),
)
