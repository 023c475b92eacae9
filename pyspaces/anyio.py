"""Commands in namespaces for anyio: `run_process` and `open_process`, on asyncio and on trio.

Requires `pyspaces[anyio]`. Runs in the parent. The end of a command is noticed by a pidfd, its
pipes are waited for by the event loop: no thread, no child watcher. Starting a command blocks the
loop, for some milliseconds, as in asyncio.
"""

from __future__ import annotations

import math
import os
import subprocess
from contextlib import aclosing, suppress
from subprocess import PIPE, CalledProcessError
from typing import Any

import anyio
from anyio import abc, lowlevel

from pyspaces.kernel import constants
from pyspaces.library.command import Completed, Popen

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from signal import Signals
    from typing import IO, Unpack

    from pyspaces.library import keywords as kw
    from pyspaces.library.command import Words
    from pyspaces.plan import Plan
    from pyspaces.status import Status, Usage

    Stream = int | IO[Any] | None

_CHUNK = 1 << 16
# After a signal, a process 1 is looked at this often, for that long: see Popen.send_signal.
_LOOK, _LOOKING = 0.02, 0.5
_TEXT = ("universal_newlines", "text", "encoding", "errors")


class _Receiver(abc.ByteReceiveStream):
    """What a command writes."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        os.set_blocking(file.fileno(), False)

    async def receive(self, max_bytes: int = _CHUNK) -> bytes:
        await lowlevel.checkpoint()
        while True:
            if self._file.closed:
                raise anyio.ClosedResourceError
            try:
                data = os.read(self._file.fileno(), max_bytes)
            except BlockingIOError:
                await anyio.wait_readable(self._file)
                continue
            if not data:
                raise anyio.EndOfStream
            return data

    async def aclose(self) -> None:
        _close(self._file)


class _Sender(abc.ByteSendStream):
    """What a command reads."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        os.set_blocking(file.fileno(), False)

    async def send(self, item: bytes) -> None:
        await lowlevel.checkpoint()
        left = memoryview(item)
        while left:
            if self._file.closed:
                raise anyio.ClosedResourceError
            try:
                left = left[os.write(self._file.fileno(), left) :]
            except BlockingIOError:
                await anyio.wait_writable(self._file)
            except BrokenPipeError as error:
                raise anyio.BrokenResourceError from error

    async def aclose(self) -> None:
        _close(self._file)


def _close(file: IO[bytes]) -> None:
    if not file.closed:
        anyio.notify_closing(file)
        file.close()


class Process(abc.Process):
    """A running command: `anyio.abc.Process`, with the `status` and `usage` of `pyspaces.Popen`.

    As a context manager, it waits for the command at the end of the block. If the block is
    cancelled, or fails, the command is killed, and in a new PID namespace all that it has started.
    """

    def __init__(self, command: Popen) -> None:
        self._command = command
        self._stdin = _Sender(command.stdin) if command.stdin else None
        self._stdout = _Receiver(command.stdout) if command.stdout else None
        self._stderr = _Receiver(command.stderr) if command.stderr else None
        self._waiting: set[anyio.CancelScope] = set()
        self._look_until = -math.inf

    async def wait(self) -> int:
        """Wait for the command to end, and return its exit status, or minus the signal."""
        await lowlevel.checkpoint()
        while (code := self._command.poll()) is None:
            now = anyio.current_time()
            limit = now + _LOOK if now < self._look_until else math.inf
            # A copy of its own: several tasks may wait, and whoever polls first closes it.
            descriptor = os.dup(self._command.pidfd)
            try:
                with anyio.CancelScope(deadline=limit) as scope:
                    self._waiting.add(scope)
                    await anyio.wait_readable(descriptor)
            finally:
                self._waiting.discard(scope)
                os.close(descriptor)
        return code

    def terminate(self) -> None:
        """Send SIGTERM to the command."""
        self._signal(constants.SIGTERM)

    def kill(self) -> None:
        """Send SIGKILL to the command."""
        self._signal(constants.SIGKILL)

    def send_signal(self, signal: Signals) -> None:
        """Send a signal to the command; one that has ended gets none."""
        self._signal(signal)

    def _signal(self, number: int) -> None:
        self._command.send_signal(number)
        self._look_until = anyio.current_time() + _LOOKING
        for scope in self._waiting:  # they wait anew, and look meanwhile
            scope.cancel()

    async def aclose(self) -> None:
        """Close the pipes, and wait for the command to end; kill it if that is cancelled."""
        for stream in (self._stdin, self._stdout, self._stderr):
            if stream:
                _close(stream._file)
        try:
            await self.wait()
        except BaseException:
            await self._end()
            raise

    async def _end(self) -> None:
        self.kill()
        with anyio.CancelScope(shield=True):
            await self.wait()

    async def __aexit__(self, kind: object, *_: object) -> None:
        """Close the process; after an exception, kill the command first."""
        if kind is not None:
            self.kill()
        await self.aclose()

    @property
    def pid(self) -> int:
        """The process ID of the command, as the caller sees it."""
        return self._command.pid

    @property
    def returncode(self) -> int | None:
        """The exit status, or minus the signal; None while the command runs."""
        return self._command.poll()

    @property
    def status(self) -> Status | None:
        """How the command ended, as exit status or signal; None while it runs."""
        return self._command.status

    @property
    def usage(self) -> Usage | None:
        """The time and memory that the command used; None while it runs."""
        return self._command.usage

    @property
    def stdin(self) -> abc.ByteSendStream | None:
        """The stream to standard input, if it is a pipe."""
        return self._stdin

    @property
    def stdout(self) -> abc.ByteReceiveStream | None:
        """The stream from standard output, if it is a pipe."""
        return self._stdout

    @property
    def stderr(self) -> abc.ByteReceiveStream | None:
        """The stream from standard error, if it is a pipe."""
        return self._stderr


