"""What the tests of the launch server share: its process, a launch that has to go through it."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

from pyspaces import launch, settings
from pyspaces.kernel import processes, procfs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pyspaces.launch import Running

NAME = "pyspaces-server"
# What a program of its own begins with.
PROLOGUE = """\
import os, signal, sys, threading, time
sys.path.insert(0, sys.argv[1])
from served import children, look, seen, servers, start
from pyspaces import launch, settings
launch.use_server(True)
"""


def children() -> list[int]:
    """Return the children of this process, but for the one that multiprocessing keeps for good."""
    from multiprocessing import resource_tracker  # not in the programs that measure themselves

    kept = resource_tracker._resource_tracker._pid  # type: ignore[attr-defined]
    return [child for child in processes.children_of(os.getpid()) if child != kept]


def servers(caller: int | None = None) -> list[int]:
    """Return the servers of a process, this one by default; one that has ended is none.

    Nor is a child of one that has not executed its command yet: its user namespace is new.
    """
    found = []
    caller = caller or os.getpid()
    for child in processes.children_of(caller):
        stat = procfs.read_or_none(f"/proc/{child}/stat") or ""
        if f"({NAME}) " in stat and ") Z" not in stat and _shares_users(child, caller):
            found.append(child)
    return found


def _shares_users(one: int, other: int) -> bool:
    try:
        return os.path.samefile(f"/proc/{one}/ns/user", f"/proc/{other}/ns/user")
    except OSError:
        return False


def start(*command: str, **values: Any) -> Running:
    """Start a command in a new user namespace."""
    return launch.start(settings.plan_from({"command": command, "user": True, **values}))


def seen(*command: str, **values: Any) -> str:
    """Return what a command in a new user namespace prints; it has to succeed."""
    reading, writing = os.pipe()
    os.set_inheritable(writing, True)
    words = ("bash", "-c", f'exec "$@" >&{writing} {writing}>&-', "bash", *command)
    try:
        running = start(*words, **values)
    except BaseException:
        os.close(reading)
        raise
    finally:
        os.close(writing)
    with running, open(reading) as file:
        text = file.read()
        status = running.wait(30)
    assert status.code == 0, status
    return text


def look() -> str:
    """Return what a child has from its parent without being told: limits, group, niceness, ..."""
    return seen(
        "sh", "-c",
        "grep Max.core /proc/self/limits; cat /proc/self/oom_score_adj;"
        " grep -E '^(Cpus_allowed|NoNewPrivs|Groups):' /proc/self/status;"
        " cut -d' ' -f 5,6,19,41 /proc/self/stat; readlink /proc/self/ns/* | grep -v user;"
        " cat /proc/self/cgroup",
    )  # fmt: skip


def program(
    text: str, *words: str, by: tuple[str, ...] = (), **more: Any
) -> subprocess.CompletedProcess[str]:
    """Run a program that launches through a server, to its end. by: what executes it, if anything.

    more: as for subprocess.run().
    """
    code = PROLOGUE + textwrap.dedent(text)
    strict = ("-W", "error::ResourceWarning")
    given = [*by, sys.executable, *strict, "-c", code, str(Path(__file__).parent), *words]
    # Without conftest, which loads much: its size decides.
    return subprocess.run(given, capture_output=True, text=True, check=False, timeout=120, **more)


def facts_of(text: str, *words: str, **more: Any) -> str:
    """Return what such a program prints; it has to succeed."""
    done = program(text, *words, **more)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    return done.stdout
