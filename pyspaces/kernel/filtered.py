"""Invalid system calls, which show whether the kernel or a seccomp filter answers.

Runs in any process, and changes nothing: the kernel refuses each of them before it checks
privileges. Off the launch path: loaded after a failure, or by a check.
"""

from __future__ import annotations

import errno
import os
import struct

from pyspaces.kernel import constants, libc, mountapi, procfs
from pyspaces.kernel.libc import KernelError

# CLONE_SIGHAND of linux/sched.h: EINVAL without CLONE_VM, clone(2).
_SIGHAND = 0x800
_EXIT_SIGNAL = 0xFF  # the low byte of clone(2)'s flags; CLONE_NEWTIME is one of its bits
_SIZE = 88  # struct clone_args, version 2
_UNKNOWN = 1 << 31  # a flag that none of the calls below knows
# The calls that an older kernel lacks, of those without which a launch cannot do: the release of
# Linux that brought them. clone(2) does what clone3 does.
_SINCE = {"pidfd_open": (5, 3), "openat2": (5, 6), "mount_setattr": (5, 12)}


def answer(name: str, flags: int) -> int | None:
    """Return the errno of an invalid call `name`: one of those here and in `_ask_other`.

    flags: CLONE_NEW* bits of the call. None for other calls.
    """
    try:
        if name == "clone3":
            data = struct.pack("Q", flags | _SIGHAND).ljust(_SIZE, b"\0")
            libc.call(name, constants.SYS_clone3, data, _SIZE)
        elif name == "clone":
            machine = os.uname().machine, struct.calcsize("P")
            if machine in constants.SYS_clone:
                libc.call(name, constants.SYS_clone[machine], flags & ~_EXIT_SIGNAL | _SIGHAND)
        elif name == "unshare":
            libc.unshare(flags | 1)  # a bit that unshare(2) does not know: EINVAL
        elif name == "mount":
            mountapi.mount(None, "", None, 0)  # an empty path: ENOENT
        else:
            _ask_other(name)
    except KernelError as error:
        return error.errno
    return None


def _ask_other(name: str) -> None:
    if name == "setns":
        libc.setns(-1, 0)  # no descriptor: EBADF
    elif name == "pidfd_open":
        libc.call(name, constants.SYS_pidfd_open, os.getpid(), _UNKNOWN)
    elif name == "openat2":
        mountapi.openat2(-1, "", 0, _UNKNOWN)
    elif name == "mount_setattr":
        libc.call(name, constants.SYS_mount_setattr, -1, b"", _UNKNOWN, None, 0)


def own_answer(name: str) -> int:
    """Return the errno with which the kernel itself refuses the invalid call `name`."""
    return {"mount": errno.ENOENT, "setns": errno.EBADF}.get(name, errno.EINVAL)


def refusal(name: str, flags: int = 0) -> int | None:
    """Return the errno with which a seccomp filter refuses `name` with CLONE_NEW* bits `flags`.

    None if it does not, or if there is no filter. The kernel itself refuses the call as invalid:
    any other answer is the filter's.
    """
    if procfs.status_field("self", "Seccomp") != "2":
        return None
    told = answer(name, flags)
    if told in (None, own_answer(name)):
        return None
    return None if told == errno.ENOSYS and _release() < _SINCE.get(name, (0, 0)) else told


def _release() -> tuple[int, int]:
    """Return the first two numbers of the kernel's release, such as 6.1 of 6.1-rc2."""
    first, second = os.uname().release.replace("-", ".").split(".")[:2]
    return int(first), int(second)
