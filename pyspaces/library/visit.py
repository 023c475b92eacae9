"""Python in the namespaces of another process: Inject, a process there, and setns, a block there.

Each function runs in one process: those of `setns` in the caller, `inner.join` in the one that
creates the child of an Inject.
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
from pyspaces.kernel.libc import KernelError
from pyspaces.launch.inner.join import join
from pyspaces.library.function import FunctionProcess, label_of
from pyspaces.record import told

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from typing import Any, Unpack

    from pyspaces.launch import Running
    from pyspaces.library.keywords import Namespaces

# Where it is not the word itself, the file that says in what this thread's children will be.
_LINKS = {"mount": "mnt", "pid": "pid_for_children"}
# Which namespaces a process with several threads cannot join: setns(2).
_ALONE = ("mount", "time")
# Process ids are an int of the kernel: none is larger.
_PIDS = 1 << 31
_ROOT, _WORKDIR = "root", "workdir"


class Inject(FunctionProcess):
    """A process that runs a Python function in the namespaces of another process: setns(2).

    target_pid: the process to join. target, args, kwargs, name, daemon: as for
    `multiprocessing.Process`. user, pid, net, mount, uts, ipc, cgroup, time: which of its
    namespaces to join; none of them, or all: each in which it differs from this process. Where a
    user namespace is joined, the function runs as root there, or as its first mapped id, without
    this process's supplementary groups as far as the kernel lets them go, and with a session
    keyring of its own. Where a namespace is joined, the process is not dumpable (PR_SET_DUMPABLE of
    prctl(2)), since whoever is inside could otherwise use it, and all that this process has in
    memory: its files in /proc/self belong to root, and an ordinary user creates no user namespace
    from there but through a program that it executes.

    `start` raises SpaceError naming the namespace that could not be joined. Every namespace is open
    before one is joined: a process that ends meanwhile is not mistaken for another.
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
        self._plan = plan.replace(life=plan.life.replace(kill_child=None))

    def _start_function(self, bootstrap: Callable[[], object]) -> Running:
        visit = _only_named(_opened(self.target_pid, self._names))
        try:
            return launch.start(self._plan, function=bootstrap, before=lambda: join(visit))
        finally:
            visit.close()


@contextlib.contextmanager
def setns(target_pid: int, **wanted: Unpack[Namespaces]) -> Iterator[tuple[str, ...]]:
    """Enter namespaces of another process, and come back at the end of the block: setns(2).

    target_pid: the process. user, pid, ...: as for Inject. Gives the names of the namespaces that
    were entered. A pid namespace is entered by the children that are created in the block, not by
    this process. The other threads of this process stay where they are. Inside the block this
    process is not dumpable, as for Inject; nor are children forked there that execute nothing.

    Raises SpaceError with the kernel's rule where one cannot be entered, with this process back
    where it was: a user namespace can be left by nobody, and into mount and time namespaces only
    single-threaded processes can go (user_namespaces(7), setns(2)). For these there is Inject.
    """
    names = _chosen(wanted, what="setns()")
    visit = _opened(_checked_pid(target_pid), names)
    try:
        _refuse_one_way(visit)
        with contextlib.ExitStack() as back:
            ways_back = _ways_back(visit, back)
            # Its user namespace stays the caller's, so that nobody there has rights over it; but
            # neither its children there nor what it is meanwhile are to depend on that alone.
            back.callback(libc.set_dumpable, dumpable=libc.is_dumpable())
            libc.set_dumpable(dumpable=False)
            for handle, way in zip(visit.handles, ways_back, strict=True):
                _enter(handle)
                back.callback(_leave, way)
            yield tuple(handle.name for handle in visit.handles)
    finally:
        visit.close()


def _opened(process: int, names: Iterable[str]) -> Visit:
    """Open the namespaces to visit. Raises SpaceError naming the file."""
    joins = tuple(Join(namespace=name, pid=process) for name in names)
    try:
        return joining.open_visit(Joining(joins=joins))
    except KernelError as error:
        raise _refusal(error, JOIN) from error


def _only_named(visit: Visit) -> Visit:
    """Leave out owners where no user namespace was named: nobody gets into one by surprise."""
    if any(handle.name == "user" for handle in visit.handles):
        return visit
    joining.close(visit.owners)
    return visit.replace(owners=())


def _chosen(wanted: Mapping[str, object], *, what: str) -> tuple[str, ...]:
    """Return the names that keywords choose. what: who is given them, for the text."""
    for name in wanted:
        if name not in (*namespaces.NAMES, "all"):
            raise TypeError(f"{what} got an unexpected keyword argument {name!r}")
    wrong = [
        f"{name}: takes True or False, and is {told(value)}"
        for name, value in wanted.items()
        if not isinstance(value, bool)
    ]
    if wrong:
        raise UsageFault(wrong)
    names = tuple(name for name in namespaces.NAMES if wanted.get(name))
    return namespaces.supported() if wanted.get("all") or not names else names


def _checked_pid(process: int) -> int:
    if type(process) is not int:
        raise UsageFault([f"target_pid: has to be a process id, and is {told(process)}"])
    if not 0 < process < _PIDS:
        raise UsageFault([f"target_pid: {told(process)} is not a process id"])
    return process


def _refuse_one_way(visit: Visit) -> None:
    """Refuse what the kernel would let in but not out, or not at all."""
    for handle in visit.handles:
        if handle.name == "user":
            raise SpaceError(
                f"cannot enter {handle.path}: a user namespace cannot be left again",
                details=["user_namespaces(7): the rights in the one outside are lost by joining"],
                hint="pyspaces.Inject runs a function there, in a process of its own",
            )
        if handle.name in _ALONE and procfs.thread_count() != 1:
            raise SpaceError(
                f"cannot enter {handle.path}: this process has more than one thread",
                details=[f"setns(2): only a process of one thread joins a {handle.name} namespace"],
                hint="pyspaces.Inject runs a function there, in a process of its own",
            )


def _ways_back(visit: Visit, back: contextlib.ExitStack) -> list[list[Handle]]:
    """Open, for each namespace, what leads back, and try it, before the first is entered.

    The kernel asks for the same rights to come back as to go: root of a user namespace can leave a
    network of the host's for one of its own, and not return. `back` closes what is opened. Of a
    mount namespace these are three: joining one changes the root and the working directory.
    """
    try:
        ways = [[*_own(handle.name, back)] for handle in visit.handles]
    except OSError as error:
        raise _refusal(error, "open the way back") from error
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


def _enter(handle: Handle) -> None:
    try:
        libc.setns(handle.descriptor, namespaces.flags_of([handle.name]), path=handle.path)
    except KernelError as error:
        raise _refusal(error, JOIN) from error


def _leave(ways: list[Handle]) -> None:
    """Come back from one namespace."""
    try:
        for way in ways:
            if way.name == _ROOT:
                os.fchdir(way.descriptor)
                os.chroot(".")
            elif way.name == _WORKDIR:
                os.fchdir(way.descriptor)
            else:
                libc.setns(way.descriptor, namespaces.flags_of([way.name]), path=way.path)
    except OSError as error:
        raise _refusal(error, f"come back to {ways[0].path}") from error


def _refusal(error: OSError, stage: str) -> SpaceError:
    report = Report.of(stage, error)
    return SpaceError(report.sentence(), report=report)
