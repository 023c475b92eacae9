"""What a process inherits from its parent and cannot be sent along.

Runs in the caller of a launch and in its server: a child of the server is as a child of the caller
only if both find the same.
"""

from __future__ import annotations

import errno
import os

from pyspaces.kernel import constants, libc, mountapi
from pyspaces.kernel.libc import KernelError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

# Of /proc/PID/status: credentials, filters and processors belong to a thread, not to a process.
_OF_STATUS = (
    *("Uid", "Gid", "Groups", "CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs"),
    *("Seccomp", "Seccomp_filters", "Cpus_allowed", "Mems_allowed", "THP_enabled"),
)
_NAMESPACES = (
    *("cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts"),
    *("pid_for_children", "time_for_children"),
)
# Of proc_pid_stat(5), behind the name: group, session, niceness, real-time priority and policy.
_OF_STAT = (2, 3, 16, 37, 38)
# The kernel makes each of these files as a whole: a read that is not full was the last.
_FULL = 1 << 14
_SESSION_KEYRING = -3  # linux/keyctl.h: KEY_SPEC_SESSION_KEYRING
_GET_KEYRING_ID = 0


def status_rows() -> dict[str, str]:
    """Return the rows of /proc/thread-self/status: facts, and what can be sent. Raises OSError."""
    text = _read(None, "/proc/thread-self/status")
    rows = dict([line.partition(":")[::2] for line in text.split("\n")])
    if "Umask" not in rows:  # Linux before 4.7
        raise OSError(errno.ENOTSUP, os.strerror(errno.ENOTSUP))
    return rows


def facts(rows: Mapping[str, str]) -> dict[str, str | None]:
    """Return what this thread passes on to its children, by name. Raises OSError.

    rows: its status. By few system calls, since each launch asks.
    """
    found = {name: rows.get(name) for name in _OF_STATUS}
    directory = os.open("/proc/thread-self", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        stat = _read(directory, "stat").rpartition(")")[2].split()
        for name in ("limits", "cgroup"):
            found[name] = _read(directory, name)
        for name in ("oom_score_adj", "personality", "attr/current"):
            found[name] = _read_or_none(directory, name)
        found["namespaces"] = " ".join([_namespace(directory, name) for name in _NAMESPACES])
    finally:
        os.close(directory)
    found["stat"] = " ".join([stat[place] for place in _OF_STAT])
    found["root"] = _root()
    found["securebits"] = str(libc.secure_bits())
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


def _namespace(directory: int, name: str) -> str:
    try:
        return os.readlink(f"ns/{name}", dir_fd=directory)
    except OSError:  # this kernel has none of the type
        return ""


def _root() -> str:
    """Return which root this is: a directory of the same file system may be at several mounts."""
    descriptor = os.open("/", os.O_PATH | os.O_CLOEXEC)
    try:
        status = os.fstat(descriptor)
        return f"{status.st_dev} {status.st_ino} {mountapi.mount_number(descriptor)}"
    finally:
        os.close(descriptor)


def _keyring() -> str | None:
    """Return the session keyring of this thread, whose children possess its keys: keyrings(7)."""
    try:
        number = libc.number_of(constants.SYS_keyctl, "keyctl")
        return str(libc.call("keyctl", number, _GET_KEYRING_ID, _SESSION_KEYRING, 0))
    except KernelError:
        return None
