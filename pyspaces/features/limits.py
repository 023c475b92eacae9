"""Limits of the command: resource limits, umask, scheduling, and its OOM score.

Pure, but for the steps and what ends in _inner, which run in the child.
"""

from __future__ import annotations

import errno
import os

from pyspaces.errors import RLIMITS, SCHEDULING
from pyspaces.feature import LIMITS, Feature, Part, Step, is_number, many, value
from pyspaces.kernel import constants, libc, procfs, rlimits
from pyspaces.kernel.libc import KernelError, Naming
from pyspaces.record import Record
from pyspaces.sizes import size_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import ClassVar

    from pyspaces.feature import Given
    from pyspaces.launch.inner.steps import Context
    from pyspaces.plan import Plan

# include/uapi/asm-generic/resource.h, by number; the names of prlimit(1).
NAMES = (
    *("cpu", "fsize", "data", "stack", "core", "rss", "nproc", "nofile", "memlock", "as", "locks"),
    *("sigpending", "msgqueue", "nice", "rtprio", "rttime"),
)
UNLIMITED = -1
_LARGEST = (1 << 63) - 1  # RLIM_INFINITY is above it
_MOST_CPUS = 8192  # NR_CPUS of the kernel, at most
_CLASSES = ("none", "realtime", "best-effort", "idle")  # include/uapi/linux/ioprio.h, by number
_WITH_LEVEL = ("realtime", "best-effort")
_DEFAULT_LEVEL, _LAST_LEVEL = 4, 7
_CLASS_SHIFT, _WHO_PROCESS = 13, 1
_OOM = "/proc/self/oom_score_adj"


class Rlimit(Record):
    """One resource limit; -1 means unlimited, None that of the launcher."""

    name: str
    soft: int | None = None
    hard: int | None = None

    def __str__(self) -> str:
        return f"{self.name}={_shown(self.soft)}:{_shown(self.hard)}"

    def fault(self) -> str | None:
        """Return what is wrong with the limit, or None."""
        if self.name not in NAMES:
            return f"{self.name!r} is not a limit: choose from {', '.join(NAMES)}"
        for number in (self.soft, self.hard):
            if number is not None and not UNLIMITED <= number <= _LARGEST:
                return f"{self.name}: {number} is out of range"
        if None not in (self.soft, self.hard) and _rank(self.soft) > _rank(self.hard):
            return f"{self}: the soft limit is above the hard one"
        return None


def _rank(number: int | None) -> float:
    return float("inf") if number == UNLIMITED else number or 0


def _shown(number: int | None) -> str:
    return {None: "same", UNLIMITED: "unlimited"}.get(number, str(number))


class Limits(Part):
    """How much the command gets.

    rlimits: its resource limits. umask: the bits that new files do not get. nice: its nice value.
    oom_score_adj: its weight when memory runs out, -1000 to 1000. cpus: the CPUs that it may use.
    ionice: its class of I/O priority, with a level. None or an empty tuple changes nothing.
    """

    is_served = True
    needs_fork = True

    rlimits: tuple[Rlimit, ...] = ()
    umask: int | None = None
    nice: int | None = None
    oom_score_adj: int | None = None
    cpus: tuple[int, ...] = ()
    ionice: str | None = None

    _nested: ClassVar = {"rlimits": Rlimit}

    def limit(self, name: str) -> Rlimit | None:
        """Return the resource limit of this name, if there is one."""
        return next((one for one in self.rlimits if one.name == name), None)

    def faults(self, plan: Plan) -> Iterator[str]:
        del plan
        names = [one.name for one in self.rlimits]
        for one in self.rlimits:
            if fault := one.fault():
                yield f"rlimit: {fault}"
        for name in sorted({name for name in names if names.count(name) > 1}):
            yield f"rlimit: {name}: is given twice"
        for field, first, last in (
            *(("umask", 0, 0o777), ("nice", -20, 19)),
            ("oom_score_adj", -1000, 1000),
        ):
            number = getattr(self, field)
            if number is not None and not first <= number <= last:
                yield f"{field.replace('_', '-')}: {number}: is not between {first} and {last}"
        if any(not 0 <= cpu < _MOST_CPUS for cpu in self.cpus):
            yield f"cpu-list: a CPU is a number below {_MOST_CPUS}"
        if self.ionice is not None:
            try:
                priority_of(self.ionice)
            except ValueError as error:
                yield f"ionice: {error}"


