"""How much memory the launch itself has taken, which the kernel counts with the command's.

Runs in the parent. Loaded only with a record or a report.
"""

from __future__ import annotations

from pyspaces.kernel import processes, procfs
from pyspaces.launch.service import Service

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyspaces.kernel.spawn import Spawned


class Peak(Service):
    """The most memory that the child had before exec."""

    def held(self, child: Spawned) -> None:
        """Measure it, while the child waits right before exec."""
        self.launch.peak_floor = processes.peak_memory(procfs.pid_of_pidfd(child.pidfd))
