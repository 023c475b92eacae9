"""Container: a `multiprocessing` process in new namespaces.

Runs in the parent. Settings are read like those of the command line, by `settings.plan_from`.
"""

from __future__ import annotations

import os
from multiprocessing import context as mp_context

from pyspaces import launch
from pyspaces.errors import SpaceError, UsageFault
from pyspaces.kernel import constants
from pyspaces.library import space
from pyspaces.library.explaining import with_settings
from pyspaces.library.function import FunctionProcess, Popen, label_of
from pyspaces.record import told

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from multiprocessing.process import BaseProcess
    from typing import Any, Unpack

    from pyspaces.launch import Running
    from pyspaces.library.keywords import InRoot, Shared, Space


class Container(FunctionProcess):
    """A process that runs a Python function in new namespaces.

    target, args, kwargs, name, daemon: as for `multiprocessing.Process`. All other keywords are
    settings, with the names and the meaning of the options of `pyspaces run`;
    `pyspaces.library.keywords` has their types. These differ for a function:

    uid_map, gid_map: True (the caller is root inside), an outside id (which is root inside), a list
    of outside ids (which are 0, 1, 2 and so on inside), a record, which is a tuple (inside,
    outside, count) or an Extent, a text in any form of the map grammar, or a list of records and
    texts. mounts: operations, carried out in their order: records of `pyspaces.mounts.operations`,
    or words of the options (["ro-bind", "/usr", "/usr"]). host_ro, throwaway, read_only: come
    before those of `mounts`, in this order. root, and operations: the function imports modules from
    the new root. setenv (a dict or pairs), unsetenv, clearenv, keep_env: change `os.environ`
    inside. init, init_wait: the function runs as a child of a process 1 that reaps processes and
    forwards signals, and exits with the function's exit code. kill_child: the signal to the
    function when the thread that started it ends; by default, it outlives its parent, as a Process
    does. A daemonic process (a worker of multiprocessing.Pool, or of Dask) can only start a
    Container with kill_child="KILL". registered: a name for `pyspaces enter`, `list` and `stop`.
    overlay_diff: is written when join(), result() or exitcode notices the end. flags: further
    namespaces, as CLONE_NEW* bits. map_zero, newuser, newpid, newnet, newns, newuts, newipc: names
    of the first version for map_root, user, pid, net, mount, uts and ipc.

    The function needs this process's memory, so a Container is always forked: the launch server
    (`pyspaces.launch.use_server`) is for commands. What it returns is unpickled here, and a program
    that it starts can put something else there: it must not start one that is not trusted.

    Refused for a function, with the reason: hold, no_fork, no_kill_child, timeout, kill_after, pty,
    status_fd, status_file, pid_file, report, listen, seccomp_learn.

    Raises UsageFault for invalid settings. `start` raises SpaceError if the launch fails; nothing
    is left running then.
    """

    def __init__(
        self,
        target: Callable[..., Any] | None = None,
        *,
        args: Iterable[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        name: str | None = None,
        daemon: bool | None = None,
        **settings: Unpack[Space],
    ) -> None:
        super().__init__(target, args=args, kwargs=kwargs, name=name, daemon=daemon)
        self._plan = space.plan_of([label_of(target)], settings, what=f"{type(self).__name__}()")

    def _start_function(self, bootstrap: Callable[[], object]) -> Running:
        try:
            return launch.start(self._plan, function=bootstrap)
        except SpaceError as error:
            space.explained(error)
            raise

    def _is_pid_1(self) -> bool:
        return self._plan.has("pid") and not self._plan.life.init

    def _ends_with_parent(self) -> bool:
        return self._plan.life.kill_child == constants.SIGKILL


class Chroot(Container):
    """A Container with the root directory `path`: pivot_root(2), so the old root is out of reach.

    path: a directory with everything that the function needs; it imports modules from there.
    target, args, kwargs, name, daemon, and the other settings: as for Container.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        target: Callable[..., Any] | None = None,
        **given: Unpack[InRoot],
    ) -> None:
        if not isinstance(path, str | os.PathLike):
            raise UsageFault([f"path: has to be that of a directory, and is {told(path)}"])
        super().__init__(target, root=path, **given)


def get_context(**settings: Unpack[Shared]) -> mp_context.ForkContext:
    """Return a `multiprocessing` context whose Process is a Container with these settings.

    settings: those of Container, except `registered` and `overlay_diff`, which are for one process.
    Pool, ProcessPoolExecutor(mp_context=...) and the like then run their workers in namespaces,
    and so does a plain `multiprocessing.Process` that is started through the context.
    """
    space.plan_of([label_of(None)], settings, what="get_context()")

    class SpaceProcess(Container):
        """A worker in the namespaces of its context."""

        _start_method = "fork"
        # What runs in a Pool or an executor has no `result` of its own.
        _prints = True

        def __init__(
            self,
            group: None = None,
            target: Callable[..., Any] | None = None,
            name: str | None = None,
            args: Iterable[Any] = (),
            kwargs: Mapping[str, Any] | None = None,
            *,
            daemon: bool | None = None,
        ) -> None:
            if group is not None:
                raise ValueError(f"group: has to be None, and is {told(group)}")
            super().__init__(target, args=args, kwargs=kwargs, name=name, daemon=daemon, **settings)

        @staticmethod
        def _Popen(process_obj: BaseProcess) -> Popen:  # type: ignore[override]  # noqa: N802
            """Start a process; one that is not a Container in the namespaces of the context."""
            return Popen(process_obj, SpaceProcess())

    class SpaceContext(mp_context.ForkContext):
        """The context, a new class for each set of settings."""

        Process = SpaceProcess  # type: ignore[assignment]

    return SpaceContext()


with_settings(Container, refused=())
