"""Resource limits as people write them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyspaces import settings
from pyspaces.errors import UsageFault
from pyspaces.features.limits import (
    NAMES,
    UNLIMITED,
    Rlimit,
    cpus_of,
    priority_of,
    rlimit_of,
    umask_of,
)
from pyspaces.plan import Plan
from pyspaces.plan.file import faults_of

numbers = st.integers(0, (1 << 63) - 1)


@given(st.sampled_from(NAMES), numbers, numbers)
def test_what_is_written_is_read(name: str, one: int, other: int) -> None:
    soft, hard = sorted((one, other))
    assert rlimit_of(f"{name}={soft}:{hard}") == Rlimit(name=name, soft=soft, hard=hard)
    assert rlimit_of(f"{name}={soft}") == Rlimit(name=name, soft=soft, hard=soft)
    assert rlimit_of(str(Rlimit(name=name, soft=soft, hard=UNLIMITED))).hard == UNLIMITED
    if soft < hard:
        with pytest.raises(ValueError, match="above the hard one"):
            rlimit_of(f"{name}={hard}:{soft}")


@given(st.text(max_size=30))
def test_any_other_text_is_refused_with_a_reason(text: str) -> None:
    try:
        found = rlimit_of(text)
    except ValueError:
        return
    assert found.fault() is None
    assert rlimit_of(str(found)) == found


@pytest.mark.parametrize(
    ("text", "soft", "hard"),
    [
        ("as=1G", 1 << 30, 1 << 30),
        ("fsize=2k", 2048, 2048),
        ("NOFILE=same:64", None, 64),
        ("core=0:unlimited", 0, UNLIMITED),
        ("stack=unlimited", UNLIMITED, UNLIMITED),
    ],
)
def test_units_and_words(text: str, soft: int | None, hard: int | None) -> None:
    found = rlimit_of(text)
    assert (found.soft, found.hard) == (soft, hard)


@pytest.mark.parametrize(
    "text",
    [
        *("", "nofile", "nofile=", "nofile=:5", "nofile=5:", "nofile=-1", "nofile=1P", "files=3"),
        *("as=99999999999999999999", "as=9000000000G", "nofile=unlimited:5", "cpu=1.5"),
        "cpu=\u0661",
    ],
)
def test_what_is_no_limit(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        rlimit_of(text)


@given(st.sets(st.integers(0, 200), min_size=1))
def test_cpus(cpus: set[int]) -> None:
    assert cpus_of(",".join(map(str, cpus))) == tuple(sorted(cpus))


def test_ranges_of_cpus() -> None:
    assert cpus_of("0,2-4") == (0, 2, 3, 4)
    for text in ("", "-1", "3-1", "a", "0-99999", "1,,2", "0-8192"):
        with pytest.raises(ValueError, match="CPUs"):
            cpus_of(text)


def test_classes_of_io() -> None:
    assert priority_of("idle") == 3 << 13
    assert priority_of("best-effort:7") == 2 << 13 | 7
    assert priority_of("realtime") == 1 << 13 | 4
    for text in ("idle:1", "best-effort:8", "best-effort:", "fast", ""):
        with pytest.raises(ValueError, match=r"."):
            priority_of(text)


def test_umasks() -> None:
    assert umask_of("022") == 0o22
    for text in ("", "8", "00022", "-1"):
        with pytest.raises(ValueError, match="octal"):
            umask_of(text)


@pytest.mark.parametrize(
    ("mapping", "fault"),
    [
        ({"rlimit": ["nofile=3", "nofile=4"]}, "rlimit: nofile: is given twice"),
        ({"rlimit": ["nofile"]}, "rlimit: 'nofile' is not NAME=SOFT"),
        ({"nice": 20}, "nice: 20: is not between -20 and 19"),
        ({"oom_score_adj": "-1001"}, "oom-score-adj: -1001: is not between"),
        ({"umask": "9"}, "umask: '9' is not an octal mode"),
        ({"cpu_list": "x"}, "cpu-list: 'x' is not a list"),
        ({"ionice": "x"}, "ionice: 'x' is not a class"),
        ({"rlimit": ["core=0"], "hold": True, "name": "x"}, "hold: cannot be combined"),
    ],
)
def test_each_fault_is_told(mapping: dict[str, object], fault: str) -> None:
    words = {} if "hold" in mapping else {"command": ["true"]}
    with pytest.raises(UsageFault) as caught:
        settings.plan_from({**words, **mapping})
    assert any(fault in line for line in caught.value.faults), caught.value.faults


def test_a_plan_with_limits_survives_json() -> None:
    plan = settings.plan_from(
        {"command": ["true"], "rlimit": ["nofile=same:64", "as=1G"], "umask": "022", "nice": -3}
    )
    data = plan.to_data()
    assert Plan.from_data(data) == plan
    rest = {name: data[name] for name in data if name != "version"}
    assert list(faults_of(Plan, rest)) == []
    rest["limits"]["rlimits"][0]["hard"] = "x"
    assert list(faults_of(Plan, rest)) != []
