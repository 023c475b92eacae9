"""Landlock: landlock(7). It restricts a process for good, without any namespace.

Pure, but for the step, which the child takes.
"""

from __future__ import annotations

from pyspaces.errors import LANDLOCK
from pyspaces.feature import CONFINEMENT, Feature, Part, Step, flag, is_number, many
from pyspaces.kernel.libc import path_fault

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from pyspaces.feature import Given
    from pyspaces.launch.inner.steps import Context
    from pyspaces.plan import Plan

SCOPES = ("abstract", "signal")
_NO_PORT = "none"
_LAST_PORT = 65535


class Landlock(Part):
    """What the command can access. Kinds of access that are not mentioned are not restricted.

    read, write, execute: paths, as they are inside, of files and directories with all beneath them:
    to read; to read and write; to read and execute. With one of them, nothing else can be read,
    written or executed. connect, bind: the TCP ports to which it can connect and bind a socket;
    None for all. scope: what it cannot reach outside of its own domain, of SCOPES. best_effort:
    whether to leave out what the kernel cannot limit.
    """

    is_served = True
    is_equipped = True
    needs_fork = True

    read: tuple[str, ...] = ()
    write: tuple[str, ...] = ()
    execute: tuple[str, ...] = ()
    connect: tuple[int, ...] | None = None
    bind: tuple[int, ...] | None = None
    scope: tuple[str, ...] = ()
    best_effort: bool = False

    def __bool__(self) -> bool:
        return self is not _NOTHING and self.replace(best_effort=False) != _NOTHING

    @property
    def limits_files(self) -> bool:
        """Whether files are limited."""
        return bool(self.read or self.write or self.execute)

    def faults(self, plan: Plan) -> Iterator[str]:
        del plan
        for name, paths in (
            *(("allow-read", self.read), ("allow-write", self.write)),
            ("allow-exec", self.execute),
        ):
            yield from (f"{name}: {fault}" for fault in map(path_fault, paths) if fault)
        for field in ("connect", "bind"):
            for port in getattr(self, field) or ():
                if not 0 <= port <= _LAST_PORT:
                    yield f"allow-{field}: {port}: is not a port from 0 to {_LAST_PORT}"
        for word in self.scope:
            if word not in SCOPES:
                yield f"scope: {word!r}: choose from {', '.join(SCOPES)}"
        if self.best_effort and not self:
            yield "landlock-best-effort: there is nothing to limit: see --allow-read and --scope"


_NOTHING = Landlock()


def _ports(given: Given, name: str) -> tuple[int, ...] | None:
    """Read port numbers, or `none`. Returns None if the setting is not used."""
    if not given.has(name):
        return None
    found = []
    for word in given.words(name):
        if is_number(word, 6):
            found.append(int(word))
        elif word != _NO_PORT:
            option = name.replace("_", "-")
            given.faults.append(f"{option}: {word[:40]!r} is not the number of a port, or none")
    if found and _NO_PORT in given.words(name):
        given.faults.append(f"{name.replace('_', '-')}: none cannot be combined with a port")
    return tuple(sorted(set(found)))


def _read(given: Given, plan: Plan) -> Landlock:
    del plan
    return Landlock(
        read=tuple(given.texts("allow_read")),
        write=tuple(given.texts("allow_write")),
        execute=tuple(given.texts("allow_exec")),
        connect=_ports(given, "allow_connect"),
        bind=_ports(given, "allow_bind"),
        scope=tuple(dict.fromkeys(given.words("scope"))),
        best_effort=given.flag("landlock_best_effort"),
    )


def _restrict_inner(context: Context) -> None:
    assert context.ruleset
    context.ruleset.restrict_inner()


def _text(plan: Plan) -> str:
    part = plan.landlock
    rows = [
        f"{name} {' '.join(paths)}"
        for name, paths in (("read", part.read), ("write", part.write), ("execute", part.execute))
        if paths
    ]
    for name, ports in (("connect to", part.connect), ("bind", part.bind)):
        if ports is not None:
            rows.append(f"{name} port {' '.join(map(str, ports)) or _NO_PORT}")
    rows += [f"keep inside: {' '.join(part.scope)}"] if part.scope else []
    return ", ".join(rows)


RESTRICT = Step(
    title=LANDLOCK,
    applies=lambda plan: plan.landlock,
    act=_restrict_inner,
    detail=_text,
    for_command=True,
    at_exec=True,
)
# Each option has a second name, which says by what it works.
FEATURE = Feature(
    name="landlock",
    part=Landlock,
    settings=(
        many(
            *("allow_read", CONFINEMENT, "PATH", "let only these be read, and all beneath them"),
            short="--landlock-ro",
        ),
        many(
            *("allow_write", CONFINEMENT, "PATH", "let these be read and written, and no others"),
            short="--landlock-rw",
        ),
        many(
            *("allow_exec", CONFINEMENT, "PATH", "let these be read and executed, and no others"),
            short="--landlock-exec",
        ),
        many(
            *("allow_connect", CONFINEMENT, "PORT,..."),
            "allow TCP connections to these ports only, or to none",
            words=(_NO_PORT,),
            short="--landlock-connect",
        ),
        many(
            *("allow_bind", CONFINEMENT, "PORT,..."),
            "let TCP sockets be bound to these ports only, or to none",
            words=(_NO_PORT,),
            short="--landlock-bind",
        ),
        many(
            *("scope", CONFINEMENT, "WHAT,..."),
            "do not let the command reach abstract sockets or send signals to others",
            words=SCOPES,
            listed=True,
            short="--landlock-scope",
        ),
        flag(
            *("landlock_best_effort", CONFINEMENT),
            "go on without those limits that Landlock of this kernel does not have",
        ),
    ),
    read=_read,
    options={
        **{field: f"allow-{field}" for field in ("read", "write", "connect", "bind")},
        "execute": "allow-exec",
        "best_effort": "landlock-best-effort",
    },
    quiet=("read", "write", "execute", "connect", "bind", "scope"),
    no_equivalent=dict.fromkeys(Landlock._fields, "unshare(1) has no Landlock"),
)
