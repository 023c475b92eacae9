"""The sockets that a command is given, listening already: socket activation, sd_listen_fds(3).

Runs in the parent; the step that hands them over is in the feature.
"""

from __future__ import annotations

import fcntl
import os

from pyspaces.errors import NETWORK, Report, UsageFault
from pyspaces.features.network.values import LISTEN_FDS_START
from pyspaces.kernel import accepting
from pyspaces.kernel.libc import KernelError
from pyspaces.launch.network import sockets
from pyspaces.launch.outer import prepare
from pyspaces.launch.service import Service

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyspaces.kernel.spawn import Spawned


class Activation(Service):
    """Listening sockets, from before there is a child until the command has them."""

    task = "close the listening sockets"

    def open(self) -> None:
        """Bind the ports, and keep the numbers free that the sockets will have in the command."""
        launch, wanted = self.launch, self.launch.plan.network.listen
        self._descriptors: list[int] = []
        end = LISTEN_FDS_START + len(wanted)
        try:
            _check_numbers(end)
            found = [self._opened(one.address, one.port, one.protocol, end) for one in wanted]
            self._reserve(end)
        except KernelError as error:
            self.release()
            raise prepare.failure(Report.of(NETWORK, error), launch.plan) from error
        except BaseException:
            self.release()
            raise
        launch.listening = tuple(descriptor for descriptor, _ in found)
        told = [one.replace(port=port) for one, (_, port) in zip(wanted, found, strict=True)]
        launch.facts["listen"] = [one.to_data() for one in told]
        launch.told_to_people += [("listening", one.place()) for one in told]

    def _opened(self, address: str, port: int, protocol: str, end: int) -> tuple[int, int]:
        """Return a socket with a number from `end` on, and its port."""
        own = sockets.bound(address, port, protocol)
        try:
            if protocol != "udp":
                accepting.let_accept_only(own)
            descriptor = fcntl.fcntl(own.fileno(), fcntl.F_DUPFD_CLOEXEC, end)
            self._descriptors.append(descriptor)
            return descriptor, sockets.port_of(own)
        finally:
            own.close()

    def _reserve(self, end: int) -> None:
        """Take what is free of the numbers below `end`.

        So nothing that the child needs until its last moment, such as the channel, will have one.
        """
        while (descriptor := os.open("/", os.O_PATH | os.O_CLOEXEC)) < end:
            self._descriptors.append(descriptor)
        os.close(descriptor)

    def started(self, child: Spawned) -> None:
        """Leave the sockets to the command alone: it may close one."""
        self.release()

    def release(self) -> None:
        """Close the sockets."""
        while self._descriptors:
            os.close(self._descriptors.pop())


def _check_numbers(end: int) -> None:
    """Raise UsageFault if an inherited descriptor has the number of a socket."""
    for number in range(LISTEN_FDS_START, end):
        try:
            flags = fcntl.fcntl(number, fcntl.F_GETFD)
        except OSError:
            continue
        if not flags & fcntl.FD_CLOEXEC:
            raise UsageFault(
                [f"listen: descriptor {number} is open, and its number is that of a socket"],
                hint=f"close it for the launcher: pyspaces run ... {number}<&-",
            )
