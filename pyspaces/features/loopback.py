"""The loopback interface of a new network namespace: network_namespaces(7).

Pure, but for what ends in _inner, which runs in the child. Must not know mounts.
"""

from __future__ import annotations

import _struct as struct  # what `struct` hands on, without a file to load
import fcntl
import os

from pyspaces.feature import SETUP, Feature, Missing, Part, Probe, Step, toggle
from pyspaces.kernel import constants, libc
from pyspaces.kernel.libc import Naming

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from pyspaces.feature import Given
    from pyspaces.plan import Plan
    from pyspaces.plan.equivalent import Caller

# struct ifreq: the interface's name, then a union whose first member here is the short of flags.
_IFREQ = struct.Struct(f"{constants.IFNAMSIZ}sh22x")


class Net(Part):
    """The new network namespace. loopback: whether `lo` is brought up."""

    loopback: bool = True


def _read(given: Given, plan: Plan) -> Net:
    if given.has("loopback") and not plan.has("net"):
        given.faults.append("loopback: needs a new net namespace: add --net")
    return Net(loopback=given.values.get("loopback", True))


def _raise_inner() -> None:
    """Bring `lo` up; the kernel then gives it 127.0.0.1/8 and ::1 by itself: netdevice(7)."""
    descriptor = libc.inet_socket()
    try:
        with Naming("ioctl", "lo"):
            answer = fcntl.ioctl(descriptor, constants.SIOCGIFFLAGS, _IFREQ.pack(b"lo", 0))
            flags = _IFREQ.unpack(answer)[1] | constants.IFF_UP
            fcntl.ioctl(descriptor, constants.SIOCSIFFLAGS, _IFREQ.pack(b"lo", flags))
    finally:
        os.close(descriptor)


def _equivalent(plan: Plan, caller: Caller) -> Iterator[str]:
    del caller
    if plan.has("net") and plan.net.loopback:
        yield Missing("loopback: unshare(1) leaves lo down, as --no-loopback does")


RAISE = Step(
    title="bring up the loopback interface",
    applies=lambda plan: plan.has("net") and plan.net.loopback,
    act=lambda context: _raise_inner(),
)

FEATURE = Feature(
    name="net",
    part=Net,
    settings=(
        toggle(
            "loopback",
            SETUP,
            "bring up lo in the new network namespace (default), or leave it down",
        ),
    ),
    read=_read,
    quiet=Net._fields,
    probes=(
        Probe(
            name="loopback",
            settings={"net": True, "loopback": True},
            works="lo of a new network namespace was brought up",
        ),
    ),
    equivalent=_equivalent,
    translated=Net._fields,
)
