"""A timer that sends this process a signal: timer_create(2). Loaded only for a limit of time."""

from __future__ import annotations

import _struct as struct  # what `struct` hands on, without a file to load

from pyspaces.kernel import constants
from pyspaces.kernel import foreign as ctypes
from pyspaces.kernel.libc import checked

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable


def start(seconds: float, *, every: float, number: int) -> Callable[[], object]:
    """Send signal `number` to this process after `seconds`, and then once in `every` seconds.

    timer_create(2), by the monotonic clock. Children do not inherit it. Returns a function that
    ends it.
    """
    # glibc before 2.34 has it in a library of its own.
    try:
        create = (library := ctypes.Library(None)).function("timer_create")
    except AttributeError:
        create = (library := ctypes.Library("librt.so.1")).function("timer_create")
    timer, event = ctypes.c_void_p(), struct.pack("Pii", 0, number, 0).ljust(64, b"\0")
    clock = constants.CLOCK_MONOTONIC
    checked(create(clock, event, ctypes.byref(timer)), "timer_create")
    times = [part for one in (every, seconds) for part in (int(one), int(one % 1 * 1e9))]
    settime, delete = (library.function(f"timer_{name}") for name in ("settime", "delete"))
    checked(settime(timer, 0, struct.pack("4l", *times), None), "timer_settime")
    return lambda: delete(timer)
