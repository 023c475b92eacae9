"""What /proc and the interpreter keep of what this process was given, and how that is erased.

Runs in any process. Off the launch path: loaded for what outlives its launcher's words.
"""

from __future__ import annotations

import os

from pyspaces.kernel import procfs
from pyspaces.kernel.libc import overwrite


def visible_memory() -> tuple[tuple[int, int], ...]:
    """Return the addresses (start, end) of this process's command line and of its environment.

    Fields 48 to 51 of /proc/self/stat: arg_start, arg_end, env_start and env_end, which are what
    /proc/PID/cmdline and environ show, proc_pid_stat(5). Empty if they are hidden.
    """
    fields = procfs.read("/proc/self/stat").rpartition(")")[2].split()
    numbers = [int(field) for field in fields[45:49]]
    pairs = ((numbers[0], numbers[1]), (numbers[2], numbers[3]))
    return pairs if all(0 < start <= end for start, end in pairs) else ()


def erase_initial_environment() -> None:
    """Zero the memory that /proc/PID/environ of this process shows.

    os.environ is a copy, and does not change. prctl(PR_SET_MM) would require CAP_SYS_RESOURCE.
    """
    for start, end in visible_memory()[1:]:
        overwrite(start, end - start)


def forget_variables() -> None:
    """Zero the values of os.environ in place, in a process that does not need them any more.

    All references to these objects see that. Objects of one byte are left out, because the whole
    interpreter shares them.
    """
    for value in os.environb.values():
        if len(value) > 1:
            overwrite(id(value) + bytes.__basicsize__ - 1, len(value))
