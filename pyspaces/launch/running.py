"""The handle of a command that has been started.

Runs in the parent.
"""

from __future__ import annotations

import os

from pyspaces.kernel import constants
from pyspaces.record import told

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Self

    from pyspaces.features.network.values import Port
    from pyspaces.kernel.spawn import Spawned
    from pyspaces.launch.outer.watch import Watch
    from pyspaces.status import Status, Usage

_LONGEST = 100 * 365 * 86400.0


class Running:
    """A command that has been started: the handle by which to wait for it or signal it.

    `pid` is its process id for the caller, `pidfd` a descriptor that stands for it. Close
    it, or use it as a context manager; closing waits for nothing and ends nothing. `ports` are the
    published ports, with the numbers that the kernel has chosen if that was left to it.
    """

    def __init__(self, child: Spawned, watch: Watch, ports: tuple[Port, ...] = ()) -> None:
        self.ports = ports
        self.pid = child.pid
        self.pidfd = child.pidfd
        self.child = child
        self.watch = watch

    @property
    def status(self) -> Status | None:
        """How the command ended, or None while it runs."""
        return self.poll()

    @property
    def usage(self) -> Usage | None:
        """What the command used in all, or None while it runs."""
        self.poll()
        return self.watch.ended.usage if self.watch.ended else None

    def poll(self) -> Status | None:
        """Return how the command ended, or None while it runs."""
        ended = self.watch.run(0)
        return ended.status if ended else None

    def wait(self, timeout: float | None = None) -> Status:
        """Wait for the command to end and return how.

        A time limit of the plan is kept meanwhile, and whenever one polls.
        timeout: seconds; None waits for ever. Raises TimeoutError when they are over.
        """
        ended = self.watch.run(limit_of(timeout))
        if ended is None:
            raise TimeoutError(f"process {self.pid} still runs after {timeout} s")
        return ended.status

    def send_signal(self, number: int) -> None:
        """Send signal `number` to the command; once it has ended, that does nothing.

        Process 1 of a pid namespace never notices one that it has no handler for. INT, TERM, HUP
        and QUIT end it all the same, and are reported as what ended it.
        """
        self.watch.ask(signal_of(number))

    def detach(self) -> int:
        """Give the pidfd away: the caller closes it, reaps the process, and calls `settle`."""
        descriptor, self.pidfd = self.pidfd, -1
        return descriptor

    def settle(self, status: Status) -> Status:
        """Take the end of a process that the caller has reaped; return how the command ended."""
        return self.watch.settle(status)

    def close(self) -> None:
        """Release the pidfd; more than once is fine."""
        if self.pidfd >= 0:
            descriptor, self.pidfd = self.pidfd, -1
            os.close(descriptor)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def limit_of(timeout: object) -> float | None:
    """Return how many seconds to wait, or None for ever. Raises TypeError and ValueError."""
    if timeout is None:
        return None
    if isinstance(timeout, bool) or not isinstance(timeout, int | float):
        raise TypeError(f"timeout: has to be a number of seconds or None, and is {told(timeout)}")
    if timeout != timeout:  # noqa: PLR0124 - the one number that is not itself
        raise ValueError("timeout: has to be a number of seconds or None, and is not a number")
    return float(max(min(timeout, _LONGEST), -1))


def signal_of(number: object) -> int:
    """Return the number of a signal that a caller sends. Raises TypeError and ValueError."""
    if isinstance(number, bool) or not isinstance(number, int):
        raise TypeError(f"signal: has to be a number, and is {told(number)}")
    if not 0 <= number <= constants.SIGNAL_MAX:
        raise ValueError(f"signal: {told(number)}: is not a signal")
    return int(number)
