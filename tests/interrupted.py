"""A program whose launches are interrupted by an exception at one call of ours after the other.

    python interrupted.py start|run|sandbox|call fork|server STEP

As by a handler of a signal that raises, which Python runs there, among other places, but not while
the signal is blocked. Prints how many calls there were, and after which of them a child was left.
"""

from __future__ import annotations

import gc
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
import warnings

import pyspaces
from pyspaces import launch, settings
from pyspaces.kernel import processes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

PLAN = settings.plan_from({"user": True, "pid": True, "command": ["true"]})


class Interrupted(Exception):
    """What the handler raises."""


def start() -> None:
    """Launch a command, and wait for it in peace."""
    running = launch.start(PLAN)
    sys.settrace(None)
    with running:
        running.wait(60)


def run() -> None:
    """Run a command; Popen collects what was dropped once it has ended, as that of Python does."""
    pyspaces.run(["true"], user=True, pid=True)


def sandbox() -> None:
    """Run a command in a Sandbox; one that is dropped is closed."""
    with pyspaces.Sandbox(user=True) as box:
        box.run(["true"])


def call() -> None:
    """Call a function in a Sandbox."""
    with pyspaces.Sandbox(user=True) as box:
        box.call(abs, -1)


def interrupt(work: Callable[[], None], number: int) -> bool:
    """Raise as the function of ours with this number is called; return whether there is one."""
    left = number

    def trace(frame: FrameType, event: str, _: object) -> None:
        nonlocal left
        if "/pyspaces/" not in frame.f_code.co_filename or event != "call":
            return
        if signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, []):
            return
        left -= 1
        if left == 0:
            raise Interrupted

    sys.settrace(trace)
    try:
        work()
    except Interrupted:
        pass
    finally:
        sys.settrace(None)
    return left <= 0


def strays() -> list[int]:
    """Return the children that nobody knows of; the launch server, executed as -I, is none."""
    for _ in range(200):
        gc.collect()  # what the traceback had, and so has dropped
        subprocess._cleanup()  # type: ignore[attr-defined]
        multiprocessing.active_children()  # reaps those that have ended
        children = processes.children_of(os.getpid())
        found = [one for one in children if processes.words_of(one)[1:2] != ["-I"]]
        if not found:
            break
        time.sleep(0.01)
    return found


def main(way: str, creator: str, step: str) -> None:
    """Interrupt at the first call, and then at each so many."""
    warnings.simplefilter("ignore", ResourceWarning)  # what was dropped still runs, for a moment
    launch.use_server(creator == "server")
    work = {"start": start, "run": run, "sandbox": sandbox, "call": call}[way]
    work()
    left, number = [], 1
    while interrupt(work, number):
        for child in strays():
            left.append(number)
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
        number += int(step)
    print(json.dumps([number, left]), flush=True)
    os._exit(0)


main(*sys.argv[1:])
