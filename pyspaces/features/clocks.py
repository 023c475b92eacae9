"""The clocks of a new time namespace: time_namespaces(7).

Pure, but for what ends in _inner, which runs in the child.
"""

from __future__ import annotations

import os

from pyspaces.feature import SETUP, Feature, Missing, Part, Probe, Step, value
from pyspaces.kernel import constants, libc, procfs
from pyspaces.kernel.libc import Naming
from pyspaces.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import ClassVar

    from pyspaces.feature import Given
    from pyspaces.launch.inner.steps import Context
    from pyspaces.plan import Plan
    from pyspaces.plan.equivalent import Caller

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_LARGEST = 10**12  # seconds; the kernel refuses less than that
_NANOSECONDS = 1_000_000_000
_OFFSETS = "/proc/self/timens_offsets"


class Offset(Record):
    """How far a clock is ahead inside: whole seconds, and 0 to 999,999,999 nanoseconds on top."""

    seconds: int
    nanoseconds: int = 0

    def __str__(self) -> str:
        total = self.seconds * _NANOSECONDS + self.nanoseconds
        whole, part = divmod(abs(total), _NANOSECONDS)
        fraction = f".{part:09d}".rstrip("0") if part else ""
        return f"{'-' if total < 0 else ''}{whole}{fraction}"


class Clocks(Part):
    """How far the clocks of the new time namespace are ahead; None leaves one as it is."""

    boottime: Offset | None = None
    monotonic: Offset | None = None

    _nested: ClassVar = {"boottime": Offset, "monotonic": Offset}


def _read(given: Given, plan: Plan) -> Clocks:
    del plan
    return Clocks(**{name: given.parsed(name, parse) for name in Clocks._fields})


def parse(text: str) -> Offset:
    """Read a duration with a sign, such as 864000, -1.5, +.25 or 10d. Raises ValueError.

    Decimal by hand: a float would lose nanoseconds.
    """
    sign = -1 if text.startswith("-") else 1
    unit = text[-1:] if text[-1:] in _UNITS else ""
    whole, _, fraction = text.lstrip("+-").removesuffix(unit).partition(".")
    digits = whole + fraction
    if len(text) - len(text.lstrip("+-")) > 1 or not (digits.isascii() and digits.isdecimal()):
        raise ValueError(f"{text[:40]!r} is not a number of seconds, or one with s, m, h or d")
    seconds = int(whole.lstrip("0")[:13] or "0") * (_UNITS[unit] if unit else 1)
    if len(fraction) > 9 or seconds >= _LARGEST:
        raise ValueError(f"{text[:40]}: a clock counts whole nanoseconds, up to 292 years")
    part = int(fraction.ljust(9, "0")) * (_UNITS[unit] if unit else 1)
    total = sign * (seconds * _NANOSECONDS + part)
    return Offset(seconds=total // _NANOSECONDS, nanoseconds=total % _NANOSECONDS)


def open_offsets_inner() -> int:
    """Open the file by which this process sets the offsets of its children's clocks."""
    with Naming("open", _OFFSETS):
        return os.open(_OFFSETS, os.O_WRONLY | os.O_CLOEXEC)


def enter_inner(
    *, boottime: Offset | None, monotonic: Offset | None, own: int = -1, offsets: int = -1
) -> None:
    """Move this process into a new time namespace with these offsets. Raises KernelError.

    own: a descriptor of /proc/self, and offsets: one from `open_offsets_inner`, if these can no
    longer be opened by path.

    unshare(CLONE_NEWTIME) makes the namespace for children only; offsets can be written until
    somebody is inside. Whether exec moves the caller in depends on the kernel, so setns(2) does it
    here, at once and on every kernel that has the namespace (seen on 6.18 as root and as an
    ordinary user: /proc/uptime and CLOCK_BOOTTIME have moved before exec).
    """
    libc.unshare(constants.CLONE_NEWTIME)
    rows = [("boottime", boottime), ("monotonic", monotonic)]
    lines = [f"{clock} {row.seconds} {row.nanoseconds}\n" for clock, row in rows if row]
    if lines:
        _write_offsets_inner("".join(lines), offsets)
    path = "ns/time_for_children" if own >= 0 else "/proc/self/ns/time_for_children"
    with Naming("open", path):
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC, dir_fd=own if own >= 0 else None)
    try:
        libc.setns(descriptor, constants.CLONE_NEWTIME, path=path)
    finally:
        os.close(descriptor)


def _write_offsets_inner(lines: str, offsets: int) -> None:
    """Write all lines with one write(2), as the kernel requires."""
    if offsets < 0:
        procfs.write_once(_OFFSETS, lines)
        return
    with Naming("write", _OFFSETS):
        os.write(offsets, lines.encode())


def _enter_by_plan_inner(context: Context) -> None:
    if context.plan.makes_clocks_by_joining():
        return  # the process that joined has done it: see Visit.new_clocks
    clocks = context.plan.clocks
    enter_inner(boottime=clocks.boottime, monotonic=clocks.monotonic)


def _text(plan: Plan) -> str:
    rows = (("boottime", plan.clocks.boottime), ("monotonic", plan.clocks.monotonic))
    return ", ".join(f"{name} {offset}" for name, offset in rows if offset)


def _equivalent(plan: Plan, caller: Caller) -> Iterator[str]:
    del caller
    for name in Clocks._fields:
        offset: Offset | None = getattr(plan.clocks, name)
        if offset is not None and offset.nanoseconds:
            yield Missing(f"{name}: unshare(1) takes whole seconds")
        elif offset is not None:
            yield f"--{name}={offset}"


ENTER = Step(
    title="enter a new time namespace",
    applies=lambda plan: plan.has("time"),
    act=_enter_by_plan_inner,
    detail=_text,
)

_TIME = ("time",)
FEATURE = Feature(
    name="clocks",
    part=Clocks,
    settings=(
        value("boottime", SETUP, "SECONDS", "offset of the boot-time clock", implies=_TIME),
        value("monotonic", SETUP, "SECONDS", "offset of the monotonic clock", implies=_TIME),
    ),
    read=_read,
    needs={"boottime": _TIME, "monotonic": _TIME},
    quiet=Clocks._fields,
    probes=(
        Probe(
            name="time-offsets",
            settings={"time": True, "boottime": "86400"},
            works="the boot clock was set ahead by a day",
        ),
    ),
    equivalent=_equivalent,
    translated=Clocks._fields,
)
