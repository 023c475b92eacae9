"""`pyspaces.anyio` on asyncio, uvloop and trio."""

from __future__ import annotations

import asyncio
import errno
import signal
import subprocess
import time
from importlib.util import find_spec
from typing import Any

import anyio
import pytest
from conftest import processes_with

import pyspaces.anyio as spaces
from pyspaces import UsageFault, create_subprocess_exec

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

pytestmark = pytest.mark.needs("userns", "pidns")

LOOPS: dict[str, tuple[str, dict[str, Any]]] = {
    "asyncio": ("asyncio", {}),
    "uvloop": ("asyncio", {"use_uvloop": True}),
    "trio": ("trio", {}),
}
# Beyond what a pipe holds, so that both sides have to wait.
LARGE = b"x" * 3_000_000


@pytest.fixture(scope="module", autouse=True)
def started_once() -> None:
    """Let libuv open the pipe that it keeps for signals."""
    if find_spec("uvloop"):
        backend, options = LOOPS["uvloop"]
        anyio.run(anyio.sleep, 0, backend=backend, backend_options=options)


@pytest.fixture(params=LOOPS)
def in_loop(request: pytest.FixtureRequest) -> Callable[[Callable[[], Awaitable[None]]], None]:
    if find_spec(request.param) is None:  # there is no wheel of it for each interpreter
        pytest.skip(f"{request.param} cannot be installed here")
    backend, options = LOOPS[request.param]
    return lambda body: anyio.run(body, backend=backend, backend_options=options)


def test_results_are_those_of_anyio(in_loop: Any) -> None:
    async def body() -> None:
        done = await spaces.run_process("echo $$; id -u; echo no >&2", user=True, pid=True)
        assert (done.returncode, done.stdout, done.stderr) == (0, b"1\n0\n", b"no\n")
        assert (done.status and done.status.code, done.usage is None) == (0, False)
        with pytest.raises(subprocess.CalledProcessError) as failed:
            await spaces.run_process(["sh", "-c", "echo out; exit 3"], user=True)
        assert (failed.value.returncode, failed.value.stdout) == (3, b"out\n")
        done = await spaces.run_process(["false"], user=True, check=False, stdout=None)
        assert (done.returncode, done.stdout) == (1, None)

    in_loop(body)


def test_pipes_carry_what_they_cannot_hold(in_loop: Any) -> None:
    async def body() -> None:
        done = await spaces.run_process(["cat"], input=LARGE, user=True, pid=True)
        assert done.stdout == LARGE
        done = await spaces.run_process(["true"], input=LARGE, user=True, pid=True)
        assert done.returncode == 0
        done = await spaces.run_process(["cat"], input=b"", user=True)
        assert done.stdout == b""

    in_loop(body)


def test_a_process_can_be_spoken_to_and_signalled(in_loop: Any) -> None:
    async def body() -> None:
        async with await spaces.open_process(["cat"], user=True, pid=True) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            await process.stdin.send(b"one")
            assert await process.stdout.receive() == b"one"
            assert not process.usage
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(process.wait)
                tasks.start_soon(process.wait)
                # Process 1 of the namespace has no handler: the kernel discards this one.
                process.terminate()
            assert process.returncode == -signal.SIGTERM
            with pytest.raises(anyio.EndOfStream):
                await process.stdout.receive()
            with pytest.raises(anyio.BrokenResourceError):
                await process.stdin.send(LARGE)
            process.kill()  # of no effect by now
        with pytest.raises(anyio.ClosedResourceError):
            await process.stdout.receive()

    in_loop(body)


def test_refusals_are_told_at_once(in_loop: Any) -> None:
    async def body() -> None:
        with pytest.raises(FileNotFoundError) as missing:
            await spaces.run_process(["no-such-command"], user=True)
        assert missing.value.errno == errno.ENOENT
        with pytest.raises(UsageFault, match="share: requires all=True"):
            await spaces.run_process(["true"], user=True, share="net")
        with pytest.raises(ValueError, match="text: the streams of anyio carry bytes"):
            await spaces.run_process(["true"], text=True)  # type: ignore[call-arg]
        with pytest.raises(ValueError, match="only one of"):
            await spaces.run_process(["true"], input=b"", stdin=subprocess.DEVNULL)

    in_loop(body)


def test_cancelling_kills_the_command_and_all_beneath_it(in_loop: Any) -> None:
    token = f"cancelled {time.monotonic_ns()}"
    script = f": {token}; (sleep 1000; :) & echo ready; wait"

    async def body() -> None:
        async with await spaces.open_process(script, user=True, pid=True) as process:
            assert process.stdout is not None
            assert await process.stdout.receive() == b"ready\n"
            with anyio.CancelScope() as scope:
                scope.cancel()
                await process.aclose()
            assert process.returncode == -signal.SIGKILL
            assert processes_with(token) == []
        started = anyio.Event()

        async def run() -> None:
            started.set()
            await spaces.run_process(["sh", "-c", script], user=True, pid=True)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(run)
            await started.wait()
            while len(processes_with(token)) < 2:
                await anyio.sleep(0.005)
            tasks.cancel_scope.cancel()
        assert processes_with(token) == []

    in_loop(body)


def test_the_interface_of_asyncio_works_under_uvloop() -> None:
    if find_spec("uvloop") is None:
        pytest.skip("uvloop cannot be installed here")

    async def body() -> None:
        process = await create_subprocess_exec(
            *("sh", "-c", "cat; echo $$"), stdin=-1, stdout=-1, user=True, pid=True
        )
        assert (await process.communicate(b"in "))[0] == b"in 1\n"
        process = await create_subprocess_exec("sleep", "1000", user=True, pid=True)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(process.wait(), 0.05)
        assert process.returncode == -signal.SIGKILL

    backend, options = LOOPS["uvloop"]
    anyio.run(body, backend=backend, backend_options=options)


@pytest.mark.anyone
@pytest.mark.parametrize("count", [5, pytest.param(100, marks=pytest.mark.stress)])
def test_many_at_once(in_loop: Any, count: int) -> None:
    async def body() -> None:
        found: dict[int, bytes] = {}

        async def one(number: int) -> None:
            done = await spaces.run_process(["echo", str(number)], user=True, pid=True)
            found[number] = done.stdout

        async with anyio.create_task_group() as tasks:
            for number in range(count):
                tasks.start_soon(one, number)
        assert found == {number: b"%d\n" % number for number in range(count)}

    in_loop(body)
