"""The terminal of its own that a command gets, from before there is a command to its end.

Runs in the parent.
"""

from __future__ import annotations

from pyspaces.features.terminal import Pty
from pyspaces.launch.service import Service

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyspaces.kernel.spawn import Spawned


class Terminal(Service):
    """A new terminal, and the relay between it and the caller's standard streams."""

    task = "give the terminal back"

    def open(self) -> None:
        """Make the terminal. Raises KernelError."""
        self._pty = Pty()
        self.launch.attach = self._pty.attach_inner

    def started(self, child: Spawned) -> None:
        """Begin to relay."""
        # Here: while it is loaded, the command starts.
        from pyspaces.launch.outer.relay import Relay  # noqa: PLC0415

        self.launch.relay = Relay(self._pty, child)

    def release(self) -> None:
        """Give the caller's terminal back, and close the new one."""
        if self.launch.relay:
            self.launch.relay.close()
        self._pty.close()
