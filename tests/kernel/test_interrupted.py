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


@pytest.mark.parametrize("step", [pytest.param(5, marks=pytest.mark.slow), 29])
@pytest.mark.parametrize("creator", ["fork", "server"])
@pytest.mark.parametrize("way", ["start", "run", "sandbox", "call"])
def test_no_child_is_left_that_nobody_knows_of(way: str, creator: str, step: int) -> None:
    done = outcome([sys.executable, str(PROGRAM), way, creator, str(step)])
    assert done.returncode == 0, done.stderr
    calls, left = json.loads(done.stdout)
    assert left == []
    assert calls > 200


@pytest.mark.parametrize("step", [pytest.param(1, marks=pytest.mark.slow), 7])
@pytest.mark.parametrize("creator", ["fork", "server"])
def test_a_handler_may_launch_something_during_a_launch(creator: str, step: int) -> None:
    """It took the answer to the question of the launch that it had interrupted, or its plan."""
    done = outcome([sys.executable, str(NESTED), creator, "1", str(step)])
    assert done.returncode == 0, done.stderr
    calls, wrong = json.loads(done.stdout)
    assert wrong == []
    assert calls > 200
