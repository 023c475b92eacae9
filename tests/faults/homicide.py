"""A launch in place, of which the launcher or its helper is killed with SIGKILL at a chosen point.

    python homicide.py VICTIM POINT TOKEN

VICTIM is launcher or helper. The command would print a line; TOKEN is in its command line.
"""

from __future__ import annotations

import os
import signal
import sys

from pyspaces import launch, settings
from pyspaces.errors import SpaceError
from pyspaces.kernel import nsfs
from pyspaces.kernel.spawn import Spawned
from pyspaces.launch.outer import helper, prepare

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyspaces.launch.outer.prepare import Observer
    from pyspaces.plan import Plan


def main() -> None:
    victim, point, token = sys.argv[1:]
    main_pid = os.getpid()

    def kill() -> None:
        if victim == "helper":
            os.kill(os.getpid(), signal.SIGKILL)
        pidfd = nsfs.pidfd_open(main_pid)
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        nsfs.has_ended(pidfd, timeout=None)

    write = prepare.write_maps

    def write_maps(plan: Plan, child: Spawned, observe: Observer) -> bool:
        if point == "before the maps":
            kill()
        allowed = write(plan, child, observe)
        if point == "before the word":
            kill()
        return allowed

    helper.write_maps = write_maps  # type: ignore[attr-defined]
    values = {"user": True, "uts": True, "mount": True, "hostname": "a"}
    command = ["sh", "-c", f": {token}; echo ran; :"]
    try:
        launch.replace(settings.plan_from({**values, "command": command}))
    except SpaceError as error:
        print(error, file=sys.stderr)
        sys.exit(error.exit_status)


main()
