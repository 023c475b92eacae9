"""The way out of a network: the service that has pasta or slirp4netns connect it with the host's.

Runs in the parent, but for what ends in `_inner`.
"""

from __future__ import annotations

import os

from pyspaces.errors import UPLINK, Report, SpaceError
from pyspaces.features.ids import program
from pyspaces.features.network import naming, uplink
from pyspaces.features.network.values import Network
from pyspaces.kernel.libc import KernelError
from pyspaces.launch import rights
from pyspaces.launch.network import engine, engines
from pyspaces.launch.network.inside import Attachment
from pyspaces.launch.outer import prepare
from pyspaces.launch.service import Service

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyspaces.kernel.spawn import Spawned
    from pyspaces.launch.network.helper import Helper
    from pyspaces.launch.services import Launch
    from pyspaces.status import Ended

TUN = "/dev/net/tun"
PACKAGES = {"pasta": "passt", "slirp4netns": "slirp4netns"}
_MOST_TOLD = 1 << 16


class Leading(Service):
    """The program that leads out of the network of a command."""

    task = "end the program that connects the network"

    def __init__(self, launch: Launch) -> None:
        super().__init__(launch)
        self._helper: Helper | None = None
        self._inside: Attachment | None = None
        self._name = self._path = ""
        self._stub = False

    def open(self) -> None:
        """Look for the program, and for what it needs. Raises SpaceError."""
        mode = self.launch.plan.uplink.mode or ""
        self._name, self._path = found(mode)
        if fault := tun_fault():
            raise SpaceError(f"cannot connect the network: {fault[0]}", hint=fault[1])
        self._stub = has_stub()
        forwarder = engines.FORWARDERS[self._name] if self._stub else None
        self._inside = self.launch.uplink = Attachment(Network(), forwarder)
        self.launch.facts["network"] = self._name
        self.launch.told_to_people.append(("network", f"by {self._name}"))

    def held(self, child: Spawned) -> None:
        """Start the program, while the child waits, and wait until it is ready."""
        assert self._inside
        given: list[int] = []
        try:
            given += self._inside.take()
            self._inside.close()
            self._start(child, *given)
        except KernelError as error:
            raise prepare.failure(Report.of(UPLINK, error), self.launch.plan) from error
        finally:
            rights.close(given)

    def _start(self, child: Spawned, network: int, sockets: int) -> None:
        launch = self.launch
        asked = engines.Asked(
            path=self._path,
            ours=engine.owned_by_us(network),
            host_loopback=launch.plan.uplink.host_loopback,
            ports=tuple(port for port in launch.ports if port.protocol == "tcp"),
            forward=self._stub,
        )
        made = engines.ENGINES[self._name](asked)
        launch.observe("start " + " ".join(made.words))
        self._helper = engine.start(self._name, made, child.pidfd, network, sockets)
        launch.companions[self._helper.child.pidfd] = self._name

    def failed(self, error: BaseException) -> None:
        """Release everything."""
        self._end(patience=0)

    def ended(self, ended: Ended) -> None:
        """Wait for the program, which ends with the command; say why it ended before, if it did."""
        words = b""
        if ended.lost == self._name and self._helper:
            words = self._helper.read(_MOST_TOLD)
            self.launch.last_facts["lost"] = ended.lost
        self._end()
        if ended.lost == self._name:
            why = f": {words.decode(errors='replace')}" if words else ""
            self.launch.tell(f"{ended.lost} died: the command was killed{why}")

    def release(self) -> None:
        """Close the sockets to the child."""
        if self._inside:
            self._inside.close()

    def _end(self, **patience: float) -> None:
        self.release()
        one, self._helper = self._helper, None
        if one:
            one.end(**patience)


def found(mode: str) -> tuple[str, str]:
    """Return the name and the path of the program for a mode. Raises SpaceError."""
    names = uplink.ENGINES if mode == uplink.MODES[0] else (mode,)
    for name in names:
        if path := program.find(name):
            return name, path
    packages = " or ".join(PACKAGES[name] for name in names)
    what = f"neither {' nor '.join(names)} is" if len(names) > 1 else f"{names[0]} is not"
    raise SpaceError(
        f"cannot connect the network: {what} installed",
        hint=f"install one: Debian's package is {packages}",
    )


def has_stub() -> bool:
    """Return whether the first name server of this host is on its loopback, or none is named."""
    try:
        with open(naming.RESOLV, "rb") as file:
            servers = naming.servers_of(file.read(_MOST_TOLD))
    except OSError:
        return True  # the C library asks 127.0.0.1 then
    return not servers or naming.is_loopback(servers[0])


def tun_fault() -> tuple[str, str] | None:
    """Return why this process cannot make a tun device, and the remedy; None if it can."""
    try:
        os.close(os.open(TUN, os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK))
    except FileNotFoundError as error:
        return f"{TUN}: {error.strerror}", "as root: modprobe tun"
    except OSError as error:
        return f"{TUN}: {error.strerror}", f"as root: chmod 666 {TUN}"
    return None
