"""Python functions in namespaces: Container, a `multiprocessing` process.

Runs in the parent. Settings take the same way as those of the command line: `settings.plan_from`.
"""

from __future__ import annotations

import os
from multiprocessing import context as mp_context

from pyspaces import launch, namespaces, settings
from pyspaces.function import FunctionProcess, label_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from typing import Any

    from pyspaces.launch import Running
    from pyspaces.mounts.operations import Operation

    IdMap = bool | int | str | Iterable[int | str] | None


class Container(FunctionProcess):
    """A process that runs a Python function in new namespaces.

    target, args, kwargs, name, daemon: as for `multiprocessing.Process`. user, pid, net, mount,
    uts, ipc, cgroup, time: which namespaces are new; all: every one that the kernel has. uid_map,
    gid_map: True (the caller is root inside), an outside id, a string in any form of the map
    grammar, or a list of these. map_zero: root inside for both. hostname, root, workdir,
    mount_proc, empty_root, keep_caps, cap_drop, cap_add (texts or a list of them), no_new_privs,
    no_nested_users: as the options of that name; once the root has moved, what the function imports
    comes from the new one. mounts: operations on the tree, in their order: records of
    `pyspaces.mounts.operations`, or the words of the options (["ro-bind", "/usr", "/usr"]). flags:
    CLONE_NEW* bits, besides. newuser, newpid, newnet, newns,
    newuts, newipc: the spellings of the first version.

    Raises UsageFault for settings that cannot be meant. `start` raises SpaceError where the launch
    fails, with nothing left running.
    """

    def __init__(  # noqa: PLR0913 - a keyword for each setting, and no magic words
        self,
        target: Callable[..., Any] | None = None,
        *,
        args: Iterable[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        name: str | None = None,
        daemon: bool | None = None,
        user: bool = False,
        pid: bool = False,
        net: bool = False,
        mount: bool = False,
        uts: bool = False,
        ipc: bool = False,
        cgroup: bool = False,
        time: bool = False,
        all: bool = False,  # noqa: A002 - the name of the option
        uid_map: IdMap = None,
        gid_map: IdMap = None,
        map_zero: bool = False,
        hostname: str | None = None,
        root: str | os.PathLike[str] | None = None,
        empty_root: bool = False,
        mounts: Iterable[Operation | Sequence[str | os.PathLike[str]]] = (),
        workdir: str | None = None,
        mount_proc: bool | None = None,
        keep_caps: bool = False,
        cap_drop: str | Iterable[str] = (),
        cap_add: str | Iterable[str] = (),
        no_new_privs: bool = False,
        no_nested_users: bool = False,
        flags: int = 0,
        newuser: bool = False,
        newpid: bool = False,
        newnet: bool = False,
        newns: bool = False,
        newuts: bool = False,
        newipc: bool = False,
    ) -> None:
        super().__init__(target, args=args, kwargs=kwargs, name=name, daemon=daemon)
        mapping = {
            "user": user or newuser,
            "pid": pid or newpid,
            "net": net or newnet,
            "mount": mount or newns,
            "uts": uts or newuts,
            "ipc": ipc or newipc,
            "cgroup": cgroup,
            "time": time,
            "all": all,
            "map_uid": _map_texts(uid_map),
            "map_gid": _map_texts(gid_map),
            "map_root": map_zero,
            "hostname": hostname,
            "root": None if root is None else os.fspath(root),
            "empty_root": empty_root,
            "mounts": list(mounts),
            "workdir": workdir,
            "mount_proc": mount_proc,
            "keep_caps": keep_caps,
            "cap_drop": cap_drop if isinstance(cap_drop, str) else list(cap_drop),
            "cap_add": cap_add if isinstance(cap_add, str) else list(cap_add),
            "no_new_privs": no_new_privs,
            "no_nested_users": no_nested_users,
        }
        for row in namespaces.NAMESPACES:
            if flags & row.flag:
                mapping[row.name] = True
        if rest := flags & ~namespaces.flags_of(namespaces.NAMES):
            raise ValueError(f"flags: {rest:#x}: only CLONE_NEW* bits can be given")
        plan = settings.plan_from({**mapping, "command": [label_of(target)]})
        # A thread may start it that ends long before it does.
        self._plan = plan.replace(life=plan.life.replace(kill_child=None))

    def _start_function(self, bootstrap: Callable[[], object]) -> Running:
        return launch.start(self._plan, function=bootstrap)

    def _is_pid_1(self) -> bool:
        return self._plan.has("pid")


class Chroot(Container):
    """A Container whose root directory is `path`: pivot_root(2), so the old root is out of reach.

    path: a directory with what the function needs inside; what it imports comes from there. target,
    args, kwargs, name, daemon, and the other settings: as for Container.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        target: Callable[..., Any] | None = None,
        *,
        args: Iterable[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        name: str | None = None,
        daemon: bool | None = None,
        **space: Any,
    ) -> None:
        super().__init__(
            target, args=args, kwargs=kwargs, name=name, daemon=daemon, root=path, **space
        )


def _map_texts(given: IdMap) -> list[str]:
    """Return an id map in its Python forms as texts of the grammar."""
    if given is None or given is False:
        return []
    items = [given] if isinstance(given, bool | int | str) else list(given)
    return ["root" if item is True else str(item) for item in items]


def get_context(**space: Any) -> mp_context.BaseContext:
    """Return a `multiprocessing` context whose Process is a Container with these settings.

    space: the settings of Container. Pool, ProcessPoolExecutor(mp_context=...), Queue and the rest
    of the context then run their workers in namespaces.
    """

    class SpaceProcess(Container):
        """A worker in the namespaces of its context."""

        _start_method = "fork"

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
            assert group is None, "group argument must be None for now"
            super().__init__(target, args=args, kwargs=kwargs, name=name, daemon=daemon, **space)

    class SpaceContext(mp_context.ForkContext):
        """The context; a class of its own, so that the settings live in it."""

        Process = SpaceProcess  # type: ignore[assignment]

    SpaceProcess()  # wrong settings are told here, not by a worker that never comes
    return SpaceContext()
