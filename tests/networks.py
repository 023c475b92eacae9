"""Networks for tests, and what commands on them do."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import uuid

from boxes import SERVER, Box, box
from conftest import SCRIPT, outcome

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

# For each place HOST:PORT or HOST (port 80), what came back, or the name of the error.
ASK = """
import errno, json, socket, sys
def ask(place):
    host, _, port = place.partition(":")
    try:
        with socket.create_connection((host, int(port or 80)), timeout=60) as one:
            one.sendall(b"hello")
            one.shutdown(socket.SHUT_WR)
            return one.makefile().read()
    except socket.gaierror:
        return "unknown"
    except OSError as error:
        return errno.errorcode.get(error.errno, str(error))
print(json.dumps([ask(place) for place in sys.argv[1:]]))
"""


def run(*words: str, check: bool = True) -> str:
    """Run `pyspaces` with these words, and return what it prints."""
    return outcome([SCRIPT, *words], check=check, stdin=subprocess.DEVNULL).stdout


@contextlib.contextmanager
def network(*words: str) -> Iterator[str]:
    """Create a network, and yield its name; remove it in the end, whoever is on it."""
    name = f"test-{uuid.uuid4().hex[:12]}"
    run("network", "create", *words, name)
    try:
        yield name
    finally:
        run("network", "remove", "--force", name, check=False)  # a test may have done so


def names() -> list[str]:
    return [row["name"] for row in listed()]


def listed() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(run("network", "list", "--json"))
    return found


def members(name: str) -> dict[str, str]:
    """Return the host name of each command on a network, by address."""
    (row,) = [row for row in listed() if row["name"] == name]
    return {address: one["hostname"] for one in row["members"] for address in one["addresses"]}


def own(name: str, *words: str) -> tuple[str, ...]:
    return ("--user", f"--net={name}", *words)


@contextlib.contextmanager
def server(name: str, *words: str, verb: str = "echo", address: str = "0.0.0.0") -> Iterator[Box]:
    """Run a server on a network, on port 80 of every address it has; yield once it listens."""
    command = ("--", sys.executable, SERVER, verb, address, "80")
    with box(*words, *command, own=own(name)) as running:
        assert running.line() == "ready 80"
        yield running


def ask(name: str, *places: str, words: tuple[str, ...] = ()) -> list[str]:
    """Connect from a command on a network to these places; return what each has answered."""
    more = words or ("--user",)
    told = run("run", *more, f"--net={name}", "--", "/usr/bin/python3", "-c", ASK, *places)
    found: list[str] = json.loads(told)
    return found


def directory() -> str:
    """Return the directory of the files of networks."""
    from pyspaces.features.existing import runtime

    return runtime.directory()


def files(name: str) -> list[str]:
    return sorted(one for one in os.listdir(directory()) if f":{name}" in one or one == name)
