"""Whether a process waits for input at the command's terminal, by /proc.

Runs in the parent. Loaded only with a terminal of its own, and used once its input has ended.

The kernel's n_tty keeps an end of input that nobody has read as a NUL for a program that then
leaves canonical mode. So the end is typed for somebody who is reading, and not before.
"""

from __future__ import annotations

import os

from pyspaces.kernel import processes, procfs

# Somebody sleeps in read(2) of the terminal; somebody sleeps, perhaps for it; nobody does.
READING, PERHAPS, NOBODY = "reading", "perhaps", "nobody"


def look(process: int, device: int) -> str:
    """Return whether `process` or what it has started waits for input from terminal `device`.

    process: as /proc numbers it. device: the terminal's device number, as os.stat has it.
    """
    answer = NOBODY
    waiting = [process]
    while waiting:
        process = waiting.pop()
        for thread in procfs.names_in(f"/proc/{process}/task"):
            found = _look_at(f"/proc/{process}/task/{thread}", device)
            if found == READING:
                return READING
            if found == PERHAPS:
                answer = PERHAPS
        waiting += processes.children_of(process)
    return answer


def _look_at(base: str, device: int) -> str:
    where = procfs.read_or_none(f"{base}/wchan")
    if where is None:
        return PERHAPS
    # n_tty_read sleeps in wait_woken, as sockets do: the descriptor, first argument of read(2) and
    # its kin, tells them apart.
    if "wait_woken" in where or "n_tty_read" in where:
        return _of_descriptor(base, device)
    # poll(2), select(2) and epoll(7): for what is in sets that only their process knows.
    if "poll" in where or "select" in where:
        return PERHAPS
    return NOBODY


def _of_descriptor(base: str, device: int) -> str:
    fields = (procfs.read_or_none(f"{base}/syscall") or "").split()
    if len(fields) < 2:
        return PERHAPS
    try:
        return READING if os.stat(f"{base}/fd/{int(fields[1], 16)}").st_rdev == device else NOBODY
    except OSError:
        return NOBODY
