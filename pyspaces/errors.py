"""Errors: the exceptions that users see, and the report that a child sends to its parent.

Runs in any process. Must not know click: `cli` turns an error into text and an exit status.
"""

from __future__ import annotations

import errno
import os

from pyspaces import status
from pyspaces.kernel.libc import KernelError
from pyspaces.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any


class Stage(str):
    """A stage of a launch: the text after `cannot` in an error, and a code.

    The text may change at any time. `code` is stable: compare that.
    """

    __slots__ = ("code",)
    code: str

    def __new__(cls, text: str, code: str) -> Stage:
        """Return the stage `text` with the code `code`."""
        stage = super().__new__(cls, text)
        stage.code = code
        return stage


class Hint(str):
    """A hint: its text, and the code under which pyspaces-hints(7) and the documentation have more.

    The text may change at any time. `code` is stable.
    """

    __slots__ = ("code",)
    code: str

    def __new__(cls, text: str, code: str = "") -> Hint:
        """Return the hint `text` with the code `code`."""
        hint = super().__new__(cls, text)
        hint.code = code
        return hint


PREPARE = Stage("prepare the launch", "prepare")
CREATE = Stage("create the namespaces", "create")
JOIN = Stage("join the namespaces", "join")
MAP = Stage("write the id maps", "map")
WAIT = Stage("wait for the id maps", "wait")
KEEP = Stage("keep the namespaces", "keep")
NETWORK = Stage("open the ports", "network")
UPLINK = Stage("connect the network with that of the host", "uplink")
CGROUP = Stage("limit the command by a cgroup", "cgroup")
BETWEEN = Stage("connect to the network", "between")
PROC = Stage("mount a new /proc", "mount-proc")
WORKDIR = Stage("change to the working directory", "workdir")
BOUNDING = Stage("limit the bounding set", "bounding")
CAPABILITIES = Stage("set the capabilities", "capabilities")
SCHEDULING = Stage("set the scheduling", "scheduling")
RLIMITS = Stage("set the resource limits", "rlimits")
LANDLOCK = Stage("restrict access by Landlock", "landlock")
SECCOMP = Stage("install the seccomp filter", "seccomp")
EXECUTE = Stage("execute the command", "execute")
# The text of a report at EXECUTE if the confinement of the command is the only cause.
CONFINED = "before the command was confined, it could have been executed"
# The same, if that is the only cause why a file that is there cannot be executed.
IS_DIRECTORY = "it is a directory"
NO_PERMISSION = "nobody has the permission to execute this file"
MOUNTED_NOEXEC = "it is on a mount with the option noexec"
# The text of a refusal to create a target there.
NOT_CREATED = "it would have to be created in a directory of the host, which is left as it is"
CAN_NEST = "the command can create user namespaces"


