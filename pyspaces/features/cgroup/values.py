"""Limits of all processes of a command together, which its own cgroup has: cgroups(7).

Pure, but for the step, which runs in the child.
"""

from __future__ import annotations

from pyspaces.feature import LIMITS, Feature, Part, Step, is_number, value
from pyspaces.kernel import constants, libc
from pyspaces.record import Record
from pyspaces.sizes import size_of, size_text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from pyspaces.feature import Given
    from pyspaces.launch.inner.steps import Context
    from pyspaces.plan import Plan

UNLIMITED = -1
_LARGEST = (1 << 63) - 1
_MOST_PIDS = 1 << 22  # PID_MAX_LIMIT of include/linux/threads.h
_LEAST_CPUS, _MOST_CPUS = 0.01, 8192
_LAST_WEIGHT = 10000
_BFQ = "io.bfq.weight"
PERIOD = 100_000  # microseconds, the default of cpu.max
# cpu.max takes no less than 1 ms of a period, so that 0.01 is the least; and no sixth digit.
_CPU_DIGITS = 5


class Setting(Record):
    """A file of a cgroup, what is written to it, and the controller that it belongs to.

    option: the one that asks for it; empty if the launch goes on without the file. instead: another
    file, written before, that is enough if this one is missing.
    """

    controller: str
    file: str
    text: str
    option: str = ""
    instead: str = ""


class Resources(Part):
    """The most that all processes of a command get together.

    memory: bytes. swap: bytes that are swapped out, beyond `memory`; -1: any number; None: any
    number without `memory`, and else none. pids: processes and threads. cpus: CPUs, such as 1.5.
    io_weight: its share of I/O, from 1 to 10000, where others have 100. None limits nothing.
    """

    is_served = True
    needs_fork = True

    memory: int | None = None
    swap: int | None = None
    pids: int | None = None
    cpus: float | None = None
    io_weight: int | None = None

    def faults(self, plan: Plan) -> Iterator[str]:
        rows = (
            *(("memory", 1, _LARGEST), ("swap", UNLIMITED, _LARGEST), ("pids", 1, _MOST_PIDS)),
            *(("cpus", _LEAST_CPUS, _MOST_CPUS), ("io_weight", 1, _LAST_WEIGHT)),
        )
        for field, first, last in rows:
            number = getattr(self, field)
            if number is not None and not first <= number <= last:
                yield f"{field.replace('_', '-')}: {number}: is not between {first} and {last}"
        joining = plan.joining()
        if joining and joining.cgroup:
            used = next(f for f in self._fields if getattr(self, f) is not None)
            option = used.replace("_", "-")
            yield f"{option}: cannot be combined with --join-cgroup: the command has its own cgroup"

    def settings(self) -> Iterator[Setting]:
        """Yield what is written to the cgroup."""
        if self.memory is not None:
            yield Setting(
                controller="memory", file="memory.max", text=str(self.memory), option="memory"
            )
            # All or nothing: what is left of a command without one of its processes is of no use.
            yield Setting(controller="memory", file="memory.oom.group", text="1")
            if self.swap is None:
                # Without this, the limit would count only what has not been swapped out. A kernel
                # without swap, or without accounting for it, has no such file.
                yield Setting(controller="memory", file="memory.swap.max", text="0")
        if self.swap is not None:
            text = "max" if self.swap == UNLIMITED else str(self.swap)
            yield Setting(controller="memory", file="memory.swap.max", text=text, option="swap")
        if self.pids is not None:
            yield Setting(controller="pids", file="pids.max", text=str(self.pids), option="pids")
        if self.cpus is not None:
            text = f"{round(self.cpus * PERIOD)} {PERIOD}"
            yield Setting(controller="cpu", file="cpu.max", text=text, option="cpus")
        if self.io_weight is not None:
            # Of the scheduler bfq, and of cost models: a kernel may have one, or both.
            text = str(_weight_of_bfq(self.io_weight))
            yield Setting(controller="io", file=_BFQ, text=text)
            text, option = f"default {self.io_weight}", "io-weight"
            yield Setting(controller="io", file="io.weight", text=text, option=option, instead=_BFQ)

    def __str__(self) -> str:
        sizes = {"memory": self.memory, "swap": self.swap}
        rows = [f"{name} {_limit_text(size)}" for name, size in sizes.items() if size is not None]
        cpus = None if self.cpus is None else f"{self.cpus:g}"
        plain = {"pids": self.pids, "cpus": cpus, "io-weight": self.io_weight}
        rows += [f"{name} {number}" for name, number in plain.items() if number is not None]
        return ", ".join(rows)


def _weight_of_bfq(weight: int) -> int:
    """Return a weight up to 10000 as bfq has it, up to 1000: 100 is the default of both."""
    return weight if weight <= 100 else 100 + (weight - 100) * 900 // (_LAST_WEIGHT - 100)


def _limit_text(size: int) -> str:
    return "unlimited" if size == UNLIMITED else size_text(size)


def _swap_of(text: str) -> int:
    return UNLIMITED if text in ("unlimited", "-1") else size_of(text)


def _count_of(text: str) -> int:
    if not is_number(text, 9):
        raise ValueError(f"{text[:40]!r} is not a whole number")
    return int(text)


def cpus_of(text: str) -> float:
    """Read a number of CPUs, such as 1.5. Raises ValueError."""
    whole, dot, rest = text.partition(".")
    if not is_number(whole or rest[:1], 5) or (dot and not is_number(rest, _CPU_DIGITS)):
        raise ValueError(f"{text[:40]!r} is not a number of CPUs such as 1.5")
    return float(text)


def _read(given: Given, plan: Plan) -> Resources:
    del plan
    return Resources(
        memory=given.parsed("memory", size_of),
        swap=given.parsed("swap", _swap_of),
        pids=given.parsed("pids", _count_of),
        cpus=given.parsed("cpus", cpus_of),
        io_weight=given.parsed("io_weight", _count_of),
    )


def _unshare_inner(context: Context) -> None:
    del context
    libc.unshare(constants.CLONE_NEWCGROUP)


# A cgroup namespace that is created by clone3(2) has the cgroup of its creator as its root, even
# with CLONE_INTO_CGROUP (copy_cgroup_ns() in kernel/cgroup/namespace.c). So the child creates it.
CREATE_NAMESPACE = Step(
    title="create the cgroup namespace",
    applies=lambda plan: plan.holds("resources") and plan.has("cgroup"),
    act=_unshare_inner,
    detail=lambda plan: "its root is the cgroup of the command",
)

FEATURE = Feature(
    name="resources",
    part=Resources,
    settings=(
        value(
            *("memory", LIMITS, "SIZE"),
            "the most memory of the command, such as 512M; it is killed if it takes more",
            everyday=True,
        ),
        value(
            *("swap", LIMITS, "SIZE"),
            "how much of its memory may be swapped out, beyond --memory; none by default",
        ),
        value("pids", LIMITS, "N", "the most processes and threads of the command at a time"),
        value(
            "cpus",
            LIMITS,
            "N.N",
            "the most CPUs that the command uses, such as 1.5",
            everyday=True,
        ),
        value("io_weight", LIMITS, "N", "its share of I/O, from 1 to 10000; others have 100"),
    ),
    read=_read,
    quiet=("memory", "swap", "pids", "cpus", "io_weight"),
    no_equivalent={
        name: f"unshare(1) sets no limits: --{name.replace('_', '-')}"
        for name in ("memory", "swap", "pids", "cpus", "io_weight")
    },
)
