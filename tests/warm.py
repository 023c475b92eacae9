"""Lines that click reads, run by a process that has loaded click: each in a fork of its own.

Most of the time of `pyspaces list` or of a usage error is that of loading click and the commands,
again in each test. Here it is done once. What runs is the command line itself, in a process with
the arguments, the variables, the directory and the standard streams that it is given; what it does
not have is an interpreter of its own. A line that launches anything is for the console script: what
it may load, and when, is part of what is tested.

As a program: serves at the path of a socket, until the process that asks has gone.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

from pyspaces import cli
from pyspaces.commands import fast
from pyspaces.errors import SpaceError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import NoReturn

# What Python reads of the environment as it starts.
_AT_START = ("PYTHON", "LC_", "LANG", "LD_", "MALLOC_")
# What the server runs before anything else: lines by which most modules are loaded.
_FIRST = (
    *("run --dry-run --user --bind /a /b -- true", "run --help", "run --nonsense", "list"),
    *("translate -- unshare -r true", "run --user", "profile list", "completion bash"),
)
_place: list[str] = []


def fits(words: Sequence[str], env: Mapping[str, str] | None, text: str | None) -> bool:
    """Tell whether a command line launches nothing, and could as well have been started here."""
    if env is not None and _at_start(env) != _at_start(os.environ):
        return False
    if "\0" in "".join(words) or len("".join(words)) > 1 << 15 or len(text or "") > 1 << 14:
        return False
    if any(word[:6] == "--args" for word in words) or words[:1] == ["as"]:
        return False
    return words[:1] not in (["run"], ["enter"]) or _is_for_click(words)


def _is_for_click(words: Sequence[str]) -> bool:
    """Tell whether a line of `run` or `enter` is left to click, or only shows something."""
    options, _, _ = "\0".join(words).partition("\0--\0")
    if {"--dry-run", "--help", "-h", "--help-all"} & {*options.split("\0")}:
        return True
    if {"--no-fork", "-F"} & {*options.split("\0")}:  # this process would be the command
        return False
    reader = fast.line_of_run if words[0] == "run" else fast.line_of_enter
    try:
        return reader(words[1:]) is None
    except SpaceError:
        return False


def _at_start(env: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in env.items() if name.startswith(_AT_START)}


def run(
    words: Sequence[str],
    *,
    env: Mapping[str, str] | None = None,
    cwd: str | Path | None = None,
    text: str | None = None,
    timeout: float = 120,
    by_click: bool = False,
) -> subprocess.CompletedProcess[str]:
    """Run a command line, without the program's name, to its end.

    text: its input. by_click: click reads it even if `fast` could.
    """
    variables = dict(os.environ if env is None else env)
    request = json.dumps([[*words], variables, by_click]).encode()
    with contextlib.ExitStack() as opened:
        reading = os.open("/dev/null", os.O_RDONLY) if text is None else _pipe_with(text)
        opened.callback(os.close, reading)
        outputs = [os.pipe(), os.pipe()]
        for ours, _ in outputs:
            opened.callback(os.close, ours)
        place = os.open("." if cwd is None else cwd, os.O_PATH)
        own = opened.enter_context(socket.socket(socket.AF_UNIX))
        own.settimeout(timeout)
        theirs = [reading, *(theirs for _, theirs in outputs), place]
        try:
            own.connect(_server())
            socket.send_fds(own, [len(request).to_bytes(4, "little")], theirs)
        finally:
            for number in theirs[1:]:
                os.close(number)
        own.sendall(request)
        told = _all_of([ours for ours, _ in outputs], timeout)
        if told is None:
            raise subprocess.TimeoutExpired([*words], timeout)
        status = int(own.recv(16))
    output, errors = map(_text_of, told)
    return subprocess.CompletedProcess(["pyspaces", *words], status, output, errors)


def _pipe_with(text: str) -> int:
    """Return the end of a pipe in which this text is, which has to fit in."""
    reading, writing = os.pipe()
    with open(writing, "wb", 0) as pipe:
        pipe.write(text.encode())
    return reading


def _text_of(data: bytes) -> str:
    return data.decode(errors="surrogateescape").replace("\r\n", "\n").replace("\r", "\n")


def _all_of(numbers: list[int], timeout: float) -> list[bytes] | None:
    """Read each of these descriptors to its end; return None if that takes too long."""
    told = dict.fromkeys(numbers, b"")
    with selectors.DefaultSelector() as waiting:
        for number in numbers:
            waiting.register(number, selectors.EVENT_READ)
        while waiting.get_map():
            ready = waiting.select(timeout)
            if not ready:
                return None
            for key, _ in ready:
                data = os.read(key.fd, 1 << 16)
                told[key.fd] += data
                if not data:
                    waiting.unregister(key.fd)
    return list(told.values())


def _server() -> str:
    """Return the path of the server's socket; start it if nobody has needed it so far."""
    if not _place:
        # Nobody else may ask it for anything.
        directory = tempfile.mkdtemp(prefix="pyspaces-warm-")
        path = f"{directory}/socket"
        words = [sys.executable, __file__, path, str(os.getpid())]
        none = subprocess.DEVNULL
        subprocess.run(words, check=True, cwd="/", stdin=none, stdout=none, stderr=none)
        _place.append(path)
    return _place[0]


