"""Launchers on a network that are killed at any moment: nothing stays of what they have made."""

from __future__ import annotations

import contextlib
import os
import random
import subprocess
import time
from collections.abc import Callable, Iterator

import networks
import pytest
from conftest import SCRIPT, again, processes_with
from networks import ask, members, network, own

pytestmark = pytest.mark.needs("userns", "netns", "bridge")
Wait = Callable[..., None]


@pytest.fixture(scope="module")
def lab() -> Iterator[str]:
    with network() as name:
        yield name


@pytest.mark.anyone
@pytest.mark.stress
@pytest.mark.parametrize("number", range(10))
def test_a_list_while_networks_come_and_go(number: int) -> None:
    loop = 'for at in 1 2; do "$1" network create $2 && "$1" network remove $2 || exit; done'
    with contextlib.ExitStack() as stack:
        loops = [
            stack.enter_context(
                subprocess.Popen(["sh", "-c", loop, "sh", SCRIPT, f"test-{os.getpid()}-{at}"])
            )
            for at in range(2)
        ]
        while any(one.poll() is None for one in loops):
            networks.listed()
    assert [one.returncode for one in loops] == [0] * 2


@pytest.mark.anyone
@pytest.mark.parametrize("number", again(2, 100))
def test_a_launcher_that_is_killed(lab: str, number: int, wait_until: Wait) -> None:
    chance = random.Random(number)
    token = f"1000.{time.monotonic_ns()}"
    words = (*own(lab, "--hostname", f"box{number}"), "--", "sleep", token)
    with subprocess.Popen([SCRIPT, "run", *words], stderr=subprocess.DEVNULL) as launcher:
        time.sleep(chance.uniform(0, 0.3))
        launcher.kill()
    # In this order: the child of the launcher may come to connect itself meanwhile.
    wait_until(lambda: not processes_with(token), "the command has ended")
    wait_until(lambda: not members(lab), "the interface has gone with its namespace")
    # The next one removes what is left.
    assert ask(lab, f"box{number}") == ["unknown"]
    assert networks.files(lab) == [f"lock:{lab}", lab]
