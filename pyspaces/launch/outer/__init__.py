"""The PARENT side of a launch: writes the id maps, gives the word, listens and waits.

Runs in the launcher only. Must not know click. What it waits for (messages of the child, the end
of the child, signals to the launcher, the clock) it waits for at once, so that nothing can make it
hang. `watch` takes any started child and plain settings: whoever creates a process uses it.
"""

from __future__ import annotations

from pyspaces.launch.outer.ending import end_child, reap
from pyspaces.launch.outer.prepare import failure, prepare_child, too_late
from pyspaces.launch.outer.watch import Ended, Watch, wait_forwarding

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyspaces.launch.outer.prepare import Observer as Observer

__all__ = [
    "Ended",
    "Watch",
    "end_child",
    "failure",
    "prepare_child",
    "reap",
    "too_late",
    "wait_forwarding",
]
