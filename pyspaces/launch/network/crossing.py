"""The ports of a launch: the service that opens them, and starts what carries their connections.

Runs in the parent. The ports of the host are bound before there is a child: what another program
listens on is an error before the command runs.
"""

from __future__ import annotations

import _socket
import os

from pyspaces.errors import NETWORK, Report
from pyspaces.kernel.libc import KernelError
from pyspaces.launch import rights
from pyspaces.launch.network import helper, sockets
from pyspaces.launch.network.inside import Inside
from pyspaces.launch.outer import prepare
from pyspaces.launch.service import Service

TYPE_CHECKING = False
if TYPE_CHECKING:
    from _socket import socket
    from collections.abc import Sequence

    from pyspaces.errors import SpaceError
    from pyspaces.features.network.values import Port
    from pyspaces.kernel.spawn import Spawned
    from pyspaces.launch.network.helper import Helper
    from pyspaces.launch.network.relay import Route
    from pyspaces.launch.services import Launch
    from pyspaces.status import Ended

# Where a server inside may be; the second for one that is bound to ::1 alone.
_INSIDE = ("127.0.0.1", "::1")
_MOST_TOLD = 1 << 20


class Crossing(Service):
    """The ports that lead in and out of the network of a command."""

    task = "end the processes that carry connections"

    def __init__(self, launch: Launch) -> None:
        super().__init__(launch)
        self._network = launch.plan.network
        self._bound: list[socket] = []
        self._helpers: list[Helper] = []
        self._inside: Inside | None = None
        self._proxy: Helper | None = None

    def open(self) -> None:
        """Bind the ports of the host. Raises SpaceError naming the one that is taken."""
        launch = self.launch
        try:
            for port in self._network.publish:
                self._bound.append(sockets.bound(port.address, port.outside, port.protocol))
            self._inside = launch.network = Inside(self._network)
        except KernelError as error:
            self._release()
            raise self._failure(error) from error
        except BaseException:
            self._release()
            raise
        launch.not_for_others.append(self._forget)
        launch.ports = tuple(
            port.replace(outside=sockets.port_of(own))
            for port, own in zip(self._network.publish, self._bound, strict=True)
        )
        if launch.ports:
            launch.facts["ports"] = [port.to_data() for port in launch.ports]
        for port in launch.ports:
            text = f"{port.place()} is port {port.inside} inside"
            launch.observe(text)
            launch.told_to_people.append(("port", text))

    def held(self, child: Spawned) -> None:
        """Start the helpers, while the child waits. Raises SpaceError."""
        assert self._inside
        given: list[int] = []
        try:
            given += self._inside.take()
            if self.launch.uplink:
                self._leave_to_program()
            if self._bound:
                self._publish(child, given[0])
            if self._network.forward:
                self._forward(child, given[1 : 1 + len(self._network.forward)])
            if self._network.allow_host:
                self._allow(child, given[-1])
        except KernelError as error:
            raise self._failure(error) from error
        finally:
            rights.close(given)
        self.launch.companions.update({one.child.pidfd: one.what for one in self._helpers})

    def started(self, child: Spawned) -> None:
        """Leave the ports to the helpers: with them, they are free again."""
        self._release()
        if (
            self.launch.plan.holds("existing")
            and self.launch.plan.existing.hold
            and any(not p.outside for p in self._network.publish)
        ):
            # There is no record of a hold, and no other way to learn what the kernel has chosen.
            told = self.launch.told_to_people
            self.launch.tell("\n".join(text for name, text in told if name == "port"))

    def failed(self, error: BaseException) -> None:
        """Release everything."""
        self._end(patience=0)

    def ended(self, ended: Ended) -> None:
        """Wait for the helpers, which end with the command, and read the report of the proxy."""
        ours = [one.what for one in self._helpers]
        try:
            if self._proxy:
                self._tell_of_refusals(self._proxy)
        finally:
            self._end()
        if ended.lost in ours:  # and not the program that leads out
            self.launch.last_facts["lost"] = ended.lost
            self.launch.tell(f"{ended.lost} died: the command was killed")

    def _leave_to_program(self) -> None:
        """Close the TCP ports, for the program that leads out: that listens there from now on.

        Datagrams stay with our relay. Each program was given a UDP port, with an echo server inside
        (pasta 2023-03-09 and slirp4netns 1.2.0 on Linux 6.18), and the server got all that was
        sent. A client at 127.0.0.1, which is the usual address, got an answer from slirp4netns only
        with --allow-host-loopback, and from pasta never. Others got one from slirp4netns. From
        pasta, those on other hosts did, and the host itself at its own address did not.
        """
        left = []
        for own, port in zip(self._bound, self._network.publish, strict=True):
            if port.protocol == "udp":
                left.append(own)
            else:
                own.close()
        self._bound = left

    def _publish(self, child: Spawned, network: int) -> None:
        ports = [port for port in self._network.publish if self._is_ours(port)]
        routes = [
            (own, port.protocol, _INSIDE, port.inside)
            for own, port in zip(self._bound, ports, strict=True)
        ]
        self._relay("the relay of published ports", child, routes, network)

    def _forward(self, child: Spawned, listening: list[int]) -> None:
        routes = []
        for descriptor, port in zip(listening, self._network.forward, strict=True):
            kind = _socket.SOCK_DGRAM if port.protocol == "udp" else _socket.SOCK_STREAM
            own = _socket.socket(_socket.AF_INET, kind, 0, fileno=os.dup(descriptor))
            routes.append((own, port.protocol, (port.address,), port.outside))
        try:
            self._relay("the relay of forwarded ports", child, routes)
        finally:
            for own, *_ in routes:
                own.close()

    def _allow(self, child: Spawned, listening: int) -> None:
        descriptor = os.dup(listening)
        own = _socket.socket(_socket.AF_INET, _socket.SOCK_STREAM, 0, fileno=descriptor)
        allowed = self._network.allow_host

        def load() -> helper.Serve:
            from pyspaces.launch.network import proxy

            return lambda tell: proxy.serve(own, allowed, child.pidfd, tell)

        try:
            kept = [descriptor, child.pidfd]
            self._proxy = self._start("the proxy for allowed hosts", b"pyspaces-proxy", load, kept)
        finally:
            own.close()

    def _tell_of_refusals(self, told: Helper) -> None:
        refused, more = _refusals_of(told.read(_MOST_TOLD))
        self.launch.last_facts["refused"] = refused
        for row in refused:
            times = "" if row["count"] == 1 else f", {row['count']} times"
            text = f"{row['host']}:{row['port']}: {row['why']}{times}"
            self.launch.told_to_people.append(("refused", text))
        if more:
            self.launch.told_to_people.append(("refused", f"others, {more} times"))

    def _relay(self, what: str, child: Spawned, routes: Sequence[Route], network: int = -1) -> None:
        inside = 1 if network >= 0 else 0

        def load() -> helper.Serve:
            from pyspaces.launch.network import relay

            return lambda tell: relay.serve(routes, child.pidfd, inside=inside)

        kept = [*(own.fileno() for own, *_ in routes), child.pidfd]
        self._start(what, b"pyspaces-relay", load, kept, network)

    def _start(
        self, what: str, name: bytes, load: helper.Load, kept: Sequence[int], network: int = -1
    ) -> Helper:
        found = helper.start(load, what=what, name=name, kept=kept, network=network)
        self._helpers.append(found)
        return found

    def _failure(self, error: KernelError) -> SpaceError:
        return prepare.failure(Report.of(NETWORK, error), self.launch.plan)

    def _is_ours(self, port: Port) -> bool:
        return port.protocol == "udp" or not self.launch.uplink

    def _forget(self) -> None:
        """Close, in a new process, what listens on the host."""
        for own in self._bound:
            own.close()

    def _release(self) -> None:
        self._forget()
        self._bound.clear()
        if self._inside:
            self._inside.close()

    def _end(self, **patience: float) -> None:
        self._release()
        helpers, self._helpers = self._helpers, []
        for one in helpers:
            one.end(**patience)


def _refusals_of(data: bytes) -> tuple[list[dict[str, str | int]], int]:
    """Return what a proxy has reported: the hosts that were refused, and a count of further ones.

    A proxy that was killed has reported nothing, or not all of it.
    """
    first, *rows = data.decode("ascii", "replace").split("\n")
    found: list[dict[str, str | int]] = []
    for row in rows:
        if row.count("\0") != 3:
            break
        count, host, port, why = row.split("\0")
        found.append({"host": host, "port": int(port), "why": why, "count": int(count)})
    return found, int(first) if first.isdecimal() else 0