def serve(path: str, caller: int) -> None:
    """Load what lines that click reads need, and serve until the caller has gone."""
    import click

    from pyspaces import finding
    from pyspaces.commands import group

    finding.install()
    for name in group.COMMANDS:
        group.group.get_command(click.Context(group.group), name)
    for line in _FIRST:
        cli.main(line.split())
    sys.stdout.flush()
    gone = os.pidfd_open(caller)
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(path)
    listening.listen(64)
    # Not a child of the caller: a test may ask what children it has.
    if os.fork():
        os._exit(0)
    gc.collect()
    gc.freeze()
    waiting = selectors.DefaultSelector()
    waiting.register(gone, selectors.EVENT_READ)
    waiting.register(listening, selectors.EVENT_READ)
    while True:
        for key, _ in waiting.select():
            if key.fd == gone:
                os.unlink(path)
                os.rmdir(os.path.dirname(path))
                return
            if key.fd == listening.fileno():
                _begin(listening.accept()[0], waiting)
            else:
                _end(key, waiting)


def _begin(connection: socket.socket, waiting: selectors.BaseSelector) -> None:
    """Start what is asked for; whoever asks is told once it has ended."""
    head, numbers, _, _ = socket.recv_fds(connection, 4, 8)
    length = int.from_bytes(head, "little")
    request = b""
    while len(request) < length:
        request += connection.recv(length - len(request))
    child = os.fork()
    if not child:
        _become(numbers, *json.loads(request))
    for number in numbers:
        os.close(number)
    ended = os.pidfd_open(child)
    waiting.register(ended, selectors.EVENT_READ, (child, connection))
    waiting.register(connection, selectors.EVENT_READ, (child, None))


def _end(key: selectors.SelectorKey, waiting: selectors.BaseSelector) -> None:
    """A child has ended, or nobody waits for it any more."""
    child, connection = key.data
    waiting.unregister(key.fileobj)
    if connection is None:
        os.kill(child, signal.SIGKILL)
        return
    _, status = os.waitpid(child, 0)
    with contextlib.suppress(KeyError):
        waiting.unregister(connection)
    with connection, contextlib.suppress(OSError):
        connection.sendall(b"%d" % os.waitstatus_to_exitcode(status))
    os.close(key.fd)


def _become(
    numbers: list[int], words: list[str], variables: dict[str, str], by_click: bool
) -> NoReturn:
    """Run a command line in this process, which has just been forked."""
    try:
        os.fchdir(numbers[3])
        for place, number in enumerate(numbers[:3]):
            os.dup2(number, place)
        os.closerange(3, 1024)
        os.environ.clear()
        os.environ.update(variables)
        sys.argv = [str(Path(sys.executable).with_name("pyspaces")), *words]
        if by_click:  # our own seam
            fast.launch = lambda arguments: None
        cli.run()
    except SystemExit as error:  # as click ends an answer to a shell
        sys.stdout.flush()
        os._exit(error.code if isinstance(error.code, int) else 0)
    except BaseException as error:  # noqa: BLE001 - told, not left to the server's loop
        os.write(2, repr(error).encode())
    finally:
        os._exit(70)


if __name__ == "__main__":
    gc.disable()
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    serve(sys.argv[1], int(sys.argv[2]))
