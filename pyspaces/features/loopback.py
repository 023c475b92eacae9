"""The loopback interface of a new network namespace: network_namespaces(7).

Runs in the child. Must not know mounts.
"""

from __future__ import annotations

import fcntl
import os
import struct

from pyspaces.kernel import constants, libc
from pyspaces.kernel.libc import KernelError

# struct ifreq: the interface's name, then a union whose first member here is the short of flags.
_IFREQ = struct.Struct(f"{constants.IFNAMSIZ}sh22x")


def raise_loopback_inner() -> None:
    """Bring `lo` up; the kernel then gives it 127.0.0.1/8 and ::1 by itself: netdevice(7)."""
    descriptor = libc.inet_socket()
    try:
        answer = fcntl.ioctl(descriptor, constants.SIOCGIFFLAGS, _IFREQ.pack(b"lo", 0))
        flags = _IFREQ.unpack(answer)[1] | constants.IFF_UP
        fcntl.ioctl(descriptor, constants.SIOCSIFFLAGS, _IFREQ.pack(b"lo", flags))
    except OSError as error:
        raise KernelError(error.errno or 0, "ioctl", ["SIOCSIFFLAGS"], "lo") from None
    finally:
        os.close(descriptor)
