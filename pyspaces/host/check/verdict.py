"""Whether an ordinary launch works here, and what does not work: causes before effects.

Runs in the parent. Must not know how findings are shown.
"""

from __future__ import annotations

from pyspaces.hints.creation import APPARMOR, DEBIAN
from pyspaces.host.check import cures
from pyspaces.host.check.trial import DEGRADED, NO, YES, Row, attempt, finding, of_trial
from pyspaces.kernel.libc import KernelError
from pyspaces.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

ORDINARY = "pyspaces run --all"
# What works where that does not, as people write it.
_LESSER: tuple[tuple[str, Mapping[str, object]], ...] = (
    (f"{ORDINARY} --no-mount-proc", {"all": True, "mount_proc": False}),
    (f"{ORDINARY} --share user", {"all": True, "share": ("user",)}),
    ("pyspaces run --user", {"user": True}),
)
# The rows that are causes, in the order in which they matter; and what the remedy of an effect
# says, which a hint gives only if the state of the host proves it.
_CAUSES: dict[str, tuple[str, ...]] = {
    "unfiltered": ("a seccomp filter refuses",),
    "limits-allow": ("user.max_",),
    "sysctl-allows": (DEBIAN,),
    "apparmor-allows": (APPARMOR,),
    "proc-visible": ("parts of /proc are covered", "/proc is not mounted", "no procfs is mounted"),
    "newuidmap": (),
    "newgidmap": (),
    "libseccomp": (),
    "tun": (),
}
# Either does: one that works makes up for the other. A bridge of the host is for root alone, and
# few hosts have one: commands can be connected with each other without it.
_EITHER = {"pasta": "slirp4netns", "slirp4netns": "pasta", "veth": "shared-network"}


class Trouble(Record):
    """What does not work, and why: the row of the cause, with the remedy for this place.

    row: that of the cause, or of the only effect. prevents: the names of the other rows that do
    not work for the same reason.
    """

    row: Row
    prevents: tuple[str, ...] = ()


def ordinary() -> Row:
    """Try the launch that most people want: all types of namespaces, and a new /proc."""
    row = _tried({"all": True})
    if row.answer == YES:
        return row.replace(evidence=f"an ordinary launch works here: {ORDINARY}")
    row = row.replace(evidence=f"an ordinary launch does not work here: {ORDINARY}: {row.evidence}")
    for words, mapping in _LESSER:
        if _tried(mapping).answer == YES:
            return row.replace(answer=DEGRADED, evidence=f"{row.evidence}; what works is {words}")
    return row


def _tried(mapping: Mapping[str, object]) -> Row:
    try:
        row = of_trial(attempt(mapping))
    except KernelError as error:  # in this process: no descriptors, no /proc
        row = finding(NO, f"{error.call}: {error.strerror}")
    return row.replace(name="ordinary")


def troubles(rows: Sequence[Row], facts: Mapping[str, object]) -> list[Trouble]:
    """Return what does not work among `rows`, causes first, with the remedy for this place."""
    found: dict[str, list[Row]] = {}
    bad = _bad(rows)
    for row in bad:
        found.setdefault(_reason(row, bad), []).append(row)
    order = [name for name in _CAUSES if name in found]
    order += [name for name in found if name not in order]
    return [_trouble(name, found[name], facts) for name in order]


def _bad(rows: Sequence[Row]) -> list[Row]:
    """Return the rows that do not work, without those that nobody misses."""
    answers = {row.name: row.answer for row in rows}

    def missed(row: Row) -> bool:
        kind, _, name = row.name.partition("-")
        other = f"namespace-user-{name}" if kind == "namespace" else _EITHER.get(row.name)
        return row.answer != YES and answers.get(other or "") != YES

    return sorted(filter(missed, rows), key=lambda row: row.answer != NO)


def _reason(row: Row, bad: Sequence[Row]) -> str:
    """Return the name of the row that is the cause, else what rows of one cause have in common."""
    causes = {one.name: one for one in bad if one.name in _CAUSES}
    for name, marks in _CAUSES.items():
        if name not in causes or name == row.name:
            continue
        if any(mark in (row.remedy or "") for mark in marks):
            return name
        call = row.evidence.partition(":")[0]
        if name == "unfiltered" and not row.remedy and f" {call} (" in causes[name].evidence:
            return name
    same = [name for name, one in causes.items() if row.remedy and one.remedy == row.remedy]
    return next((name for name in _CAUSES if name in same), row.remedy or row.evidence)


def _trouble(name: str, rows: Sequence[Row], facts: Mapping[str, object]) -> Trouble:
    first = next((row for row in rows if row.name == name), rows[0])
    remedy = cures.here(first, facts) or first.remedy
    others = tuple(row.name for row in rows if row is not first)
    return Trouble(row=first.replace(remedy=remedy), prevents=others)
