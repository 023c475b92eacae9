"""A `multiprocessing` process that returns the result of its function.

`run` and what it calls run in the child, everything else in the parent. Subclasses create the
process, in `_start_function`.
"""

from __future__ import annotations

import multiprocessing
import os
import pickle
import struct
import sys
import tokenize  # noqa: F401 - see _text_of
import traceback
from collections.abc import Mapping
from multiprocessing import process
from types import FunctionType, SimpleNamespace

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
# Of a record: whether to print the text if nobody asks for it, and two lengths: of the text, and of
# the pickled error and value. Both follow.
_HEAD = struct.Struct("=?QQ")
_DAEMONIC = (
    "this process is daemonic, and multiprocessing lets it have no children that may outlive it:"
    ' set kill_child="KILL"'
)
_DAEMONIC_HINT = (
    "Dask's workers are not daemonic with the configuration distributed.worker.daemon: False, and"
    " joblib's are not with the backend loky"
)


class NoResult(RuntimeError):
    """The process ended without a result: by a signal, by os._exit, or because it had no room.

    The text says how it ended. A limit on files (rlimit="fsize=...") is one on the result, too.
    """


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

    target, given: as for `multiprocessing.Process`. If nobody asks for the result, the traceback of
    an exception is printed once the object is no longer used, or by `close`.
    """

    # Whether the child prints the traceback of an exception, as a Process does.
    _prints = False

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
        self._is_told = False

    def _start_function(self, bootstrap: Callable[[], object]) -> Running:
        """Start the process in which `bootstrap` is called."""
        raise NotImplementedError

    def _is_pid_1(self) -> bool:
        """Return whether the process is process 1 of a pid namespace."""
        return False

    def _ends_with_parent(self) -> bool:
        """Return whether the kernel kills the process when this one ends."""
        return False

    @staticmethod
    def _Popen(process_obj: BaseProcess) -> Popen:  # type: ignore[override]  # noqa: N802
        return Popen(process_obj)

    @staticmethod
    def _after_fork() -> None:
        # Process asks the default context; if that is one of ours, it would ask Process again.
        process.BaseProcess._after_fork()  # type: ignore[attr-defined]

    def start(self) -> None:
        """Start the process; return once it is set up.

        Raises SpaceError if that fails, and UsageFault in a daemonic process, if this one would
        outlive it: what a daemonic process has started is not ended with it.
        """
        daemonic = multiprocessing.current_process().daemon
        if daemonic and not self._ends_with_parent():
            raise UsageFault([_DAEMONIC], hint=_DAEMONIC_HINT)
        # A file in memory, not a pipe: the child never waits for a reader, whatever the size.
        record, before = os.memfd_create("pyspaces-result"), self._record
        try:
            self._record = record
            if daemonic:
                self._start_unchecked()
            else:
                super().start()
        except BaseException:
            self._record = before  # of a process that has been started already
            os.close(record)
            raise

    def _start_unchecked(self) -> None:
        """Run CPython's own `start` as in a process that is not daemonic."""
        original = process.BaseProcess.start
        changed = {"_current_process": SimpleNamespace(_config={})}
        FunctionType(original.__code__, {**original.__globals__, **changed})(self)

    def run(self) -> None:
        """Call the target in the child, and store its result for the parent."""
        try:
            value = self._target(*self._args, **self._kwargs) if self._target else None  # type: ignore[attr-defined]
        except BaseException as error:
            self._leave(error=error, value=None)
            if self._prints or isinstance(error, SystemExit):
                raise
            # The exit code of an exception, without its traceback: `result` raises it.
            raise SystemExit(1) from None
        self._leave(error=None, value=value)

    def _leave(self, *, error: BaseException | None, value: object) -> None:
        text = _text_of(error) if error else ""
        try:
            data = pickle.dumps((error, value))
            pickle.loads(data)  # noqa: S301 - the parent must be able to load it
        except Exception as fault:  # noqa: BLE001 - a reducer may raise anything
            what = f"raised {type(error).__name__}" if error else f"returned {type(value).__name__}"
            problem = UnpicklableResult(f"the function {what}, which cannot be pickled: {fault}")
            data = pickle.dumps((problem, None))
        # Of a SystemExit nothing is told but by `result`; nor of what the child prints itself.
        is_told = self._prints or isinstance(error, SystemExit)
        told_text = text.encode(errors="backslashreplace")
        head = _HEAD.pack(not is_told and bool(text), len(told_text), len(data))
        with open(self._record, "wb", closefd=False) as file:
            file.write(head + told_text + data)

    def result(self, timeout: float | None = None) -> Any:
        """Wait for the end, and return what the function returned or raise what it raised.

        timeout: seconds; None waits forever. Raises TimeoutError, NoResult if the process ended
        before it had stored a result, UnpicklableResult, or the function's own exception, whose
        cause is a ChildTraceback; ValueError if the process has not been started, or is closed.
        """
        if self._popen is None or self._parent_pid != os.getpid():
            raise ValueError(f"{self.name} has not been started by this process")
        self._wait(limit_of(timeout))
        if self.exitcode is None:
            raise TimeoutError(f"{self.name} still runs after {timeout} s")
        record = self._read_record()
        if not record:
            raise NoResult(f"{self.name} {_end_of(self.exitcode)} before it had a result")
        self._is_told = True
        start = _HEAD.size + _HEAD.unpack_from(record)[1]
        text = record[_HEAD.size : start].decode()
        # The function is the caller's own, and so is what it returned.
        error, value = pickle.loads(memoryview(record)[start:])  # noqa: S301
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
        """Return the record; nothing if the process ended before it had written all of it."""
        size = os.fstat(self._record).st_size
        data = bytearray()
        while chunk := os.pread(self._record, min(size - len(data), 1 << 24), len(data)):
            data += chunk
        is_whole = size >= _HEAD.size and size == _HEAD.size + sum(_HEAD.unpack_from(data)[1:])
        return bytes(data) if is_whole else b""

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
            self._tell_unasked()
            os.close(self._record)
            self._record = -1

    def _tell_unasked(self) -> None:
        """Print the traceback of an exception that nobody has asked for."""
        if self._is_told or self._parent_pid != os.getpid() or sys.stderr is None:
            return
        self._is_told = True
        # Without a file object: at the end of the program there is no `open` any more.
        head = os.pread(self._record, _HEAD.size, 0)
        if len(head) == _HEAD.size:
            is_wanted, length, _ = _HEAD.unpack(head)
            if is_wanted:
                text = os.pread(self._record, length, _HEAD.size).decode(errors="replace")
                sys.stderr.write(f"Process {self.name}:\n{text}")

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


def _text_of(error: BaseException) -> str:
    """Return the traceback as text; only the message, if a module for that cannot be imported.

    Python imports some only when it looks for the lines of the source, which may be when the
    standard library is not in the root any more: always tokenize, from 3.13 on (linecache), and
    ast, if there are such lines.
    """
    try:
        return "".join(traceback.format_exception(error))
    except ImportError:
        return "".join(traceback.format_exception_only(error))


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
