"""The summary of --report: how a command ended, for people.

Runs in the parent. Loaded only if it was asked for.
"""

from __future__ import annotations

from pyspaces.launch.service import Service
from pyspaces.visible import visible

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from pyspaces.plan import Plan
    from pyspaces.status import Ended

_MARGIN = 1 << 20  # what the process touches between our last look and exec
_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")


class Report(Service):
    """The summary for people."""

    tells = True
    task = "report"

    def ended(self, ended: Ended) -> None:
        """Print the summary."""
        self.launch.tell(report(self.launch.plan, ended, self.launch.told_to_people))


def report(plan: Plan, ended: Ended, more: Iterable[tuple[str, str]] = ()) -> str:
    """Return the summary: what ran, how it ended, time and memory, a line each.

    more: what the services have to add, as names and values.
    """
    rows = [
        ("command", " ".join(plan.command)),
        ("process", str(ended.pid)),
        ("namespaces", " ".join(plan.namespaces) or "none"),
        ("result", str(ended.status) + _why(ended)),
    ]
    if usage := ended.usage:
        # The kernel counts what the process had before exec, which was not the command's.
        at_most = "at most " if usage.peak_memory <= usage.peak_floor + _MARGIN else ""
        rows += [
            ("wall time", f"{usage.wall:.3f} s"),
            ("CPU time", f"{usage.user:.3f} s user, {usage.system:.3f} s system"),
            ("peak memory", at_most + _size(usage.peak_memory)),
        ]
    rows += more
    return "\n".join(["report", *(f"  {name:<12} {visible(value)}" for name, value in rows)])


def _why(ended: Ended) -> str:
    if ended.lost:
        return f", killed when {ended.lost} had died"
    if ended.killed:
        return ", killed when its time was over"
    return ", when its time was over" if ended.timed_out else ""


def _size(count: float) -> str:
    for unit in _UNITS:
        if count < 1024 or unit == _UNITS[-1]:
            return f"{count:.1f} {unit}" if unit != "B" else f"{count:.0f} B"
        count /= 1024
    raise AssertionError
