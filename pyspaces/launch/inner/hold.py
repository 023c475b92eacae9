"""The process of a launch without a command: it keeps the namespaces, and nothing else.

Runs in the new process only.
"""

from __future__ import annotations

import os

from pyspaces.kernel import erasing, libc, spawn
from pyspaces.launch import signals

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from pyspaces.plan import Plan


_HOLD, _NETWORK = b"pyspaces-hold", b"pyspaces-net"  # at most 15 bytes: PR_SET_NAME


def hold(plan: Plan, visible: Sequence[tuple[int, int]]) -> None:
    """Stay until TERM or INT comes.

    visible: where /proc reads the command line and the environment from, as (start, end).

    Nothing of the caller's stays with it: a pipe that it held open would never end for its reader,
    and a file system that it stood in could not be unmounted. Nor has it anything to read for a
    command that is run in its namespaces later, and may trace it: what can be found of the
    environment is overwritten. The command line, which would be its launcher's, says what it is,
    as `pyspaces ps` and ps(1) show. It stays dumpable if it has joined nothing, for its owner could
    not enter it otherwise.
    """
    title = _NETWORK if plan.holds("between") and plan.between.subnets else _HOLD
    for start, end in visible:
        libc.overwrite(start, end - start)
    for start, end in visible[:1]:
        libc.write_memory(start, title[: end - start - 1])
    libc.set_name(title)
    erasing.forget_variables()
    if plan.workdir is None:
        os.chdir("/")
    os.setsid()
    # Last: a program that waits for the end of a pipe then finds the rest done.
    spawn.close_others()
    signals.wait_for_ending_inner()
