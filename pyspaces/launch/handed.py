"""What a program hands to its command besides the plan: streams, descriptors, a few attributes.

Plain data, made in the parent; `take_inner` runs in the child, right before exec.
"""

from __future__ import annotations

import errno
import fcntl
import os

from pyspaces.kernel import libc
from pyspaces.kernel.libc import KernelError
from pyspaces.record import Record

_FIRST = 3  # the first descriptor that is not a standard stream
_LAST = (1 << 32) - 1
# close_range(2): a system call since Linux 5.9, the flag since 5.11.
_SYS_CLOSE_RANGE, _CLOSE_RANGE_CLOEXEC = 436, 4


class Handed(Record):
    """What a command gets from the program that starts it, as `subprocess` offers it.

    streams: the descriptors for standard input, output and error; -1 for the caller's. kept: the
    other descriptors that stay open; None for every one that is inheritable. executable: the
    program to execute, if it is not the first word of the command. umask: the file mode creation
    mask; None for the caller's. process_group: the process group to join, 0 for a new one; None
    for the caller's.
    """

    streams: tuple[int, int, int] = (-1, -1, -1)
    kept: tuple[int, ...] | None = None
    executable: str | None = None
    umask: int | None = None
    process_group: int | None = None

    def take_inner(self) -> None:
        """Give all of it to this process. Raises OSError."""
        if self.umask is not None:
            os.umask(self.umask)
        if self.process_group is not None:
            with libc.Naming("setpgid"):
                os.setpgid(0, self.process_group)
        with libc.Naming("dup2"):
            self._take_streams_inner()
        if self.kept is not None:
            _close_on_exec_inner()
            for descriptor in self.kept:
                with libc.Naming("pass_fds"):
                    os.set_inheritable(descriptor, True)

    def _take_streams_inner(self) -> None:
        # Those below 3 are moved first: each could be in the place of another.
        moved = [
            fcntl.fcntl(source, fcntl.F_DUPFD_CLOEXEC, _FIRST) if 0 <= source < _FIRST else source
            for source in self.streams
        ]
        for target, source in enumerate(moved):
            if source >= 0:
                os.dup2(source, target)


def _close_on_exec_inner() -> None:
    """Mark every descriptor but the standard streams close-on-exec."""
    try:
        libc.call("close_range", _SYS_CLOSE_RANGE, _FIRST, _LAST, _CLOSE_RANGE_CLOEXEC)
    except KernelError as error:
        if error.errno not in (errno.ENOSYS, errno.EINVAL, errno.EPERM):
            raise
        for descriptor in range(_FIRST, os.sysconf("SC_OPEN_MAX")):
            try:
                os.set_inheritable(descriptor, False)
            except OSError:  # not open
                continue