class SpaceError(Exception):
    """A launch that pyspaces could not carry out.

    `message` says what failed, which one and why; `details` are further lines; `hint` is a remedy,
    if the state of the host explains the failure; `report` says where it occurred (None if
    nothing had run yet); `exit_status` is the exit status of the command line.
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

    def __reduce__(self) -> tuple[object, ...]:
        """Let pickle rebuild the error without __init__, whose arguments differ by class."""
        return _restored, (type(self), self.args, dict(vars(self)))

    def to_bytes(self) -> bytes:
        """Return the texts and the exit status as one message of limited size."""
        fields = (str(self.exit_status), self.hint or "", self.message, *self.details)
        return b"\0".join(os.fsencode(text.replace("\0", ""))[:_LONGEST_FIELD] for text in fields)

    @classmethod
    def from_bytes(cls, data: bytes) -> SpaceError:
        """Rebuild an error from `to_bytes`."""
        code, hint, message, *details = map(os.fsdecode, data.split(b"\0"))
        return SpaceError(message, details=details, hint=hint or None, exit_status=int(code))

    def __str__(self) -> str:
        """Return message, details and hint as lines, with control characters escaped."""
        hint = [f"hint: {visible(self.hint)}"] if self.hint else []
        details = (f"  {visible(line)}" for line in self.details)
        return "\n".join([visible(self.message), *details, *hint])


def _restored(kind: type[SpaceError], args: Sequence[object], state: dict[str, Any]) -> SpaceError:
    error = kind.__new__(kind, *args)
    vars(error).update(state)
    return error


class UsageFault(SpaceError, ValueError):
    """Settings that are invalid or contradict each other; nothing was created."""

    def __init__(self, faults: Sequence[str], *, hint: str | None = None) -> None:
        first, *rest = faults
        super().__init__(first, details=rest, hint=hint, exit_status=status.USAGE)
        self.faults = tuple(faults)


class InternalError(SpaceError):
    """A bug in pyspaces: an unexpected exception."""

    def __init__(self, error: Exception) -> None:
        super().__init__(internal_text(str(error)), hint=REPORT_BUG)


class Interrupted(SpaceError):
    """A signal ended the launch before the command had started; nothing is left running."""

    def __init__(self, signal: int) -> None:
        super().__init__(f"interrupted by {status.signal_name(signal)} before the command started")
        self.signal = signal


class Refusal(KernelError):
    """A failure with its own stage, or with a reason in words instead of an errno.

    stage: as in Report; empty for the stage in which it is raised. text: the reason if `number` is
    0, otherwise a further line. what: the call, or a description of `path`.
    """

    def __init__(
        self, text: str = "", *, number: int = 0, what: str = "", path: str | None = None
    ) -> None:
        super().__init__(number, what, (), path)
        self.text = text
        self.stage = ""


class Report(Record):
    """Where a launch failed: the stage, the call, its errno and path, and a text.

    `code` is that of the stage, if it has one. `trace` is the Python traceback, one line per frame.
    `internal` is set for a bug in pyspaces; `text` is then the message of the exception, which may
    be empty.
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
        return cls(
            stage=str(stage),
            code=stage.code if isinstance(stage, Stage) else "",
            call=call,
            errno=number,
            path=path,
            text=text,
            trace=trace_of(error),
            internal=internal,
        )

    def to_bytes(self) -> bytes:
        """Return the report as one message of limited size: fields separated by NULs."""
        values = {**self._held(), "internal": "yes" if self.internal else ""}.values()
        texts = (str(value).replace("\0", "") for value in values)
        return b"\0".join(os.fsencode(text)[:_LONGEST_FIELD] for text in texts)

    @classmethod
    def from_bytes(cls, data: bytes) -> Report:
        """Rebuild a report from `to_bytes`."""
        texts: dict[str, Any] = dict(
            zip(cls._fields, map(os.fsdecode, data.split(b"\0")), strict=True)
        )
        return cls(**{**texts, "errno": int(texts["errno"]), "internal": bool(texts["internal"])})

    def sentence(self) -> str:
        """Return `what: which: why` in one line."""
        what = " ".join(part for part in (self.call, self.path) if part)
        why = os.strerror(self.errno) if self.errno else self.text
        if self.internal:
            why = internal_text(self.text)
        return ": ".join(part for part in (f"cannot {self.stage}", what, why) if part)


TILDE = "a shell leaves ~ as it is behind =, and in quotes: write $HOME"
DESCRIPTOR_LIMIT = "this process cannot open more files: see `ulimit -n`"
REPORT_BUG = "this is a bug in pyspaces: please report it, with the output of --debug"
# A message must fit the socket buffer whole; paths end at 4,096 bytes anyway.
_LONGEST_FIELD = 8192


def internal_text(text: str) -> str:
    """Return the message of an internal error, in one line; without the class of the exception.

    text: the message of the exception, which may be empty.
    """
    return ": ".join(part for part in ("internal error", " ".join(text.split())) if part)


def _as_text(path: object) -> str:
    return os.fsdecode(path) if isinstance(path, str | bytes) else ""


def trace_of(error: BaseException) -> str:
    """Format the traceback without `traceback`, which the child of a fork can no longer import."""
    lines, frame = [], error.__traceback__
    while frame is not None:
        code = frame.tb_frame.f_code
        lines.append(f"{code.co_filename}:{frame.tb_lineno} in {code.co_name}")
        frame = frame.tb_next
    return "\n".join([*lines, f"{type(error).__name__}: {error}"])


def visible(text: str) -> str:
    r"""Return `text` in one line, with control and invisible characters as \xNN.

    These are all that str.isprintable() rejects: the controls C0, DEL and C1, line and paragraph
    separators, format characters (among them those that turn the direction of writing), blanks
    other than the space, unassigned code points, and bytes that are not text. One \xNN for
    each byte of its UTF-8, which is what the quotes $'...' of bash and zsh read.
    """
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else _escaped(char) for char in text)


def visible_lines(text: str) -> str:
    """Return `text` as `visible` does, but keep line feeds: for text that we have split into lines.

    Text of others in a line has to go through `visible` first: a line feed in it would otherwise
    begin a line that looks like ours.
    """
    return "\n".join(map(visible, text.split("\n")))


def _escaped(char: str) -> str:
    try:
        data = char.encode(errors="surrogateescape")
    except UnicodeEncodeError:  # a lone surrogate that stands for no byte, as JSON can hold one
        data = char.encode(errors="surrogatepass")
    return "".join(f"\\x{byte:02x}" for byte in data)
