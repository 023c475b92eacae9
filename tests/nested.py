"""A program that is interrupted by a handler of a signal, at one call of ours after the other.

    python nested.py WAY fork|server STEP

The handler does the same as what it interrupts (run, container, sandbox), or uses the object that
is in use there (of-popen, of-container, of-sandbox). Python runs handlers at other places, too.
Prints how many calls there were, and after which of them something went wrong.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import socket
import sys
import time

import pyspaces
from pyspaces import launch

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType
    from typing import Any

ME = os.getpid()  # a child that is forked is traced as well
LONG = 10.0  # seconds for two commands; a turn of threads that is lost takes one
ECHO = ["sh", "-c", "hostname; echo $A"]
OUTER, INNER = "outer\n1\n", "inner\n2\n"
IN_OUTER: dict[str, Any] = {"uts": True, "hostname": "outer", "setenv": [("A", "1")]}
IN_INNER: dict[str, Any] = {"uts": True, "hostname": "inner", "setenv": [("A", "2")]}


class Used:
    """The object in use, if there is one."""

    thing: Any = None


def printed(run: Callable[..., Any], **values: Any) -> str:
    """Return what a command prints."""
    return str(run(ECHO, capture_output=True, **values).stdout, "ascii")


def run(values: dict[str, Any]) -> str:
    """Run a command."""
    return printed(pyspaces.run, user=True, **values)


def sandbox(values: dict[str, Any]) -> str:
    """Run a command in a Sandbox of its own."""
    given = dict(values)
    variables = given.pop("setenv")
    with pyspaces.Sandbox(user=True, **given) as box:
        return printed(box.run, setenv=variables)


def container(values: dict[str, Any]) -> str:
    """Call a function."""
    with_pid = pyspaces.Container(
        lambda: f"{socket.gethostname()}\n{os.environ['A']}\n", user=True, pid=True, **values
    )
    with_pid.start()
    text = str(with_pid.result(60))
    with_pid.join()
    with_pid.close()
    return text


def of_popen() -> str:
    """Wait for a command that is asked to continue meanwhile."""
    with pyspaces.Popen(["sleep", "0.01"], user=True, pid=True) as Used.thing:
        code = Used.thing.wait()
    return OUTER if code == 0 and Used.thing.status.code == 0 else f"{code}"


def in_popen() -> str:
    if Used.thing:
        Used.thing.send_signal(signal.SIGCONT)
        Used.thing.poll()
    return INNER


def of_container() -> str:
    """Wait for a function that is looked at meanwhile."""
    Used.thing = pyspaces.Container(time.sleep, args=(0.01,), user=True, pid=True)
    Used.thing.start()
    Used.thing.join()
    code = Used.thing.exitcode
    return OUTER if code == 0 else f"{code}"


def in_container() -> str:
    multiprocessing.active_children()
    return INNER


def of_sandbox() -> str:
    """Run commands in a Sandbox in which another one is run meanwhile."""
    with pyspaces.Sandbox(user=True, uts=True, hostname="outer") as Used.thing:
        texts = [printed(Used.thing.run, setenv=[("A", "1")]) for _ in range(2)]
    return texts[0] if texts[0] == texts[1] else f"{texts}"


def in_sandbox() -> str:
    try:
        found = printed(Used.thing.run, setenv=[("A", "2")]) if Used.thing else "outer\n2\n"
    except ValueError:  # it has not begun, or has ended
        return INNER
    return INNER if found == "outer\n2\n" else found


WAYS: dict[str, tuple[Callable[[], str], Callable[[], str]]] = {
    "run": (lambda: run(IN_OUTER), lambda: run(IN_INNER)),
    "sandbox": (lambda: sandbox(IN_OUTER), lambda: sandbox(IN_INNER)),
    "container": (lambda: container(IN_OUTER), lambda: container(IN_INNER)),
    "of-popen": (of_popen, in_popen),
    "of-container": (of_container, in_container),
    "of-sandbox": (of_sandbox, in_sandbox),
}


def interrupt(number: int, outer: Callable[[], str], inner: Callable[[], str]) -> list[str] | None:
    """Have a signal handled as the function of ours with this number is called.

    Returns what both have returned, or None if there were not so many calls.
    """
    left, found = number, []

    def trace(frame: FrameType, event: str, _: object) -> None:
        nonlocal left
        if "/pyspaces/" not in frame.f_code.co_filename or event != "call" or os.getpid() != ME:
            return
        if signal.SIGUSR1 in signal.pthread_sigmask(signal.SIG_BLOCK, []):
            return
        left -= 1
        if left == 0:
            signal.raise_signal(signal.SIGUSR1)

    def handle(*_: object) -> None:
        sys.settrace(None)
        found.append(inner())

    signal.signal(signal.SIGUSR1, handle)
    sys.settrace(trace)
    try:
        found.append(outer())
    finally:
        sys.settrace(None)
    return found if left <= 0 else None


def main(way: str, creator: str, step: str) -> None:
    """Interrupt at the first call, and then at each so many."""
    launch.use_server(creator == "server")
    outer, inner = WAYS[way]
    outer()
    number, wrong = 1, []
    while True:
        Used.thing = None
        begun = time.monotonic()
        signal.alarm(60)  # whoever hangs dies
        found = interrupt(number, outer, inner)
        if found is None:
            break
        if sorted(found) != [INNER, OUTER] or time.monotonic() - begun > LONG:
            wrong.append((number, found))
        number += int(step)
    print(json.dumps([number, wrong]), flush=True)
    os._exit(0)


main(*sys.argv[1:])
