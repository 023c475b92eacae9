"""What becomes of a signal to a process, which is read from /proc before or after it is sent.

Runs in the parent, and in our process 1. Loaded once a signal is to be judged, or with process 1.
"""

from __future__ import annotations

from pyspaces.kernel import processes, procfs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

# What becomes of a signal to a process: it has a handler for it or ignores it, or waits for it by
# other means; the signal is pending; the kernel's default action is taken; or the process blocks
# the signal, and it is not pending.
TAKEN, BLOCKED, DEFAULT, UNSURE = "taken", "blocked", "default", "unsure"


def fate_on(process: int, number: int) -> str:
    """Return what becomes of signal `number` on a process as it is now.

    process: its pid as /proc numbers it. TAKEN: it has a handler, ignores the signal, waits for it
    (sigwait, signalfd), or has ended. BLOCKED: the signal is pending, or may be: the process cannot
    have read it. DEFAULT: the action is the kernel's, and for process 1 of a namespace that is to
    drop it: pid_namespaces(7). UNSURE: it is blocked and not pending: not sent yet, or read, or
    dropped between two looks.
    """
    fields = ("State", "SigPnd", "ShdPnd", "SigBlk", "SigIgn", "SigCgt")
    state, *masks = procfs.status_fields(process, fields)
    # A file that has vanished: a process that was reaped. What it was asked is not to be judged.
    if state is None or state[:1] in "ZX":
        return TAKEN
    one, shared, blocked, ignored, caught = _bits(masks, number)
    if ignored or caught:
        return TAKEN
    if one or shared:
        return BLOCKED
    if blocked and state[:1] == "D":  # in vfork(2), for example: it reads nothing now
        return BLOCKED
    if blocked:
        return TAKEN if processes.has_signalfd(process, number) else UNSURE
    # Within sigwait the kernel shows the signals waited for as not blocked (do_sigtimedwait moves
    # the mask to real_blocked): process 1 would look as if it dropped them.
    return TAKEN if processes.is_in_sigwait(process, number) else DEFAULT


def _bits(masks: Iterable[str | None], number: int) -> list[int]:
    """Return the bit of a signal in each mask of /proc/PID/status."""
    return [int(mask or "0", 16) >> (number - 1) & 1 for mask in masks]


def is_undelivered(process: int, number: int) -> bool:
    """Return whether a process has a handler for a signal that it has got and not handled yet.

    If it is within execve(2), it never will: the handler goes, the signal stays.
    """
    fields = ("SigPnd", "ShdPnd", "SigBlk", "SigCgt")
    one, shared, blocked, caught = _bits(procfs.status_fields(process, fields), number)
    return bool(caught and (one or shared) and not blocked)
