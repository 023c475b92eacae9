"""A handler of a signal that raises, as that of Ctrl-C does, at any call of a launch."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from conftest import outcome

PROGRAM = Path(__file__).parents[1] / "interrupted.py"
NESTED = Path(__file__).parents[1] / "nested.py"

pytestmark = pytest.mark.needs("userns")


def at_each_call(program: Path, way: str, creator: str, step: int, least: int = 200) -> object:
    """Interrupt at one call after the other; return after which of them something went wrong."""
    done = outcome([sys.executable, str(program), way, creator, str(step)])
    assert done.returncode == 0, done.stderr
    calls, wrong = json.loads(done.stdout)
    assert calls > least
    return wrong


@pytest.mark.parametrize("step", [pytest.param(5, marks=pytest.mark.slow), 29])
@pytest.mark.parametrize("creator", ["fork", "server"])
@pytest.mark.parametrize("way", ["start", "run", "sandbox", "call"])
def test_no_child_is_left_that_nobody_knows_of(way: str, creator: str, step: int) -> None:
    # The shortest way of all has some 190 calls.
    least = 150 if (way, creator) == ("start", "fork") else 200
    assert at_each_call(PROGRAM, way, creator, step, least) == []


# The handler runs as the call of C returns, as it does if another thread gets the signal meanwhile.
BESIDE_THREADS = """
import _thread, functools, os, signal, sys, threading
from pyspaces import launch, settings

class Stop(Exception):
    pass

def stop(*_):
    raise Stop

launch.use_server(False)
plan = settings.plan_from({"user": True, "command": ["sleep", "1000"]})
ended = threading.Event()
threading.Thread(target=ended.wait).start()
signal.signal(signal.SIGUSR1, stop)
if sys.argv[1] == "fork":
    os.register_at_fork(
        after_in_parent=functools.partial(_thread.interrupt_main, signal.SIGUSR1),
        after_in_child=functools.partial(signal.signal, signal.SIGUSR1, signal.SIG_IGN),
    )
else:
    module, name = sys.argv[1].split(".")
    module = sys.modules[module]
    real, caller = getattr(module, name), os.getpid()

    def call(*arguments):
        # Once in each launch; not of this process itself, nor by one that it has forked.
        if armed and os.getpid() == caller and arguments != (caller,):
            armed.clear()
            _thread.interrupt_main(signal.SIGUSR1)
        return real(*arguments)

    setattr(module, name, call)
for _ in range(3):
    armed = [True]
    try:
        launch.start(plan)
    except Stop:
        print("stopped", flush=True)
ended.set()
print(open(f"/proc/self/task/{os.getpid()}/children").read().split(), flush=True)
os._exit(0)
"""


@pytest.mark.parametrize("call", ["fork", "os.readv", "os.pidfd_open"])
def test_no_child_is_left_by_what_another_thread_gets(call: str) -> None:
    done = outcome([sys.executable, "-c", BESIDE_THREADS, call])
    assert (done.stdout, done.stderr) == ("stopped\n" * 3 + "[]\n", "")


@pytest.mark.needs("pidns")
@pytest.mark.parametrize("step", [pytest.param(7, marks=pytest.mark.slow), 41])
@pytest.mark.parametrize("creator", ["fork", "server"])
@pytest.mark.parametrize(
    "way", ["run", "sandbox", "container", "of-popen", "of-container", "of-sandbox"]
)
def test_a_handler_may_use_what_it_interrupts(way: str, creator: str, step: int) -> None:
    """It waited for a lock of its own thread, or got the answer, or the plan, of the other."""
    assert at_each_call(NESTED, way, creator, step) == []