async def open_process(
    command: Words | Sequence[Words],
    *,
    stdin: Stream = PIPE,
    stdout: Stream = PIPE,
    stderr: Stream = PIPE,
    plan: Plan | None = None,
    **keywords: Unpack[kw.Streams],
) -> Process:
    """Start a command in new namespaces: `anyio.open_process`.

    command: a text for the shell, or a sequence of words. stdin, stdout, stderr: as there.
    plan, and further keywords: as for `pyspaces.Popen`, but for those that decode text. So
    user=True creates a user namespace, and setuid, setgid and groups are for another user inside.

    Returns a Process, whose streams are anyio's. Raises what `pyspaces.Popen` raises.
    """
    for name in _TEXT:
        if keywords.get(name):
            raise ValueError(f"{name}: the streams of anyio carry bytes")
    shell = isinstance(command, str | bytes)
    streams = {"stdin": stdin, "stdout": stdout, "stderr": stderr}
    given: dict[str, Any] = {**streams, **keywords}
    await lowlevel.checkpoint()
    return Process(Popen(command, 0, shell=shell, plan=plan, **given))


async def run_process(
    command: Words | Sequence[Words],
    *,
    input: bytes | None = None,  # noqa: A002 - anyio's name
    stdin: Stream = None,
    stdout: Stream = PIPE,
    stderr: Stream = PIPE,
    check: bool = True,
    plan: Plan | None = None,
    **keywords: Unpack[kw.Streams],
) -> Completed:
    """Run a command in new namespaces, and return its result: `anyio.run_process`.

    command: a text for the shell, or a sequence of words. input, stdin, stdout, stderr, check: as
    there, so output is captured, and a failure raises CalledProcessError, unless told otherwise.
    plan, and further keywords: as for `open_process`.

    Returns what `pyspaces.run` returns. If it is cancelled, the command is killed, and in a new PID
    namespace all that it has started. Raises what `pyspaces.Popen` raises.
    """
    if stdin is not None and input is not None:
        raise ValueError("only one of stdin and input is allowed")
    stdin = stdin if input is None else PIPE
    output: dict[str, bytes] = {}
    process = await open_process(
        command, stdin=stdin, stdout=stdout, stderr=stderr, plan=plan, **keywords
    )
    async with process:
        async with anyio.create_task_group() as tasks:
            for name in ("stdout", "stderr"):
                if stream := getattr(process, name):
                    tasks.start_soon(_collect, stream, name, output)
            if process.stdin:
                await _feed(process.stdin, input or b"")
        code = await process.wait()
    found = output.get("stdout"), output.get("stderr")
    if check and code:
        raise CalledProcessError(code, command, *found)
    done = Completed(command, code, *found)
    done.status, done.usage = process.status, process.usage
    return done


async def _collect(stream: abc.ByteReceiveStream, name: str, output: dict[str, bytes]) -> None:
    chunks = [chunk async for chunk in stream]
    output[name] = b"".join(chunks)


async def _feed(stream: abc.ByteSendStream, data: bytes) -> None:
    async with aclosing(stream):
        # A command need not read all of it: `subprocess` is silent about that, too.
        with suppress(anyio.BrokenResourceError):
            await stream.send(data)


STDOUT, DEVNULL = subprocess.STDOUT, subprocess.DEVNULL
