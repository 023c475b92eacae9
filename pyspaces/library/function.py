"""A `multiprocessing` process that returns the result of its function.

`run` and what it calls run in the child, everything else in the parent. Subclasses create the
process, in `_start_function`.
"""

from __future__ import annotations

import multiprocessing
import os
import pickle
import traceback
from collections.abc import Mapping
from multiprocessing import process

from pyspaces import status
from pyspaces.errors import UsageFault
from pyspaces.launch.running import limit_of
from pyspaces.library.popen import NamespacePopen
from pyspaces.record import told
from pyspaces.status import Status

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from multiprocessing.process import BaseProcess
    from typing import Any, Unpack

    from pyspaces.launch import Running
    from pyspaces.library.keywords import Process


_LONGEST_WAIT = 86400.0


class NoResult(RuntimeError):
    """The process ended without a result: by a signal or by os._exit; the text says which."""


class UnpicklableResult(TypeError):
    """What the function returned or raised cannot be pickled."""


class ChildTraceback(Exception):
    """The traceback in the child, as text: the cause of what `result` raises."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text

    def __str__(self) -> str:
        return f"\n{self.text}"


class FunctionProcess(multiprocessing.Process):
    """A process that a subclass creates; `result` returns the result of its function.

    target, given: as for `multiprocessing.Process`.
    """

    if TYPE_CHECKING:  # attributes of Process
        _popen: NamespacePopen | None
        _sentinel: int
        _closed: bool
        _parent_pid: int

    def __init__(self, target: Callable[..., Any] | None = None, **given: Unpack[Process]) -> None:
        args, kwargs = given.get("args", ()), given.get("kwargs")
        if faults := list(_faults_of(target, args, kwargs)):
            raise UsageFault(faults)
        arguments: dict[str, Any] = {"args": tuple(args), "kwargs": dict(kwargs or {})}
        super().__init__(target=target, **{**given, **arguments})
        self._record = -1

    def _start_function(self, bootstrap: Callable[[], object]) -> Running:
        """Start the process in which `bootstrap` is called."""
        raise NotImplementedError

    def _is_pid_1(self) -> bool:
        """Return whether the process is process 1 of a pid namespace."""
        return False

    @staticmethod
    def _Popen(process_obj: BaseProcess) -> Popen:  # type: ignore[override]  # noqa: N802
        return Popen(process_obj)

    @staticmethod
    def _after_fork() -> None:
        # Process asks the default context; if that is one of ours, it would ask Process again.
        process.BaseProcess._after_fork()  # type: ignore[attr-defined]

    def start(self) -> None:
        """Start the process; return once it is set up. Raises SpaceError if that fails."""
        # A file in memory, not a pipe: the child never waits for a reader, whatever the size.
        record = os.memfd_create("pyspaces-result")
        try:
            self._record = record
            super().start()
        except BaseException:
            self._record = -1
            os.close(record)
            raise

    def run(self) -> None:
        """Call the target in the child, and store its result for the parent."""
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
            pickle.loads(data)  # noqa: S301 - the parent must be able to load it
        except Exception as fault:  # noqa: BLE001 - a reducer may raise anything
            what = f"raised {type(error).__name__}" if error else f"returned {type(value).__name__}"
            problem = UnpicklableResult(f"the function {what}, which cannot be pickled: {fault}")
            data = pickle.dumps((problem, text, None))
        with open(self._record, "wb", closefd=False) as file:
            file.write(data)

    def result(self, timeout: float | None = None) -> Any:
        """Wait for the end, and return what the function returned or raise what it raised.

        timeout: seconds; None waits forever. Raises TimeoutError, NoResult if a signal or os._exit
        ended the process, UnpicklableResult, or the function's own exception, whose cause is a
        ChildTraceback; ValueError if the process has not been started, or is closed.
        """
        if self._popen is None or self._parent_pid != os.getpid():
            raise ValueError(f"{self.name} has not been started by this process")
        self._wait(limit_of(timeout))
        if self.exitcode is None:
            raise TimeoutError(f"{self.name} still runs after {timeout} s")
        data = self._read_record()
        if not data:
            raise NoResult(f"{self.name} {_end_of(self.exitcode)} before it had a result")
        # The function is the caller's own, and so is what it returned.
        error, text, value = pickle.loads(data)  # noqa: S301
        if error is not None:
            raise error from ChildTraceback(text)
        return value

    def _wait(self, left: float | None) -> None:
        """Wait for the end, in pieces for poll(2), whose milliseconds are a C int."""
        if left is None:
            self.join()
            return
        self.join(min(left, _LONGEST_WAIT))
        while self.exitcode is None and left > _LONGEST_WAIT:
            left -= _LONGEST_WAIT
            self.join(min(left, _LONGEST_WAIT))

    def _read_record(self) -> bytes:
        size = os.fstat(self._record).st_size
        data = bytearray()
        while chunk := os.pread(self._record, min(size - len(data), 1 << 24), len(data)):
            data += chunk
        return bytes(data)

    def close(self) -> None:
        """Release the descriptors of a process that has ended. Raises ValueError if it runs."""
        popen = self._popen
        if popen is None or popen.poll() is None:
            super().close()
        elif not self._closed:
            # As Process does, but without `self._popen = None`: each start of a process polls all
            # children, and another thread may be about to poll this one.
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


def _faults_of(target: object, args: object, kwargs: object) -> Iterator[str]:
    if target is not None and not callable(target):
        yield f"target: has to be a function, and is {told(target)}"
    if not hasattr(args, "__iter__"):
        yield f"args: has to be a tuple or list of arguments, and is {told(args)}"
    if kwargs is not None and not isinstance(kwargs, Mapping):
        yield f"kwargs: has to be a dict of arguments by their names, and is {told(kwargs)}"


def label_of(target: object) -> str:
    """Return what a plan has instead of a command."""
    return f"<function {getattr(target, '__name__', 'run')}>"


def _end_of(code: int) -> str:
    if code < 0:
        return f"was ended by {status.signal_name(-code)}"
    return f"ended with exit code {code}"


class Popen(NamespacePopen):
    """The Popen of a FunctionProcess, without a reference to it, which refers to this.

    process_obj: the process. space: a process whose settings apply if `process_obj` is a plain
    `multiprocessing.Process`. Raises TypeError if there are no settings.
    """

    def __init__(self, process_obj: BaseProcess, space: FunctionProcess | None = None) -> None:
        owner = process_obj if isinstance(process_obj, FunctionProcess) else space
        if owner is None or not callable(getattr(process_obj, "_bootstrap", None)):
            raise TypeError(
                f"process_obj: is {told(process_obj)}, without settings of namespaces: create it"
                " with pyspaces.Container, or with get_context(...).Process"
            )
        self._pid_1 = owner._is_pid_1()
        self._start = owner._start_function
        try:
            super().__init__(process_obj)
        finally:
            del self._start

    def _is_pid_1(self) -> bool:
        return self._pid_1

    def _create(self, bootstrap: Callable[[], object]) -> tuple[int, int]:
        self._running = self._start(bootstrap)
        return self._running.pid, self._running.detach()

    def _settled(self, code: int) -> int:
        """Return the exit code of the function, also if it ran as a child of our process 1."""
        code = super()._settled(code)
        ended = Status(signal=-code) if code < 0 else Status(code=code)
        return self._running.settle(ended).python_code
