"""Python functions in namespaces: Container, a `multiprocessing` process.

Each function runs in one process; the child's are `_Popen._run_inner` and what `multiprocessing`
calls from there. Settings take the same way as those of the command line: `settings.plan_from`.
"""

from __future__ import annotations

import multiprocessing
import os
import pickle
import traceback
from multiprocessing import context as mp_context
from multiprocessing import process

from pyspaces import launch, namespaces, settings, status
from pyspaces.popen import NamespacePopen

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from multiprocessing.process import BaseProcess
    from typing import Any

    from pyspaces.plan import Plan

    IdMap = bool | int | str | Iterable[int | str] | None


class NoResult(RuntimeError):
    """A Container ended without a result: killed, or by os._exit; the text says which."""


class UnpicklableResult(TypeError):
    """What the function returned or raised cannot be pickled, and so cannot come home."""


class ChildTraceback(Exception):
    """The traceback of the child, as text: the cause of what Container.result raises."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text

    def __str__(self) -> str:
        return f"\n{self.text}"


class Container(multiprocessing.Process):
    """A process that runs a Python function in new namespaces.

    target, args, kwargs, name, daemon: as for `multiprocessing.Process`. user, pid, net, mount,
    uts, ipc, cgroup, time: which namespaces are new; all: every one that the kernel has. uid_map,
    gid_map: True (the caller is root inside), an outside id, a string in any form of the map
    grammar, or a list of these. map_zero: root inside for both. hostname, workdir, mount_proc: as
    the options of that name. flags: CLONE_NEW* bits, besides. newuser, newpid, newnet, newns,
    newuts, newipc: the spellings of the first version.

    Raises UsageFault for settings that cannot be meant. `start` raises SpaceError where the launch
    fails, with nothing left running.
    """

    if TYPE_CHECKING:  # what Process has of its own
        _popen: NamespacePopen | None
        _sentinel: int

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
        workdir: str | None = None,
        mount_proc: bool | None = None,
        flags: int = 0,
        newuser: bool = False,
        newpid: bool = False,
        newnet: bool = False,
        newns: bool = False,
        newuts: bool = False,
        newipc: bool = False,
    ) -> None:
        super().__init__(
            target=target, name=name, args=tuple(args), kwargs=dict(kwargs or {}), daemon=daemon
        )
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
            "workdir": workdir,
            "mount_proc": mount_proc,
        }
        for row in namespaces.NAMESPACES:
            if flags & row.flag:
                mapping[row.name] = True
        if rest := flags & ~namespaces.flags_of(namespaces.NAMES):
            raise ValueError(f"flags: {rest:#x}: only CLONE_NEW* bits can be given")
        label = f"<function {getattr(target, '__name__', 'run')}>"
        self._plan = settings.plan_from({**mapping, "command": [label]}).replace(kill_child=False)
        self._record = -1

    @staticmethod
    def _Popen(process_obj: BaseProcess) -> _Popen:  # type: ignore[override]  # noqa: N802
        assert isinstance(process_obj, Container)
        return _Popen(process_obj, process_obj._plan)

    def start(self) -> None:
        """Start the process; return once it is set up. Raises SpaceError where that fails."""
        # A file in memory, not a pipe: no size of a result makes the child wait for a reader.
        record = os.memfd_create("pyspaces-result")
        try:
            self._record = record
            super().start()
        except BaseException:
            self._record = -1
            os.close(record)
            raise

    def run(self) -> None:
        """Call the target in the child, and leave its result behind."""
        try:
            value = self._target(*self._args, **self._kwargs) if self._target else None  # type: ignore[attr-defined]
        except BaseException as error:
            self._leave(error=error, value=None)
            raise
        self._leave(error=None, value=value)

    def _leave(self, *, error: BaseException | None, value: object) -> None:
        text = "".join(traceback.format_exception(error)) if error else ""
        try:
            data = pickle.dumps((error, text, value))
            pickle.loads(data)  # noqa: S301 - what cannot be loaded has not come home either
        except Exception as fault:  # noqa: BLE001 - a reducer may raise anything
            what = f"raised {type(error).__name__}" if error else f"returned {type(value).__name__}"
            problem = UnpicklableResult(f"the function {what}, which cannot be pickled: {fault}")
            data = pickle.dumps((problem, text, None))
        with open(self._record, "wb", closefd=False) as file:
            file.write(data)

    def result(self, timeout: float | None = None) -> Any:
        """Wait for the end, and return what the function returned or raise what it raised.

        timeout: seconds; None waits for ever. Raises TimeoutError, NoResult where the process was
        killed or left by os._exit, UnpicklableResult, or the function's own exception, whose cause
        is a ChildTraceback.
        """
        self.join(timeout)
        if self.exitcode is None:
            raise TimeoutError(f"{self.name} still runs after {timeout} s")
        data = self._read_record()
        if not data:
            raise NoResult(f"{self.name} {_end_of(self.exitcode)} before it had a result")
        # The function is the caller's own: what it returns is trusted as it is.
        error, text, value = pickle.loads(data)  # noqa: S301
        if error is not None:
            raise error from ChildTraceback(text)
        return value

    def _read_record(self) -> bytes:
        size = os.fstat(self._record).st_size
        data = bytearray()
        while chunk := os.pread(self._record, min(size - len(data), 1 << 24), len(data)):
            data += chunk
        return bytes(data)

    def close(self) -> None:
        """Release what the process holds here; it must have ended: ValueError where it runs."""
        popen = self._popen
        if popen is None or popen.poll() is None:
            super().close()
        else:
            # As Process does, but for `self._popen = None`: each start of a process polls every
            # child of this one, and another thread may be about to ask this one.
            popen.close()
            del self._sentinel
            process._children.discard(self)  # type: ignore[attr-defined]
            self._closed = True
        self._drop_record()

    def _drop_record(self) -> None:
        if self._record >= 0:
            os.close(self._record)
            self._record = -1

    def __del__(self) -> None:
        if hasattr(self, "_record"):
            self._drop_record()


def _end_of(code: int) -> str:
    if code < 0:
        return f"was ended by {status.signal_name(-code)}"
    return f"ended with exit code {code}"


def _map_texts(given: IdMap) -> list[str]:
    """Return an id map in its Python forms as texts of the grammar."""
    if given is None or given is False:
        return []
    items = [given] if isinstance(given, bool | int | str) else list(given)
    return ["root" if item is True else str(item) for item in items]


class _Popen(NamespacePopen):
    """The Popen of a Container: `launch.start`, with the process object in place of a command."""

    def __init__(self, process_obj: BaseProcess, plan: Plan) -> None:
        self._plan = plan
        super().__init__(process_obj)

    def _is_pid_1(self) -> bool:
        return self._plan.has("pid")

    def _create(self, process_obj: BaseProcess, bootstrap: Callable[[], object]) -> tuple[int, int]:
        running = launch.start(self._plan, function=bootstrap)
        return running.pid, running.detach()


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
