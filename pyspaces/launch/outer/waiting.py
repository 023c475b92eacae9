"""The launch waits for its caller: for the id maps of a new user namespace, or for a word.

Runs in the parent. Loaded only if the plan asks for it.
"""

from __future__ import annotations

import os
import select
import time

from pyspaces.errors import SpaceError
from pyspaces.kernel import namespaces, nsfs, procfs
from pyspaces.launch import patience
from pyspaces.launch.outer import prepare

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyspaces.kernel.spawn import Spawned
    from pyspaces.launch.services import Launch

# The names of bwrap(1), which are those of the links in /proc/PID/ns.
_KEYS = {row.name: f"{row.link}-namespace" for row in namespaces.NAMESPACES}


def inform(launch: Launch, child: Spawned, option: str, number: int) -> None:
    """Write what the child is, as bwrap(1) does: its process id, and its new namespaces.

    number: the descriptor. option: whose it is; for json-status-fd, it is one line. Raises
    SpaceError.
    """
    process = procfs.pid_of_pidfd(child.pidfd)
    rows: dict[str, int | None] = {"child-pid": child.pid}
    for row in namespaces.NAMESPACES:
        # A time namespace is made later.
        if row.name != "time" and launch.plan.has(row.name):
            rows[_KEYS[row.name]] = nsfs.inode_or_none(f"/proc/{process}/ns/{row.link}")
    facts = [f'"{key}": {value}' for key, value in rows.items() if value]
    is_line = option == "json-status-fd"
    text = "{ " + ", ".join(facts) + " }" if is_line else "{\n    " + ",\n    ".join(facts) + "\n}"
    try:
        patience.write(number, f"{text}\n".encode())
    except OSError as error:
        raise SpaceError(f"{option}: {number}: cannot be written: {error.strerror}") from error


def tell_end(number: int, status: int) -> None:
    """Write the exit status, as bwrap(1) does. Raises OSError."""
    patience.write(number, f'{{ "exit-code": {status} }}\n'.encode())


def take_maps(launch: Launch, child: Spawned, number: int) -> bool:
    """Wait until others have written the id maps; return whether setgroups(2) is allowed inside.

    Raises SpaceError if there is no map then.
    """
    wait_for(launch, child, number, "userns-block-fd")
    process = procfs.pid_of_pidfd(child.pidfd)
    if not procfs.id_map("uid_map", process):
        raise SpaceError(
            f"userns-block-fd: {number}: had something to read, but nobody has written a user map"
        )
    allowed = procfs.read_or_none(f"/proc/{process}/setgroups") == "allow"
    return allowed and bool(procfs.id_map("gid_map", process))


def wait_for(launch: Launch, child: Spawned, number: int, option: str) -> None:
    """Wait until descriptor `number` has something to read, and read one byte.

    A signal that would end the command ends the launch. Raises SpaceError if the other end is
    closed without a word, or the time is over, Interrupted, and ChildDied.
    """
    launch.observe(f"wait for --{option}")
    poller = select.poll()
    reader = launch.reader
    for descriptor in (number, child.pidfd, *([reader.fileno()] if reader else [])):
        poller.register(descriptor, select.POLLIN)
    while True:
        left = None if launch.start_by is None else launch.start_by - time.monotonic()
        if left is not None and left <= 0:
            raise prepare.too_late(launch.plan, f"wait for --{option}")
        ready = dict(poller.poll(None if left is None else left * 1000 + 1))
        if child.pidfd in ready:
            raise prepare.ChildDied
        if number in ready and _has_word(number, option):
            return
        prepare.receive_early(child, reader, executing=False)


def _has_word(number: int, option: str) -> bool:
    """Read one byte; return whether there was one. Raises SpaceError at the end of file."""
    try:
        word = os.read(number, 1)
    except BlockingIOError:  # another reader was faster
        return False
    except OSError as error:
        raise SpaceError(f"{option}: {number}: {error.strerror}") from error
    if not word:
        raise SpaceError(f"{option}: {number}: the other end was closed, and nothing was written")
    return True
