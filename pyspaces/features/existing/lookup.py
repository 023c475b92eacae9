"""The process that a registered name stands for, and the errors if there is none.

Runs in the parent, and in processes that look for a name.
"""

from __future__ import annotations

import time

from pyspaces.errors import SpaceError, UsageFault
from pyspaces.features.existing import registry, runtime
from pyspaces.features.existing.names import name_fault

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyspaces.features.existing.registry import Holder

# How long to wait for a registered command that is still being started, in seconds.
_STARTING = 5.0
_PAUSE = 0.01


def holder_of(name: str) -> Holder:
    """Return the holder of a name. Raises UsageFault, and SpaceError if there is none."""
    if fault := name_fault(name):
        raise UsageFault([f"name: {fault}"])
    holder = registry.find(name)
    if holder is None:
        if trouble := runtime.trouble():
            raise SpaceError(f"name: {name}: registered names cannot be used here: {trouble}")
        others = ", ".join(holder.name for holder in registry.holders()) or "none"
        raise SpaceError(f"name: {name}: is not registered", details=[f"names: {others}"])
    if holder.is_elsewhere():
        raise SpaceError(
            f"name: {name}: was registered in another pid or time namespace; use it there"
        )
    return holder


def ready_holder_of(name: str, what: str = "target") -> Holder:
    """Return the holder of a name once it is the command, whose launcher it is at first.

    what: what the name was given for. Raises UsageFault and SpaceError.
    """
    holder = holder_of(name)
    limit = time.monotonic() + _STARTING
    while not holder.ready:
        if time.monotonic() > limit:
            raise SpaceError(f"{what}: {name}: has not started within {_STARTING:g} s")
        time.sleep(_PAUSE)
        holder = holder_of(name)
    return holder
