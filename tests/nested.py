"""A program whose launches are interrupted by a launch, at one call of ours after the other.

    python nested.py fork|server FIRST STEP

As by a handler of a signal that launches something, which Python runs there, among other places.
Prints how many calls there were, and after which of them one of the two went wrong.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time

import pyspaces
from pyspaces import launch

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import FrameType

ME = os.getpid()  # a child that is forked is traced as well
LONG = 10.0  # seconds for two commands; a turn of threads that is lost takes one


def outer() -> str:
    """Run a command in a space of its own; return what it prints."""
    words = ["sh", "-c", "hostname; echo $A"]
    done = pyspaces.run(
        words, user=True, uts=True, hostname="outer", setenv=[("A", "1")], capture_output=True
    )
    return str(done.stdout, "ascii")


def inner() -> str:
    """Run another one in another."""
    done = pyspaces.run(["sh", "-c", "echo inner$A"], user=True, capture_output=True)
    return str(done.stdout, "ascii")


def interrupt(number: int, found: list[str]) -> bool:
    """Have a signal handled as the function of ours with this number is called, if there is one."""
    left = number

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
    return left <= 0


def main(creator: str, first: str, step: str) -> None:
    """Interrupt at the first of these calls, and then at each so many."""
    launch.use_server(creator == "server")
    outer()
    number, wrong = int(first), []
    while True:
        found: list[str] = []
        begun = time.monotonic()
        signal.alarm(60)  # whoever hangs dies
        more = interrupt(number, found)
        if not more:
            break
        if sorted(found) != ["inner\n", "outer\n1\n"] or time.monotonic() - begun > LONG:
            wrong.append((number, found))
        number += int(step)
    print(json.dumps([number, wrong]), flush=True)
    os._exit(0)


main(*sys.argv[1:])
