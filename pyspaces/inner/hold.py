"""The process of a launch without a command: it keeps the namespaces, and nothing else.

Runs in the new process only.
"""

from __future__ import annotations

import os

from pyspaces import signals

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyspaces.plan import Plan


def hold(plan: Plan) -> None:
    """Stay until TERM or INT comes.

    Nothing of the caller's stays with it: a pipe that it held open would never end for its reader,
    and a file system that it stood in could not be unmounted.
    """
    if plan.workdir is None:
        os.chdir("/")
    os.setsid()
    # Last: who waits for the end of a pipe then finds the rest done.
    os.closerange(0, os.sysconf("SC_OPEN_MAX"))
    signals.wait_for_ending_inner()
