"""Lie in wait in a sandbox for processes that join it, and use them as doors to the outside.

    python lurker.py SECRET

SECRET is a file of the host that the sandbox hides. Says `ready`, and at SIGTERM, as JSON, how
many processes came and what could be done with which of them. Only what it could do while such a
process was still ours counts: the command that was entered belongs to the inside.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

SECRET = sys.argv[1]
OURS = ("python", "nsenter", "bwrap")
WINDOW = 40  # of the last processes, each is tried again and again

came: set[int] = set()
seen: dict[str, set[int]] = {
    name: set() for name in ("exe", "root", "cwd", "fd", "mem", "environ", "written")
}


def end(number: int, frame: object) -> NoReturn:
    """Say what was seen."""
    rows = {name: len(pids) for name, pids in seen.items() if pids}
    os.write(1, json.dumps({"came": len(came), "seen": rows}).encode())
    os._exit(0)


def last_pid() -> int:
    """Return the newest process of the namespace."""
    descriptor = os.open("/proc/loadavg", os.O_RDONLY)
    try:
        return int(os.read(descriptor, 200).split()[-1])
    finally:
        os.close(descriptor)


def attempt(pid: int) -> None:
    """Try the doors of one process."""
    came.add(pid)
    base = f"/proc/{pid}/"
    # By these two: what lies behind them is never of the inside, whoever the process is.
    for door in ("root", "cwd"):
        with contextlib.suppress(OSError):
            path = base + door + (SECRET if door == "root" else "/" + os.path.basename(SECRET))
            os.close(os.open(path, os.O_RDONLY))
            seen[door].add(pid)
            with open(path, "a") as file:
                file.write("reached\n")
            seen["written"].add(pid)
    with contextlib.suppress(OSError):
        if os.path.basename(os.readlink(base + "exe")).startswith(OURS):
            seen["exe"].add(pid)
            os.close(os.open(base + "mem", os.O_RDWR))
            seen["mem"].add(pid)
            os.listdir(base + "fd")
            seen["fd"].add(pid)
            os.close(os.open(base + "environ", os.O_RDONLY))
            seen["environ"].add(pid)


def main() -> None:
    """Try the newest processes until SIGTERM."""
    signal.signal(signal.SIGTERM, end)
    first = last_pid()
    os.write(1, b"ready\n")
    while True:
        last = last_pid()
        for pid in range(max(first, last - WINDOW) + 1, last + 1):
            attempt(pid)


main()