def rlimit_of(text: str) -> Rlimit:
    """Read NAME=SOFT[:HARD]; one value is both. Raises ValueError saying what is wrong."""
    name, equals, rest = text.partition("=")
    soft, colon, hard = rest.partition(":")
    if not equals or not soft or (colon and not hard):
        raise ValueError(f"{text[:60]!r} is not NAME=SOFT[:HARD], such as nofile=64:128")
    first = _number_of(soft)
    limit = Rlimit(name=name.lower(), soft=first, hard=_number_of(hard) if colon else first)
    if fault := limit.fault():
        raise ValueError(fault)
    return limit


def _number_of(text: str) -> int | None:
    if text in ("same", "unlimited"):
        return None if text == "same" else UNLIMITED
    try:
        return size_of(text)
    except ValueError:
        raise ValueError(
            f"{text[:40]!r} is not a limit: a number below 2^63, one with K, M, G or T, unlimited,"
            " or same"
        ) from None


def umask_of(text: str) -> int:
    """Read an octal mode. Raises ValueError."""
    if not text or len(text) > 4 or text.strip("01234567"):
        raise ValueError(f"{text[:40]!r} is not an octal mode such as 022")
    return int(text, 8)


def _integer_of(text: str) -> int:
    digits = text.removeprefix("-")
    if not is_number(digits, 6):
        raise ValueError(f"{text[:40]!r} is not a whole number")
    return int(text)


def cpus_of(text: str) -> tuple[int, ...]:
    """Read a list of CPUs such as 0,2-5, as taskset(1) takes it. Raises ValueError."""
    found: set[int] = set()
    for word in text.split(","):
        first, dash, last = word.partition("-")
        ends = (first, last if dash else first)
        if not all(is_number(end, 5) for end in ends):
            raise ValueError(f"{text[:40]!r} is not a list of CPUs such as 0,2-5")
        begin, end = map(int, ends)
        if begin > end or end >= _MOST_CPUS:
            raise ValueError(f"{word}: is not a range of CPUs below {_MOST_CPUS}")
        found.update(range(begin, end + 1))
    return tuple(sorted(found))


def priority_of(text: str) -> int:
    """Return the number of CLASS[:LEVEL] for ioprio_set(2). Raises ValueError."""
    name, colon, level = text.partition(":")
    if name not in _CLASSES:
        raise ValueError(f"{name[:40]!r} is not a class: choose from {', '.join(_CLASSES)}")
    if not colon:
        return _CLASSES.index(name) << _CLASS_SHIFT | (name in _WITH_LEVEL) * _DEFAULT_LEVEL
    if name not in _WITH_LEVEL:
        raise ValueError(f"{name}: has no levels")
    if len(level) != 1 or level not in "01234567":
        raise ValueError(f"{level[:40]!r} is not a level from 0 to {_LAST_LEVEL}")
    return _CLASSES.index(name) << _CLASS_SHIFT | int(level)


def _read(given: Given, plan: Plan) -> Limits:
    del plan
    return Limits(
        rlimits=given.each("rlimit", rlimit_of),
        umask=given.parsed("umask", umask_of),
        nice=given.parsed("nice", _integer_of),
        oom_score_adj=given.parsed("oom_score_adj", _integer_of),
        cpus=given.parsed("cpu_list", cpus_of) or (),
        ionice=given.text("ionice"),
    )


def set_rlimits_inner(limits: Limits) -> None:
    """Set the resource limits of this process. Raises KernelError that names the limit."""
    for one in limits.rlimits:
        with Naming(f"prlimit {one}"):
            rlimits.prlimit(NAMES.index(one.name), one.soft, one.hard)


def _set_umask_inner(context: Context) -> None:
    os.umask(context.plan.limits.umask or 0)


