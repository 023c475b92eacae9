"""Other processes, as /proc shows them.

Runs in any process. Off the launch path: loaded if a launch looks into others.
"""

from __future__ import annotations

import os
import sys

from pyspaces.kernel import procfs


def ids() -> list[int]:
    """Return the ids of all processes in this /proc, in ascending order."""
    return sorted(int(name) for name in os.listdir("/proc") if name.isdecimal())


def start_time(process: int | str) -> int | None:
    """Return the start time of a process in clock ticks since boot; None if it has ended.

    Together with the pid, it identifies a process. It depends on the reader's time namespace.
    """
    fields = procfs.stat_fields(process)
    return int(fields[19]) if fields else None


def has_ended(process: int | str) -> bool:
    """Return whether a process has ended, even if nobody has reaped it, or cannot be seen."""
    fields = procfs.stat_fields(process)
    return fields is None or fields[0] in "ZX"


def image_of(process: int | str) -> object:
    """Return what is another value after each execve(2) of a process; None if it has ended."""
    fields = procfs.stat_fields(process)
    # The address of its stack; 0 for whoever may not trace it, who has to do with the words.
    return fields and (fields[25] if fields[25] != "0" else words_of(process))


def words_of(process: int | str) -> list[str]:
    """Return the command line of a process; empty for kernel threads and zombies."""
    text = procfs.read_or_none(f"/proc/{process}/cmdline")
    return text.rstrip("\0").split("\0") if text else []


def peak_memory(process: int) -> int:
    """Return the maximum resident memory of `process` in bytes; 0 if unknown."""
    return int((procfs.status_field(process, "VmHWM") or "0").split()[0]) * 1024


def children_of(process: int) -> list[int]:
    """Return the ids of the children of a process in this /proc."""
    lists = [
        procfs.read_or_none(f"/proc/{process}/task/{thread}/children")
        for thread in procfs.names_in(f"/proc/{process}/task")
    ]
    if None not in lists:
        return [int(child) for text in lists for child in (text or "").split()]
    # A kernel without CONFIG_PROC_CHILDREN, or a thread that has just ended.
    return [child for child in ids() if procfs.parent_of(child) == process]


def has_signalfd(process: int, number: int) -> bool:
    """Return whether a process has a signalfd for signal `number`; False if it cannot be read."""
    for name in procfs.names_in(f"/proc/{process}/fdinfo"):
        for line in (procfs.read_or_none(f"/proc/{process}/fdinfo/{name}") or "").split("\n"):
            if line.startswith("sigmask:") and int(line.split()[1], 16) >> (number - 1) & 1:
                return True
    return False


def is_in_sigwait(process: int, number: int) -> bool:
    """Return whether a thread of a process waits for signal `number` in sigwait(3) or the like.

    If the set of signals cannot be read, any such wait counts.
    """
    for thread in procfs.names_in(f"/proc/{process}/task"):
        base = f"/proc/{process}/task/{thread}"
        if "sigtimedwait" in (procfs.read_or_none(f"{base}/wchan") or ""):
            waited = _set_of_sigwait(base)
            if waited is None or waited >> (number - 1) & 1:
                return True
    return False


def _set_of_sigwait(base: str) -> int | None:
    """Return the set, the first argument of the call, as a mask; None if it cannot be read."""
    fields = (procfs.read_or_none(f"{base}/syscall") or "").split()
    if len(fields) < 2:  # "running": the call has returned
        return None
    try:
        with open(f"{base}/mem", "rb", buffering=0) as memory:
            return int.from_bytes(os.pread(memory.fileno(), 8, int(fields[1], 16)), sys.byteorder)
    except (OSError, OverflowError):
        return None
