"""What a process inherits from its parent and cannot be sent along.

Runs in the caller of a launch and in its server: a child of the server is as a child of the caller
only if both find the same.
"""

from __future__ import annotations

import errno
import os

from pyspaces.kernel import constants, libc, mountapi
from pyspaces.kernel.libc import KernelError

# Of /proc/PID/status, a row and those behind it, up to another if one is named: ids, groups,
# capabilities, filters, mitigations, processors and nodes. They belong to a thread, not to a
# process.
_OF_STATUS = (
    ("Uid", "FDSize"),
    ("Groups", "NStgid"),
    ("THP_enabled", ""),
    ("CapInh", "voluntary_ctxt_switches"),
)
# Of time namespaces, a process can have another than its children, which does not matter then.
_NAMESPACES = (
    *("cgroup", "ipc", "mnt", "net", "user", "uts", "pid"),
    *("pid_for_children", "time_for_children"),
)
# Of proc_pid_stat(5), behind the name: policy and real-time priority.
_POLICY, _PRIORITY = 38, 37
# The kernel makes each of these files as a whole: a read that is not full was the last.
_FULL = 1 << 14
_SESSION_KEYRING = -3  # linux/keyctl.h: KEY_SPEC_SESSION_KEYRING
_GET_KEYRING_ID = 0


def status_text() -> str:
    """Return /proc/thread-self/status: facts, and what can be sent. Raises OSError."""
    text = _read(None, "/proc/thread-self/status")
    if "\nUmask:" not in text:  # Linux before 4.7
        raise OSError(errno.ENOTSUP, os.strerror(errno.ENOTSUP))
    return text


def row_of(status: str, name: str) -> str:
    """Return one row of a status."""
    return _rows(status, name, "").partition("\t")[2]


def _rows(status: str, first: str, behind: str) -> str:
    """Return the rows from one up to another; none, or one, if this kernel does not have them."""
    start = status.find(f"\n{first}:") + 1
    end = status.find(f"\n{behind}", start) if behind else -1
    return status[start : status.find("\n", start) if end < 0 else end] if start else ""


def facts(status: str) -> dict[str, str | None]:
    """Return what this thread passes on to its children, by name. Raises OSError.

    status: as `status_text` returns it. By few system calls, since each launch asks. It is an
    error, too, if they are in another pid namespace: so would a server be, and count its children
    there.
    """
    found: dict[str, str | None] = {row[0]: _rows(status, *row) for row in _OF_STATUS}
    directory = os.open("/proc/thread-self", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for name in ("limits", "cgroup"):
            found[name] = _read(directory, name)
        found["oom_score_adj"] = _read_or_none(directory, "oom_score_adj")
        found["label"] = _label(directory)
        found["namespaces"] = _namespaces(directory)
        found["scheduling"] = f"{os.getpriority(os.PRIO_PROCESS, 0)} {_policy(directory)}"
    finally:
        os.close(directory)
    found["group"] = f"{os.getpgrp()} {os.getsid(0)}"
    found["root"] = mountapi.root_place()
    found["personality"], found["securebits"] = _personality(), str(libc.secure_bits())
    found["keyring"] = _keyring()
    return found


def _read(directory: int | None, name: str) -> str:
    descriptor = os.open(name, os.O_RDONLY | os.O_CLOEXEC, dir_fd=directory)
    try:
        data = os.read(descriptor, _FULL)
        while len(data) % _FULL == 0 and (more := os.read(descriptor, _FULL)):
            data += more
        return os.fsdecode(data)
    finally:
        os.close(descriptor)


def _read_or_none(directory: int, name: str) -> str | None:
    try:
        return _read(directory, name)
    except OSError:  # this kernel has none, or shows none
        return None


class _Labels:
    are_there = True


def _label(directory: int) -> str | None:
    """Return the label of this thread for a security module; None if this kernel has no such."""
    if not _Labels.are_there:
        return None
    try:
        return _read(directory, "attr/current")
    except OSError as error:
        # A module that has labels is there from the start of the kernel, or never.
        _Labels.are_there = error.errno != errno.EINVAL
        return None


def _namespaces(directory: int) -> str:
    """Return which namespaces the children of this thread are in. Raises OSError."""
    found = {}
    for name in _NAMESPACES:
        try:
            found[name] = os.readlink(f"ns/{name}", dir_fd=directory)
        except OSError:  # this kernel has none of the type
            found[name] = ""
    if found["pid"] != found["pid_for_children"]:
        raise OSError(errno.ENOTSUP, os.strerror(errno.ENOTSUP))
    return " ".join(found.values())


def _policy(directory: int) -> str:
    try:
        # Without the flag that the children of this thread do not have.
        policy = os.sched_getscheduler(0) & ~os.SCHED_RESET_ON_FORK
        return f"{policy} {os.sched_getparam(0).sched_priority}"
    except OSError:  # musl has these for the sake of their names only
        words = _read(directory, "stat").rpartition(")")[2].split()
        return f"{words[_POLICY]} {words[_PRIORITY]}"


def _personality() -> str | None:
    try:
        return str(libc.personality())
    except KernelError:  # a filter refuses it
        return None


def _keyring() -> str | None:
    """Return the session keyring of this thread, whose children possess its keys: keyrings(7)."""
    try:
        number = libc.number_of(constants.SYS_keyctl, "keyctl")
        return str(libc.call("keyctl", number, _GET_KEYRING_ID, _SESSION_KEYRING, 0))
    except KernelError:
        return None
