"""The launcher dies with its caller, if that is asked for.

Runs in the parent.
"""

from __future__ import annotations

import os

from pyspaces.kernel import constants, libc
from pyspaces.launch.service import Service


class Caller(Service):
    """The process that has started this one, whose death kills it: prctl(2)."""

    def open(self) -> None:
        """Ask for the signal; die at once if the caller has died meanwhile."""
        caller = self.launch.caller = os.getppid()
        libc.set_parent_death_signal(constants.SIGKILL)
        if os.getppid() != caller:
            os.kill(os.getpid(), constants.SIGKILL)
