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


def at_each_call(program: Path, way: str, creator: str, step: int) -> object:
    """Interrupt at one call after the other; return after which of them something went wrong."""
    done = outcome([sys.executable, str(program), way, creator, str(step)])
    assert done.returncode == 0, done.stderr
    calls, wrong = json.loads(done.stdout)
    assert calls > 200
    return wrong


@pytest.mark.parametrize("step", [pytest.param(5, marks=pytest.mark.slow), 29])
@pytest.mark.parametrize("creator", ["fork", "server"])
@pytest.mark.parametrize("way", ["start", "run", "sandbox", "call"])
def test_no_child_is_left_that_nobody_knows_of(way: str, creator: str, step: int) -> None:
    assert at_each_call(PROGRAM, way, creator, step) == []


@pytest.mark.needs("pidns")
@pytest.mark.parametrize("step", [pytest.param(7, marks=pytest.mark.slow), 41])
@pytest.mark.parametrize("creator", ["fork", "server"])
@pytest.mark.parametrize(
    "way", ["run", "sandbox", "container", "of-popen", "of-container", "of-sandbox"]
)
def test_a_handler_may_use_what_it_interrupts(way: str, creator: str, step: int) -> None:
    """It waited for a lock of its own thread, or got the answer, or the plan, of the other."""
    assert at_each_call(NESTED, way, creator, step) == []