def _schedule_inner(context: Context) -> None:
    limits = context.plan.limits
    if limits.nice is not None:
        with Naming(f"setpriority {limits.nice}"):
            os.setpriority(os.PRIO_PROCESS, 0, limits.nice)
    if limits.cpus:
        _use_cpus_inner(limits.cpus)
    if limits.ionice is not None:
        number = libc.number_of(constants.SYS_ioprio_set, "ioprio_set")
        libc.call("ioprio_set", number, _WHO_PROCESS, 0, priority_of(limits.ionice))


def _use_cpus_inner(cpus: tuple[int, ...]) -> None:
    """Use only these CPUs. sched_setaffinity(2) ignores missing ones, so that is checked here."""
    with Naming(f"sched_setaffinity {_ranges(cpus)}"):
        os.sched_setaffinity(0, cpus)
    if lacking := sorted(set(cpus) - os.sched_getaffinity(0)):
        raise KernelError(errno.EINVAL, f"sched_setaffinity {_ranges(tuple(lacking))}")


def _ranges(cpus: tuple[int, ...]) -> str:
    return ",".join(map(str, cpus))


def _scheduling(plan: Plan) -> str:
    limits = plan.limits
    rows = [f"nice {limits.nice}"] if limits.nice is not None else []
    rows += [f"CPUs {_ranges(limits.cpus)}"] if limits.cpus else []
    return ", ".join([*rows, *([f"I/O {limits.ionice}"] if limits.ionice else [])])


SET_OOM_SCORE = Step(
    title="set the OOM score adjustment",
    applies=lambda plan: plan.limits.oom_score_adj is not None,
    act=lambda context: procfs.write_once(_OOM, str(context.plan.limits.oom_score_adj)),
    detail=lambda plan: str(plan.limits.oom_score_adj),
)
SCHEDULE = Step(
    title=SCHEDULING,
    applies=_scheduling,
    act=_schedule_inner,
    detail=_scheduling,
    for_command=True,
)
SET_UMASK = Step(
    title="set the umask",
    applies=lambda plan: plan.limits.umask is not None,
    act=_set_umask_inner,
    detail=lambda plan: f"{plan.limits.umask:04o}",
    for_command=True,
)
SET_RLIMITS = Step(
    title=RLIMITS,
    applies=lambda plan: plan.limits.rlimits,
    act=lambda context: set_rlimits_inner(context.plan.limits),
    detail=lambda plan: ", ".join(map(str, plan.limits.rlimits)),
    for_command=True,
    at_exec=True,
)

FEATURE = Feature(
    name="limits",
    part=Limits,
    settings=(
        many(
            *("rlimit", LIMITS, "NAME=SOFT[:HARD]"),
            "set a resource limit of prlimit(1), such as nofile=64:128 or as=1G; repeatable",
            words=tuple(f"{name}=" for name in NAMES),
        ),
        value("umask", LIMITS, "MODE", "set the umask, such as 022"),
        value("nice", LIMITS, "N", "set the nice value, from -20 to 19"),
        value(
            *("oom_score_adj", LIMITS, "N"),
            "how readily the command is killed when memory runs out, from -1000 to 1000",
        ),
        value("cpu_list", LIMITS, "LIST", "run only on these CPUs, such as 0,2-3"),
        value(
            *("ionice", LIMITS, "CLASS[:LEVEL]"),
            "set the I/O priority, such as idle or best-effort:7",
            words=_CLASSES,
        ),
    ),
    read=_read,
    options={"rlimits": "rlimit", "cpus": "cpu-list"},
    quiet=Limits._fields,
    no_equivalent={
        "rlimits": "unshare(1) sets none; prlimit(1) does",
        "umask": "unshare(1) sets none; a shell does",
        "nice": "unshare(1) sets none; nice(1) does",
        "oom_score_adj": "unshare(1) sets none; choom(1) does",
        "cpus": "unshare(1) sets none; taskset(1) does",
        "ionice": "unshare(1) sets none; ionice(1) does",
    },
)
