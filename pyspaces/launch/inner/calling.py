"""The last act of a child that calls a Python function instead of executing a command.

Runs in the new process only.
"""

from __future__ import annotations

import os

from pyspaces.kernel import libc
from pyspaces.launch.inner.confined import confine
from pyspaces.launch.inner.steps import unseal_imports

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import NoReturn

    from pyspaces.launch.inner import Telling

_CRASHED = 70  # sysexits.h EX_SOFTWARE; as `spawn` has it


def call_function(telling: Telling) -> NoReturn:
    """Call the function, as the whole rest of this process."""
    context = telling.context
    plan = context.plan
    clear = plan.holds("environment") and plan.environment.clear
    _take_environment(context.environment, clear=clear)
    unseal_imports()
    if context.post and not plan.joining():
        # A child of our process 1, which nobody may look into; this one is the caller's function.
        libc.set_dumpable(dumpable=True)
    confine(telling)
    context.channel.close()
    os.close(context.launcher)
    assert context.function
    try:
        context.function()
        os._exit(0)
    finally:  # whatever it raises, an exit included, ends this process
        os._exit(_CRASHED)


def _take_environment(wanted: Mapping[bytes, bytes], *, clear: bool) -> None:
    """Make the environment of this process the wanted one, as os.environ and getenv(3) have it."""
    if clear:
        # First: os.environ knows nothing of what a library has set, as readline does LINES.
        os.environb.clear()
        libc.clear_environment()
    for name in [name for name in os.environb if name not in wanted]:
        del os.environb[name]
    for name, value in wanted.items():
        if os.environb.get(name) != value:
            os.environb[name] = value
