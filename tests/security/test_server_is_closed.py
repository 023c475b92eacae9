"""The launch server is for its caller alone: no command and no directory gets at it."""

from __future__ import annotations

import contextlib
import fcntl
import os
import sys
from pathlib import Path

import pytest
from conftest import PROBE
from served import facts_of, seen, servers, start

from pyspaces import launch
from pyspaces.launch.server import client

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

pytestmark = pytest.mark.needs("userns", "pidns")
SPACES = [{}, {"pid": True}, {"pid": True, "init": True}, {"pid": True, "mounts": [["host-ro"]]}]


@pytest.fixture(autouse=True)
def by_server() -> Iterator[None]:
    launch.use_server(True)
    yield
    launch.use_server(False)


def descriptors(process: int | str) -> dict[int, str]:
    """Return its descriptors; none of one that nobody may look into, as before it has executed."""
    found: dict[int, str] = {}
    with contextlib.suppress(OSError):
        for name in os.listdir(f"/proc/{process}/fd"):
            with contextlib.suppress(OSError):
                found[int(name)] = os.readlink(f"/proc/{process}/fd/{name}")
    return found


def has_socket(process: int) -> bool:
    return any("socket:" in link for link in descriptors(process).values())


@pytest.mark.parametrize("values", SPACES, ids=lambda values: "-".join(values) or "user")
def test_no_command_inherits_anything_of_it(
    values: dict[str, Any], wait_until: Callable[..., None]
) -> None:
    with start("sleep", "60", **values) as running:
        assert servers()
        command = running.pid
        if "init" in values:
            children = Path(f"/proc/{running.pid}/task/{running.pid}/children")
            wait_until(lambda: children.read_text().split(), "the command")
            command = int(children.read_text())
            if os.geteuid() == 0:  # others may not look into our process 1
                # It closes what it has when the command has begun.
                first = running.pid
                wait_until(lambda: not has_socket(first), "process 1 has no socket")
        expected = {number for number in descriptors("self") if os.get_inheritable(number)}
        wait_until(lambda: set(descriptors(command)) == expected, "what a command inherits")
        assert not has_socket(command)
        running.send_signal(9)
        running.wait(60)


def test_its_sockets_have_no_name_and_vanish_with_exec() -> None:
    seen("true")
    server = client._State.server
    assert server
    number = server._socket.fileno()
    assert fcntl.fcntl(number, fcntl.F_GETFD) & fcntl.FD_CLOEXEC
    assert fcntl.fcntl(server._pidfd, fcntl.F_GETFD) & fcntl.FD_CLOEXEC
    assert (server._socket.getsockname(), server._socket.getpeername()) == ("", "")


def test_it_keeps_nothing_of_what_it_was_sent(wait_until: Callable[..., None]) -> None:
    seen("true")
    (server,) = servers()
    # The command may have ended before the server has closed all of it.
    wait_until(lambda: sorted(descriptors(server)) == [0, 1, 2, 3, 4], "nothing else is open")
    found = descriptors(server)
    assert [found[number] for number in range(3)] == ["/dev/null"] * 3
    assert os.readlink(f"/proc/{server}/cwd") == "/"


def test_no_variable_of_the_caller_can_be_read_from_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LD_LIBRARY_PATH", raising=False)
    monkeypatch.setenv("SECRET", "of the caller")
    seen("true")
    (server,) = servers()
    assert b"SECRET" not in Path(f"/proc/{server}/environ").read_bytes()
    assert b"SECRET" not in Path(f"/proc/{server}/cmdline").read_bytes()


def test_a_command_finds_nothing_of_the_one_before_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BEFORE", "1")
    assert "BEFORE" in seen(sys.executable, "-I", "-S", PROBE, "env")
    monkeypatch.delenv("BEFORE")
    assert "BEFORE" not in seen(sys.executable, "-I", "-S", PROBE, "env")


def test_no_code_comes_from_the_directory_or_the_environment(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    for name in ("os.py", "struct.py", "pyspaces.py", "sitecustomize.py", "marshal.py", "gc.py"):
        (tmp_path / name).write_text(f"open({str(mark)!r}, 'w')\n")
    # What the program itself imports late comes from where it says.
    text = f"""
    from pyspaces.launch.server import client
    path = {str(tmp_path)!r}
    os.chdir(path)
    os.environ.update(PYTHONPATH=path, PYTHONHOME=path, PYTHONSTARTUP=path + "/os.py")
    launch.start(settings.plan_from({{"command": ["true"]}})).wait()
    print(len(servers()))
    """
    assert facts_of(text) == "1\n"
    assert not mark.exists()


def test_it_is_dumpable_only_as_long_as_its_caller_is() -> None:
    """Who may not look into the caller finds no server to look into."""
    text = """
    from pyspaces.kernel import libc
    seen("true")
    print(len(servers()))
    libc.set_dumpable(dumpable=False)
    launch.start(settings.plan_from({"command": ["true"]})).wait()
    print(len(servers()))
    libc.set_dumpable(dumpable=True)
    seen("true")
    print(len(servers()))
    """
    assert facts_of(text) == "1\n0\n1\n"
