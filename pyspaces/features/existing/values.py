"""What a launch has to do with what is there: joined namespaces, files that keep some.

Pure: these are the values, as plans hold them; runs in any process. `joining.py` and `keeping.py`
act on them.
"""

from __future__ import annotations

from pyspaces.kernel import namespaces
from pyspaces.kernel.libc import c_string_fault
from pyspaces.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import ClassVar

# What stands in a plan in place of a command where there is none: a label.
HOLDING = ("hold",)


class Join(Record):
    """One namespace to join: that of process `pid`, or the one behind `path`."""

    namespace: str
    pid: int = 0
    path: str = ""

    def __str__(self) -> str:
        return f"{self.namespace}={self.path or self.pid}"


class Joining(Record):
    """Which existing namespaces a command starts in.

    joins: the namespaces. target: the process to which the next four belong; 0 for none. start: its
    start time, where it is known: another process of its pid is refused. root: whether to move
    to its root and working directory. cgroup: whether to go into its cgroups. environment: whether
    to start from its environment. keep_ids: whether to stay who one is, instead of becoming root
    of the user namespace that is joined.
    """

    joins: tuple[Join, ...] = ()
    target: int = 0
    start: int = 0
    root: bool = False
    cgroup: bool = False
    environment: bool = False
    keep_ids: bool = False

    _nested: ClassVar = {"joins": Join}

    def names(self) -> tuple[str, ...]:
        """Return the names of the namespaces to join, in the order of the table."""
        wanted = {join.namespace for join in self.joins}
        return tuple(name for name in namespaces.NAMES if name in wanted)

    def __bool__(self) -> bool:
        return bool(self.joins or self.root or self.cgroup or self.environment)

    def faults(self) -> Iterator[str]:
        """Yield what is wrong, a line each."""
        seen = set()
        for name in ("root", "cgroup", "environment"):
            if getattr(self, name) and self.target <= 0:
                yield f"joining: {name}: is that of a process, and none is named"
        theirs = any(one.namespace == "mount" and one.pid == self.target for one in self.joins)
        if self.environment and self.target > 0 and not theirs:
            # Its LD_PRELOAD, say, names a file that a program of the host would find elsewhere.
            yield (
                "env-of-target: requires the target's mount namespace: programs of this one are not"
                " the ones that its environment was made for"
            )
        for join in self.joins:
            if join.namespace not in namespaces.NAMES:
                yield f"join: {join}: is not a namespace: choose from {', '.join(namespaces.NAMES)}"
            elif join.namespace in seen:
                yield f"join: {join}: a process is in one {join.namespace} namespace"
            if join.pid <= 0 and not join.path:
                yield f"join: {join}: names neither a file nor a process"
            elif fault := c_string_fault(join.path):
                yield f"join: {join.namespace}: {join.path!r}: {fault}"
            seen.add(join.namespace)


class Keep(Record):
    """A new namespace that is to stay, and the file that keeps it."""

    namespace: str
    path: str

    def __str__(self) -> str:
        return f"{self.namespace}={self.path}"


def parse_join(text: str) -> Join:
    """Read NS=PATH or NS=PID. Raises ValueError."""
    name, sign, place = text.partition("=")
    if not sign or not place:
        raise ValueError(f"{text!r} is not of the form NS=PATH or NS=PID")
    if place.isascii() and place.isdecimal() and len(place) < 10:
        return Join(namespace=name, pid=int(place))
    return Join(namespace=name, path=place)


def parse_keep(text: str) -> Keep:
    """Read NS=FILE. Raises ValueError."""
    name, sign, path = text.partition("=")
    if not sign or not path:
        raise ValueError(f"{text!r} is not of the form NS=FILE")
    return Keep(namespace=name, path=path)


def keep_faults(keeps: Sequence[Keep], made: Sequence[str]) -> Iterator[str]:
    """Yield what is wrong, a line each. made: the namespaces that are new."""
    seen: set[str] = set()
    doubles: set[str] = set()
    for keep in keeps:
        (doubles if keep.path in seen else seen).add(keep.path)
    for keep in keeps:
        if keep.namespace not in namespaces.NAMES:
            yield f"keep: {keep}: is not a namespace: choose from {', '.join(namespaces.NAMES)}"
        elif keep.namespace not in made:
            yield f"keep: {keep}: the {keep.namespace} namespace is not new"
        if fault := c_string_fault(keep.path):
            yield f"keep: {keep.namespace}: {keep.path!r}: {fault}"
        if keep.path in doubles:
            yield f"keep: {keep}: a file keeps one namespace"
