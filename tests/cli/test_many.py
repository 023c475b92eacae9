"""Many launches, in a row and at once: nothing is left behind (the fixture no_leaks looks)."""

from __future__ import annotations

import subprocess
import threading

import pytest
from conftest import SCRIPT

from pyspaces import launch, settings

pytestmark = pytest.mark.needs("userns", "pidns")
WORDS = [SCRIPT, "run", "--user", "--pid", "--"]


@pytest.mark.anyone
@pytest.mark.parametrize("count", [16, pytest.param(100, marks=pytest.mark.stress)])
def test_many_at_once(count: int) -> None:
    processes = [subprocess.Popen([*WORDS, "sh", "-c", f"exit {n}"]) for n in range(count)]
    try:
        assert [process.wait(120) for process in processes] == list(range(count))
    finally:
        for process in processes:
            process.kill()
            process.wait()


@pytest.mark.anyone
@pytest.mark.stress
def test_five_hundred_in_a_row() -> None:
    for _ in range(50):
        assert subprocess.run([*WORDS, "true"], check=False).returncode == 0
    # Through the library, in one process, whatever is left behind adds up.
    plan = settings.plan_from({"user": True, "pid": True, "command": ["true"]})
    for _ in range(450):
        with launch.start(plan) as running:
            assert running.wait(60).ok


@pytest.mark.anyone
@pytest.mark.parametrize("times", [4, pytest.param(20, marks=pytest.mark.stress)])
def test_launches_from_eight_threads(times: int) -> None:
    plan = settings.plan_from({"user": True, "pid": True, "command": ["sh", "-c", "exit 3"]})
    codes: list[int | None] = []

    def work() -> None:
        for _ in range(times):
            with launch.start(plan) as running:
                codes.append(running.wait(60).code)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert codes == [3] * 8 * times


def test_waiting_with_a_timeout() -> None:
    plan = settings.plan_from({"user": True, "pid": True, "command": ["sleep", "100"]})
    with launch.start(plan) as running:
        assert running.poll() is None
        with pytest.raises(TimeoutError, match=r"still runs after 0\.05 s"):
            running.wait(0.05)
        running.send_signal(9)
        assert running.wait(60).signal == 9
        assert running.poll() == running.wait()
        running.send_signal(9)
