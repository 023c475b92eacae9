"""Commands in namespaces for asyncio: `create_subprocess_exec` and `create_subprocess_shell`.

Runs in the parent. asyncio's own transport and streams do the pipes; the process is a
`command.Popen`, and its end is noticed by a pidfd: no thread, no child watcher.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
from asyncio import base_subprocess
from asyncio import subprocess as aio_subprocess
from typing import Any

from pyspaces.library.command import Popen
from pyspaces.record import told

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Awaitable
    from typing import TypeVar, Unpack

    from pyspaces.library import keywords as kw
    from pyspaces.library.command import Words
    from pyspaces.plan import Plan
    from pyspaces.status import Status, Usage

    T = TypeVar("T")

_LIMIT = 1 << 16  # bytes that a StreamReader buffers, as in asyncio
# When to check, in seconds after a signal, whether a process 1 has ended: see Popen.send_signal.
_LOOKS = (0.01, 0.05, 0.25)
# What asyncio takes for the sake of subprocess.Popen, if it changes nothing.
_NOT_FOR_STREAMS = ("universal_newlines", "text", "encoding", "errors", "bufsize")


class _Transport(base_subprocess.BaseSubprocessTransport):
    """asyncio's transport of a process, which is a Popen in new namespaces."""

    command: Popen
    _loop: asyncio.AbstractEventLoop
    _watched = -1

    def _start(self, args: Any, shell: bool, *streams: Any, **keywords: Any) -> None:
        named = dict(zip(("stdin", "stdout", "stderr", "bufsize"), streams, strict=False))
        self.command = self._proc = Popen(args, shell=shell, **named, **keywords)
        # A copy: whoever polls the process first closes the original.
        self._watched = os.dup(self.command.pidfd)
        self._loop.add_reader(self._watched, self._notice_end)

    def _notice_end(self) -> None:
        if (code := self.command.poll()) is not None and self._watched >= 0:
            self._loop.remove_reader(self._watched)
            os.close(self._watched)
            self._watched = -1
            self._process_exited(code)

    def __del__(self, *given: Any) -> None:
        try:
            super().__del__(*given)  # with -W error, its warning is an exception
        finally:
            # The loop was closed before the end was noticed.
            if self._watched >= 0:
                os.close(self._watched)
                self._watched = -1

    def send_signal(self, signal: int) -> None:
        self._check_proc()
        self.command.send_signal(signal)
        for delay in _LOOKS:
            self._loop.call_later(delay, self._notice_end)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


class Process(aio_subprocess.Process):
    """A running command: `asyncio.subprocess.Process`, with two differences.

    A task that is cancelled in `wait` or `communicate` kills the command, and waits for its end.
    `status` and `usage` are those of `Popen`.
    """

    _transport: _Transport

    @property
    def status(self) -> Status | None:
        """How the command ended, as exit status or signal; None while it runs."""
        return self._transport.command.status

    @property
    def usage(self) -> Usage | None:
        """The time and memory that the command used; None while it runs."""
        return self._transport.command.usage

    async def wait(self) -> int:
        """Wait for the command to end, and return its exit status, or minus the signal."""
        return await self._or_killed(super().wait())

    async def communicate(
        self,
        input: bytes | bytearray | memoryview | None = None,  # noqa: A002 - asyncio's name
    ) -> tuple[bytes, bytes]:
        """Send `input`, read all output, and wait for the end; return (stdout, stderr)."""
        return await self._or_killed(super().communicate(input))

    async def _or_killed(self, waiting: Awaitable[T]) -> T:
        try:
            return await waiting
        except asyncio.CancelledError:
            if self.returncode is None:
                self.kill()
                await super().wait()
            raise


async def create_subprocess_exec(
    program: Words,
    *args: Words,
    stdin: Any = None,
    stdout: Any = None,
    stderr: Any = None,
    limit: int = _LIMIT,
    plan: Plan | None = None,
    **keywords: Unpack[kw.Streams],
) -> Process:
    """Start a command in new namespaces: `asyncio.create_subprocess_exec`.

    program, args, stdin, stdout, stderr, limit: as there. Further keywords: as for `Popen`, but
    for those that decode text. Returns a Process; its streams are asyncio's.
    """
    if keywords.pop("shell", False):  # type: ignore[typeddict-item]
        raise ValueError("shell: create_subprocess_shell starts a shell")
    return await _create(
        (program, *args), False, (stdin, stdout, stderr), limit, {"plan": plan, **keywords}
    )


async def create_subprocess_shell(
    cmd: str | bytes,
    *,
    stdin: Any = None,
    stdout: Any = None,
    stderr: Any = None,
    limit: int = _LIMIT,
    plan: Plan | None = None,
    **keywords: Unpack[kw.Streams],
) -> Process:
    """Start a shell command in new namespaces: `asyncio.create_subprocess_shell`.

    cmd: the text for /bin/sh. The rest as for `create_subprocess_exec`.
    """
    if not isinstance(cmd, str | bytes):
        raise ValueError(f"cmd: takes the text for a shell, and is {told(cmd)}")
    if not keywords.pop("shell", True):  # type: ignore[typeddict-item]
        raise ValueError("shell: create_subprocess_exec starts a command without one")
    return await _create(cmd, True, (stdin, stdout, stderr), limit, {"plan": plan, **keywords})


async def _create(
    args: Any, shell: bool, streams: tuple[Any, Any, Any], limit: int, keywords: dict[str, Any]
) -> Process:
    for name in _NOT_FOR_STREAMS:
        if keywords.pop(name, None):
            raise ValueError(f"{name}: the streams of asyncio carry bytes")
    loop = asyncio.get_running_loop()
    protocol = aio_subprocess.SubprocessStreamProtocol(limit=limit, loop=loop)
    connected = loop.create_future()
    transport = _Transport(loop, protocol, args, shell, *streams, 0, waiter=connected, **keywords)
    try:
        await connected
    except BaseException:
        transport.close()
        await transport._wait()
        raise
    return Process(transport, protocol, loop)


PIPE, STDOUT, DEVNULL = subprocess.PIPE, subprocess.STDOUT, subprocess.DEVNULL
