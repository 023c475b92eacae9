"""The settings of a command's life: durations, signals, what contradicts what."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyspaces import settings, status
from pyspaces.errors import UsageFault
from pyspaces.features import life
from pyspaces.features.life import Life
from pyspaces.features.outputs import Outputs
from pyspaces.plan import Plan


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90", 90), ("1.5s", 1.5), ("2m", 120), ("1h", 3600), ("1d", 86400), (".5", 0.5), ("0", 0)],
)
def test_durations(text: str, seconds: float) -> None:
    assert life.seconds_of(text) == seconds


@given(st.integers(0, 10**9), st.sampled_from(["", "s", "m", "h", "d"]))
def test_every_whole_number_of_a_unit_is_a_duration(number: int, unit: str) -> None:
    factor = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}[unit]
    assert life.seconds_of(f"{number}{unit}") == number * factor


@pytest.mark.parametrize(
    "text", ["", "s", ".", "-1", "+1", "1e3", "inf", "nan", "1_0", "1 s", "1.2.3", "1x", "٣", "1sm"]
)
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(ValueError, match="is not a duration"):
        life.seconds_of(text)


@pytest.mark.parametrize("text", ["TERM", "SIGTERM", "term", "15"])
def test_signals_by_name_and_number(text: str) -> None:
    assert status.signal_number(text) == 15


@pytest.mark.parametrize("text", ["", "SIG", "NOPE", "0", "-9", "65", "SIGSIGTERM"])
def test_what_is_no_signal(text: str) -> None:
    with pytest.raises(ValueError, match="is not a signal"):
        status.signal_number(text)


def test_a_life_is_plain_data() -> None:
    plan = settings.plan_from(
        {
            "command": ["true"],
            "init_wait": True,
            "pty": True,
            "timeout": "1m",
            "kill_after": 0,
            "kill_child": "TERM",
            "status_fd": 4,
            "status_file": "a",
            "pid_file": "b",
            "report": True,
        }
    )
    assert plan.life == Life(
        init=True, init_wait=True, pty=True, timeout=60.0, kill_after=0.0, kill_child=15
    )
    assert plan.outputs == Outputs(status_fd=4, status_file="a", pid_file="b", report=True)
    assert plan.has("pid")
    assert Plan.from_data(json.loads(json.dumps(plan.to_data()))) == plan


@pytest.mark.parametrize(
    ("mapping", "fault"),
    [
        ({"timeout": "0"}, "timeout: 0 s: is not more than 0 and up to 100 years"),
        ({"timeout": "-1"}, "timeout: '-1' is not a duration"),
        ({"timeout": "99999d"}, "timeout: 8.63991e+09 s: is not more than 0"),
        ({"timeout": float("nan")}, "timeout: nan s: is not more than 0"),
        ({"kill_after": "1"}, "kill-after: requires --timeout"),
        ({"timeout": "1", "kill_after": "x"}, "kill-after: 'x' is not a duration"),
        ({"pty": True, "new_session": True}, "new-session: cannot be combined with --pty"),
        ({"status_fd": "x"}, "status-fd: 'x' is not the number of a descriptor"),
        ({"status_fd": "-1"}, "status-fd: '-1' is not the number of a descriptor"),
        ({"status_file": "a\0b"}, "status-file: 'a\\x00b': holds a NUL"),
        ({"pid_file": ""}, "pid-file: a path cannot be empty"),
        ({"no_fork": True, "pid": True}, "no-fork: cannot be combined with --pid"),
        ({"no_fork": True, "init": True}, "no-fork: cannot be combined with --init"),
        ({"no_fork": True, "timeout": "1"}, "no-fork: cannot be combined with --timeout"),
        ({"no_fork": True, "pty": True}, "no-fork: cannot be combined with --pty"),
        ({"no_fork": True, "new_session": True}, "no-fork: cannot be combined with --new-session"),
        ({"no_fork": True, "report": True}, "no-fork: cannot be combined with --report"),
        ({"no_fork": True, "status_fd": 3}, "no-fork: cannot be combined with --status-fd"),
        ({"no_fork": True, "pid_file": "x"}, "no-fork: cannot be combined with --pid-file"),
        ({"no_fork": True, "kill_child": "TERM"}, "no-fork: cannot be combined with --kill-child"),
        (
            {"no_fork": True, "no_kill_child": True},
            "no-fork: cannot be combined with --no-kill-child",
        ),
    ],
)
def test_what_cannot_be_meant(mapping: dict[str, object], fault: str) -> None:
    with pytest.raises(UsageFault) as caught:
        settings.plan_from({"command": ["true"], **mapping})
    assert any(line.startswith(fault) for line in caught.value.faults), caught.value.faults


def test_an_init_needs_its_namespace() -> None:
    plan = Plan(command=("true",), life=Life(init=True))
    assert list(plan.faults()) == ["init: needs a new pid namespace"]
