"""Run Python in the namespaces of another process: Inject, a process, and setns, a context.

The functions of `setns` run in the caller; `inner.join` runs in the process that creates the child
of an Inject.
"""

from __future__ import annotations

import contextlib
import os

from pyspaces import launch, settings
from pyspaces.errors import JOIN, Report, SpaceError, UsageFault
from pyspaces.features.existing import joining
from pyspaces.features.existing.joining import Handle, Visit
from pyspaces.features.existing.values import Join, Joining
from pyspaces.kernel import libc, namespaces, procfs
from pyspaces.launch.inner.join import join
from pyspaces.library import space
from pyspaces.library.function import FunctionProcess, label_of
from pyspaces.record import told

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from typing import Any, Unpack

    from pyspaces.launch import Running
    from pyspaces.library.keywords import Namespaces

# The names in /proc/thread-self/ns that differ from the type; for pid, that of this thread's
# children.
_LINKS = {"mount": "mnt", "pid": "pid_for_children"}
# Namespaces that a process with several threads cannot join: setns(2).
_ALONE = ("mount", "time")
# Process ids are a C int.
_PIDS = 1 << 31
_ROOT, _WORKDIR = "root", "workdir"
_HINT = "pyspaces.Inject runs a function there, in a new process"


class Inject(FunctionProcess):
    """A process that runs a Python function in the namespaces of another process: setns(2).

    target_pid: the process. target, args, kwargs, name, daemon: as for `multiprocessing.Process`.
    user, pid, net, mount, uts, ipc, cgroup, time: the namespaces to join; without any, or with
    `all`, those that differ from this process's own. In a user namespace, the function runs as
    root, or as the first mapped id, without this process's supplementary groups if the kernel
    allows it to drop them, and with a new session keyring. In any namespace, the process is not
    dumpable (PR_SET_DUMPABLE of prctl(2)), because processes inside could otherwise control it, and
    read all memory of this process: so its files in /proc/self belong to root, and an ordinary user
    can create a user namespace there only in a program that it executes.

    `start` raises SpaceError, which names the namespace that could not be joined. All namespaces
    are opened before the first is joined, so a process that ends meanwhile is not mistaken for
    another.
    """

    def __init__(
        self,
        target_pid: int,
        target: Callable[..., Any] | None = None,
        *,
        args: Iterable[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        name: str | None = None,
        daemon: bool | None = None,
        **wanted: Unpack[Namespaces],
    ) -> None:
        super().__init__(target, args=args, kwargs=kwargs, name=name, daemon=daemon)
        self.target_pid = _checked_pid(target_pid)
        self._names = _chosen(wanted, what="Inject()")
        plan = settings.plan_from({"command": [label_of(target)]})
        self._plan = space.outliving(plan)

    def _start_function(self, bootstrap: Callable[[], object]) -> Running:
        visit = _opened(self.target_pid, self._names)
        if "user" not in (handle.name for handle in visit.handles):
            # Never join a user namespace without being told to.
            joining.close(visit.owners)
            visit = visit.replace(owners=())
        try:
            return launch.start(self._plan, function=bootstrap, before=lambda: join(visit))
        finally:
            visit.close()


@contextlib.contextmanager
def setns(target_pid: int, **wanted: Unpack[Namespaces]) -> Iterator[tuple[str, ...]]:
    """Enter namespaces of another process, and leave them at the end of the block: setns(2).

    target_pid: the process. user, pid, ...: as for Inject. Yields the names of the namespaces. A
    pid namespace applies to children that are created in the block, not to this process. Other
    threads of this process are not affected. In the block, this process is not dumpable, as for
    Inject, and neither are children that execute nothing.

    Raises SpaceError with the kernel's rule if one cannot be entered; this process is then back
    where it was. A user namespace cannot be left again, and only single-threaded processes can
    enter mount and time namespaces (user_namespaces(7), setns(2)): use Inject for these.
    """
    names = _chosen(wanted, what="setns()")
    visit = _opened(_checked_pid(target_pid), names)
    try:
        _refuse_one_way(visit)
        with contextlib.ExitStack() as back:
            ways_back = _ways_back(visit, back)
            # Its user namespace does not change, so processes there have no rights over it; but
            # neither this process nor its children should depend on that alone.
            back.callback(libc.set_dumpable, dumpable=libc.is_dumpable())
            libc.set_dumpable(dumpable=False)
            for handle, way in zip(visit.handles, ways_back, strict=True):
                with _refusing(JOIN):
                    _join(handle)
                back.callback(_leave, way)
            yield tuple(handle.name for handle in visit.handles)
    finally:
        visit.close()


def _opened(process: int, names: Iterable[str]) -> Visit:
    """Open the namespaces to join. Raises SpaceError, which names the file."""
    joins = tuple(Join(namespace=name, pid=process) for name in names)
    with _refusing(JOIN):
        return joining.open_visit(Joining(joins=joins))


@contextlib.contextmanager
def _refusing(stage: str) -> Iterator[None]:
    """Turn errors of system calls into a SpaceError. stage: what failed, after `cannot`."""
    try:
        yield
    except OSError as error:
        report = Report.of(stage, error)
        raise SpaceError(report.sentence(), report=report) from error


def _chosen(wanted: Mapping[str, object], *, what: str) -> tuple[str, ...]:
    """Return the namespaces that keywords choose. what: the callable, for the message."""
    space.check_names(what, wanted, (*namespaces.NAMES, "all"))
    if wrong := [name for name, value in wanted.items() if not isinstance(value, bool)]:
        raise UsageFault([f"{n}: takes True or False, and is {told(wanted[n])}" for n in wrong])
    names = tuple(name for name in namespaces.NAMES if wanted.get(name))
    return namespaces.supported() if wanted.get("all") or not names else names


def _checked_pid(process: int) -> int:
    if type(process) is not int:
        raise UsageFault([f"target_pid: has to be a process id, and is {told(process)}"])
    if not 0 < process < _PIDS:
        raise UsageFault([f"target_pid: {told(process)} is not a process id"])
    return process


def _refuse_one_way(visit: Visit) -> None:
    """Refuse namespaces that cannot be entered, or not left again."""
    for handle in visit.handles:
        if handle.name == "user":
            raise SpaceError(
                f"cannot enter {handle.path}: a user namespace cannot be left again",
                details=["user_namespaces(7): joining one loses the capabilities outside"],
                hint=_HINT,
            )
        if handle.name in _ALONE and procfs.thread_count() != 1:
            raise SpaceError(
                f"cannot enter {handle.path}: this process has more than one thread",
                details=[f"setns(2): only a process of one thread joins a {handle.name} namespace"],
                hint=_HINT,
            )


def _ways_back(visit: Visit, back: contextlib.ExitStack) -> list[list[Handle]]:
    """Open the way back from each namespace, and try it, before the first is entered.

    Returning requires the same capabilities as entering: root of a user namespace can leave the
    host's network namespace for its own, but not return. `back` closes the descriptors. For a mount
    namespace there are three, because joining one changes the root and the working directory.
    """
    with _refusing("open the way back"):
        ways = [[*_own(handle.name, back)] for handle in visit.handles]
    for way in ways:
        _leave(way)
    return ways


def _own(name: str, back: contextlib.ExitStack) -> Iterator[Handle]:
    paths = {name: f"/proc/thread-self/ns/{_LINKS.get(name, name)}"}
    if name == "mount":
        paths |= {_ROOT: "/", _WORKDIR: "."}
    for what, path in paths.items():
        flags = os.O_RDONLY if what == name else os.O_PATH
        descriptor = os.open(path, flags | os.O_CLOEXEC)
        back.callback(os.close, descriptor)
        yield Handle(name=what, descriptor=descriptor, path=path)


def _join(handle: Handle) -> None:
    libc.setns(handle.descriptor, namespaces.flags_of([handle.name]), path=handle.path)


def _leave(ways: list[Handle]) -> None:
    """Return from one namespace."""
    with _refusing(f"return to {ways[0].path}"):
        for way in ways:
            if way.name not in (_ROOT, _WORKDIR):
                _join(way)
                continue
            os.fchdir(way.descriptor)
            if way.name == _ROOT:
                os.chroot(".")
