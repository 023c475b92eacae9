"""Existing namespaces and names: what is joined, persisted by files, and registered.

Pure: these are the values, as plans hold them; runs in any process. `joining.py`, `keeping.py` and
`registry.py` act on them.
"""

from __future__ import annotations

from pyspaces.feature import EXISTING, HOLDING, Feature, Part, flag, is_number, many, value
from pyspaces.kernel import namespaces
from pyspaces.kernel.libc import c_string_fault
from pyspaces.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import ClassVar

    from pyspaces.feature import Given
    from pyspaces.plan import Plan


class Join(Record):
    """One namespace to join: of process `pid`, of the registered `name`, or behind `path`.

    A name that is not registered when the launch begins is a path.
    """

    namespace: str
    pid: int = 0
    path: str = ""
    name: str = ""

    def __str__(self) -> str:
        return f"{self.namespace}={self.path or self.name or self.pid}"


class Joining(Record):
    """Which existing namespaces a command starts in.

    joins: the namespaces. target: the process to which the next four refer; 0 for none. start: its
    start time, if known: another process with its pid is refused. root: whether to move to its
    root and working directory. cgroup: whether to join its cgroups. environment: whether to start
    from its environment. keep_ids: whether to keep the IDs instead of becoming root of the user
    namespace that is joined.
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
                yield f"joining: {name}: requires a target process"
        theirs = any(one.namespace == "mount" and one.pid == self.target for one in self.joins)
        if self.environment and self.target > 0 and not theirs:
            # Its LD_PRELOAD, say, names a file that a program of the host would find elsewhere.
            yield (
                "env-of-target: requires the target's mount namespace: its environment refers to"
                " programs and files there"
            )
        for join in self.joins:
            if join.namespace not in namespaces.NAMES:
                yield f"join: {join}: is not a namespace: choose from {', '.join(namespaces.NAMES)}"
            elif join.namespace in seen:
                yield f"join: {join}: a process is in one {join.namespace} namespace"
            if join.pid <= 0 and not (join.path or join.name):
                yield f"join: {join}: names neither a file nor a process"
            elif join.name and (fault := _name_fault(join.name)):
                yield f"join: {join.namespace}: {fault}"
            elif fault := c_string_fault(join.path):
                yield f"join: {join.namespace}: {join.path!r}: {fault}"
            seen.add(join.namespace)


def _name_fault(name: str) -> str | None:
    from pyspaces.features.existing.names import name_fault  # most launches have no name

    return name_fault(name)


class Keep(Record):
    """A new namespace, and the file that persists it."""

    namespace: str
    path: str

    def __str__(self) -> str:
        return f"{self.namespace}={self.path}"


def parse_join(text: str) -> Join:
    """Read NS=PATH, NS=PID or NS=NAME. Raises ValueError."""
    name, sign, place = text.partition("=")
    if not sign or not place:
        raise ValueError(f"{text!r} is not of the form NS=PATH, NS=PID or NS=NAME")
    if is_number(place, 9):
        return Join(namespace=name, pid=int(place))
    if "/" in place or _name_fault(place):
        return Join(namespace=name, path=place)
    return Join(namespace=name, name=place)


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


class Existing(Part):
    """The part of a plan about existing namespaces and names.

    joining: the existing namespaces in which the command starts. keeps: the files that persist new
    namespaces. name: the name under which the command is registered while it runs, or None. hold:
    whether a process that does nothing else holds the namespaces, instead of a command.
    """

    is_served = True
    is_equipped = True

    joining: Joining = Joining()
    keeps: tuple[Keep, ...] = ()
    name: str | None = None
    hold: bool = False

    _nested: ClassVar = {"joining": Joining, "keeps": Keep}

    def faults(self, plan: Plan) -> Iterator[str]:
        yield from self.joining.faults()
        yield from keep_faults(self.keeps, plan.namespaces)
        for name in set(self.joining.names()).intersection(plan.namespaces):
            yield f"join: {name}: a namespace cannot be both new and joined"
        if self.name is not None and (fault := _name_fault(self.name)):
            yield f"name: {fault}"
        if not self.hold:
            return
        if plan.command != HOLDING:
            yield "hold: takes no command; without --hold, the command itself holds"
        if self.name is None:
            yield "hold: needs a name, by which to stop it: add --name"
        if not plan.namespaces:
            yield "hold: no new namespace to keep"


def _read(given: Given, plan: Plan) -> Existing:
    del plan
    return Existing(
        joining=Joining(joins=given.each("join", parse_join)),
        keeps=given.each("keep", parse_keep),
        name=given.text("name"),
        hold=given.flag("hold"),
    )


_WORDS = tuple(f"{name}=" for name in namespaces.NAMES)

FEATURE = Feature(
    name="existing",
    part=Existing,
    settings=(
        many(
            "join",
            EXISTING,
            "NS=PATH|PID|NAME",
            "join this namespace, of a file, a process or a registered name, instead of creating"
            " one; repeatable",
            words=_WORDS,
        ),
        many(
            "keep",
            EXISTING,
            "NS=FILE",
            "create a namespace and persist it by binding it to FILE; repeatable",
            words=_WORDS,
        ),
        value(
            "name",
            EXISTING,
            "NAME",
            "register NAME for `enter`, `list`, `stop`, networks",
            everyday=True,
        ),
        flag(
            "hold",
            EXISTING,
            "run no command; keep the namespaces until `pyspaces stop NAME`",
        ),
    ),
    read=_read,
    options={"joining": "join", "keeps": "keep"},
    quiet=("joining", "keeps", "hold"),
    no_equivalent={
        "joining": "unshare(1) joins none; nsenter(1) does",
        "keeps": "unshare(1) keeps a namespace only by a file that is there already",
        "name": "unshare(1) gives none",
        "hold": "unshare(1) always runs a command",
    },
)
