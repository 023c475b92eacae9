"""How a failure is told: the exception users see, and the report a child sends home.

Runs in any process. Must not know click: turning an error into text and an exit status is
the business of `cli`.
"""

from __future__ import annotations

import errno
import os

from pyspaces import status
from pyspaces.kernel.libc import KernelError
from pyspaces.record import Record
from pyspaces.visible import visible

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence


class Stage(str):
    """A stage of a launch, as it reads behind `cannot`. `code` is what programs compare.

    The text may be reworded at any time; a code stays.
    """

    __slots__ = ("code",)
    code: str

    def __new__(cls, text: str, code: str) -> Stage:
        """Return the stage `text` with its code."""
        stage = super().__new__(cls, text)
        stage.code = code
        return stage


PREPARE = Stage("prepare the launch", "prepare")
CREATE = Stage("create the namespaces", "create")
JOIN = Stage("join the namespaces", "join")
MAP = Stage("write the id maps", "map")
WAIT = Stage("wait for the id maps", "wait")
KEEP = Stage("keep the namespaces", "keep")
PROC = Stage("mount a new /proc", "mount-proc")
BOUNDING = Stage("limit the bounding set", "bounding")
CAPABILITIES = Stage("set the capabilities", "capabilities")
EXECUTE = Stage("execute the command", "execute")


class SpaceError(Exception):
    """A launch that pyspaces itself could not carry out.

    `message` says what failed, which one and why; `details` are further lines; `hint` is the
    cure where the state of the host explains the failure; `report` is where it happened (None
    for a fault found before anything ran). `exit_status` is what the command line ends with.
    """

    def __init__(
        self,
        message: str,
        *,
        details: Sequence[str] = (),
        hint: str | None = None,
        exit_status: int = status.FAILED,
        report: Report | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.details = tuple(details)
        self.hint = hint
        self.exit_status = exit_status
        self.report = report

    def to_bytes(self) -> bytes:
        """Return what people read, and the exit status, as one bounded message."""
        fields = (str(self.exit_status), self.hint or "", self.message, *self.details)
        return b"\0".join(os.fsencode(text.replace("\0", ""))[:_LONGEST_FIELD] for text in fields)

    @classmethod
    def from_bytes(cls, data: bytes) -> SpaceError:
        """Rebuild an error from `to_bytes`."""
        code, hint, message, *details = map(os.fsdecode, data.split(b"\0"))
        return SpaceError(message, details=details, hint=hint or None, exit_status=int(code))

    def __str__(self) -> str:
        """Return what people read, a line each: what is in them may be a path or name of others."""
        hint = [f"hint: {visible(self.hint)}"] if self.hint else []
        details = (f"  {visible(line)}" for line in self.details)
        return "\n".join([visible(self.message), *details, *hint])


class UsageFault(SpaceError):
    """Settings that contradict each other or mean nothing: refused before anything is created."""

    def __init__(self, faults: Sequence[str], *, hint: str | None = None) -> None:
        first, *rest = faults
        super().__init__(first, details=rest, hint=hint, exit_status=status.USAGE)
        self.faults = tuple(faults)


class InternalError(SpaceError):
    """A bug of pyspaces: something was raised that nobody foresaw."""

    def __init__(self, error: Exception) -> None:
        super().__init__(internal_text(str(error)), hint=REPORT_BUG)


class Interrupted(SpaceError):
    """A signal told the launcher to end before the command had started; nothing is left running."""

    def __init__(self, signal: int) -> None:
        super().__init__(f"interrupted by {status.signal_name(signal)} before the command started")
        self.signal = signal


class Refusal(KernelError):
    """A failure that names its own stage, or says why in words instead of an errno.

    stage: as in Report; empty for the stage at which it is raised. text: the reason where `number`
    is 0, else a further line for people. what: the call, or what `path` is.
    """

    def __init__(
        self, text: str = "", *, number: int = 0, what: str = "", path: str | None = None
    ) -> None:
        super().__init__(number, what, (), path)
        self.text = text
        self.stage = ""


class Report(Record):
    """Where a launch failed: the stage, the call, its errno and path, and text for people.

    `code` is that of the stage, where it has one. `trace` is the Python traceback, one line per
    frame. `internal` tells a bug of pyspaces from what the system refuses; `text` is then what the
    exception says, which may be nothing.
    """

    stage: str
    code: str = ""
    call: str = ""
    errno: int = 0
    path: str = ""
    text: str = ""
    trace: str = ""
    internal: bool = False

    @classmethod
    def of(cls, stage: str, error: BaseException, *, text: str = "", path: str = "") -> Report:
        """Describe `error`, raised while doing `stage`."""
        call, number, internal = "", 0, False
        if isinstance(error, OSError):
            number = error.errno or 0
            path = path or _as_text(error.filename)
        if isinstance(error, KernelError):
            call = error.call
        elif isinstance(error, OSError) and not number:
            text = text or str(error)
        if isinstance(error, Refusal):
            stage, text = error.stage or stage, text or error.text
        if isinstance(error, MemoryError):
            number = errno.ENOMEM
        elif isinstance(error, SpaceError):
            text = text or error.message
        elif not isinstance(error, OSError):
            internal, text = True, text or str(error)
        trace = trace_of(error)
        return cls(
            stage=str(stage),
            code=stage.code if isinstance(stage, Stage) else "",
            call=call,
            errno=number,
            path=path,
            text=text,
            trace=trace,
            internal=internal,
        )

    def to_bytes(self) -> bytes:
        """Return the report as one bounded message: fields between NULs."""
        rest = (self.code, self.stage, self.call, self.errno, self.path, self.text, self.trace)
        values = (str(value).replace("\0", "") for value in (int(self.internal), *rest))
        return b"\0".join(os.fsencode(value)[:_LONGEST_FIELD] for value in values)

    @classmethod
    def from_bytes(cls, data: bytes) -> Report:
        """Rebuild a report from `to_bytes`."""
        internal, code, stage, call, number, *rest = map(os.fsdecode, data.split(b"\0"))
        path, text, trace = rest
        return cls(
            stage=stage,
            code=code,
            call=call,
            errno=int(number),
            path=path,
            text=text,
            trace=trace,
            internal=internal == "1",
        )

    def sentence(self) -> str:
        """Return `what: which: why` in one line."""
        what = " ".join(part for part in (self.call, self.path) if part)
        why = os.strerror(self.errno) if self.errno else self.text
        if self.internal:
            why = internal_text(self.text)
        return ": ".join(part for part in (f"cannot {self.stage}", what, why) if part)


REPORT_BUG = "this is a bug in pyspaces: please report it, with what --debug prints"
# A message must fit the socket buffer whole; paths end at 4,096 bytes anyway.
_LONGEST_FIELD = 8192


def internal_text(text: str) -> str:
    """Say in one line that something failed within pyspaces. The class of an exception is no text.

    text: what the exception says; empty for nothing.
    """
    return ": ".join(part for part in ("internal error", " ".join(text.split())) if part)


def _as_text(path: object) -> str:
    return os.fsdecode(path) if isinstance(path, str | bytes) else ""


def trace_of(error: BaseException) -> str:
    """Format the traceback by hand: the child of a fork may not import `traceback` any more."""
    lines, frame = [], error.__traceback__
    while frame is not None:
        code = frame.tb_frame.f_code
        lines.append(f"{code.co_filename}:{frame.tb_lineno} in {code.co_name}")
        frame = frame.tb_next
    return "\n".join([*lines, f"{type(error).__name__}: {error}"])
