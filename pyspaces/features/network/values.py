"""The network part of a plan: published and forwarded ports, sockets, and allowed hosts.

Pure: these are the values, as plans hold them. `ports.py` has the grammar; `launch/network` has
the processes that carry the connections.
"""

from __future__ import annotations

import os

from pyspaces.feature import NETWORK, Feature, Part, Probe, Step, many
from pyspaces.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import ClassVar

    from pyspaces.feature import Given
    from pyspaces.launch.inner.steps import Context
    from pyspaces.plan import Plan


LISTEN_FDS_START = 3  # SD_LISTEN_FDS_START of sd_listen_fds(3)


class Port(Record):
    """A port outside and a port inside; connections to one go to the other.

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


class Listening(Record):
    """A listening socket outside that the command inherits. port: 0 lets the kernel choose one."""

    port: int
    address: str = "127.0.0.1"
    protocol: str = "tcp"
    name: str = ""

    def place(self) -> str:
        """Return the address it listens on, as in `127.0.0.1:8080/tcp`."""
        return Port(
            inside=0, outside=self.port, address=self.address, protocol=self.protocol
        ).place()


class Network(Part):
    """Connections between the command's network and the caller's.

    publish: ports outside whose connections go to ports inside. forward: ports inside whose
    connections go to ports outside. listen: listening sockets outside that the command inherits.
    allow_host: the hosts that it can reach through a proxy, as `hosts.py` reads them.
    """

    is_served = True
    is_equipped = True
    needs_fork = True

    publish: tuple[Port, ...] = ()
    forward: tuple[Port, ...] = ()
    listen: tuple[Listening, ...] = ()
    allow_host: tuple[str, ...] = ()

    _nested: ClassVar = {"publish": Port, "forward": Port, "listen": Listening}

    def faults(self, plan: Plan) -> Iterator[str]:
        from pyspaces.features.network import ports  # most launches have none

        yield from ports.faults(self, plan)

    @property
    def crosses(self) -> bool:
        """Whether connections are carried between the two networks."""
        return bool(self.publish or self.forward or self.allow_host)


def _read(given: Given, plan: Plan) -> Network:
    del plan
    if not any(map(given.has, Network._fields)):
        return Network()
    from pyspaces.features.network import ports

    published = given.each("publish", ports.published)
    forwarded = given.each("forward", ports.forwarded)
    return Network(
        publish=tuple(Port(**fields) for found in published for fields in found),
        forward=tuple(Port(**fields) for found in forwarded for fields in found),
        listen=tuple(Listening(**fields) for fields in given.each("listen", ports.listening)),
        allow_host=tuple(given.words("allow_host")),
    )


def _connect_inner(context: Context) -> None:
    assert context.network
    context.network.give_inner(context)


def _parts(plan: Plan) -> Iterator[str]:
    for port in plan.network.publish:
        yield f"publish {port.place()} as port {port.inside} inside"
    for port in plan.network.forward:
        yield f"forward port {port.inside} inside to {port.place()}"
    for host in plan.network.allow_host:
        yield f"allow the proxy to reach {host}"


def _hand_over_inner(context: Context) -> None:
    """Pass the sockets from descriptor 3 on, with the variables of sd_listen_fds(3).

    LISTEN_PID has to be the process ID that the command itself sees. The launcher has kept these
    numbers free, so nothing that is still needed is closed.
    """
    if context.function is not None:  # of `check`, which has descriptors of its own there
        return
    sockets = context.plan.network.listen
    for number, descriptor in enumerate(context.listening, LISTEN_FDS_START):
        os.dup2(descriptor, number, inheritable=True)
    names = ":".join(one.name or "unknown" for one in sockets)
    context.environment[b"LISTEN_FDS"] = b"%d" % len(sockets)
    context.environment[b"LISTEN_PID"] = b"%d" % os.getpid()
    context.environment[b"LISTEN_FDNAMES"] = names.encode()


HAND_OVER = Step(
    title="hand over the listening sockets",
    applies=lambda plan: plan.network.listen,
    act=_hand_over_inner,
    for_command=True,
    parts=lambda plan: (
        f"descriptor {number}: {one.place()}" + (f", called {one.name}" if one.name else "")
        for number, one in enumerate(plan.network.listen, LISTEN_FDS_START)
    ),
)
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
            "let connections to port OUTSIDE reach port INSIDE; repeatable",
            short="-P",
            everyday=True,
        ),
        many(
            "forward",
            NETWORK,
            "INSIDE:[ADDRESS:]OUTSIDE[/udp]",
            "let connections to port INSIDE reach port OUTSIDE of the host; repeatable",
        ),
        many(
            "listen",
            NETWORK,
            "[NAME=][ADDRESS:]PORT[/udp]",
            "give the command a socket that listens on the host (LISTEN_FDS); repeatable",
        ),
        many(
            "allow_host",
            NETWORK,
            "NAME[:PORT][,...]",
            "let the command reach these hosts only, by a proxy; repeatable",
            listed=True,
            everyday=True,
        ),
    ),
    read=_read,
    quiet=Network._fields,
    probes=(
        Probe(
            name="ports",
            settings={"net": True, "publish": ("0:80",), "forward": ("81:80",)},
            works="a port was published, and another one forwarded",
        ),
    ),
    no_equivalent=dict.fromkeys(Network._fields, "unshare(1) connects no ports"),
)
