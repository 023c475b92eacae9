"""A plan from a file that somebody else has written: it is a plan, or it is refused."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pyspaces.errors import UsageFault
from pyspaces.features.existing.values import Join, Joining, Keep
from pyspaces.features.ids.idmap import Extent
from pyspaces.features.life import Life
from pyspaces.features.outputs import Outputs
from pyspaces.launch import preview
from pyspaces.mounts.operations import KINDS
from pyspaces.plan import Plan, equivalent
from pyspaces.plan import file as plan_file
from pyspaces.plan.plan import VERSION
from pyspaces.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from conftest import Run

# Where a type of C, of the kernel or of Python ends.
EDGES = [
    *(0, 1, -1, 255, 256, 65535, 65536, 1 << 20, 2**31 - 1, 2**31, 2**32 - 2, 2**32 - 1, 2**32),
    *(2**63 - 1, 2**63, 2**64 - 1, 2**64, 10**30, -(10**30), 10**400, 1e300, 1e-300, 0.5, -0.5),
]
numbers = st.sampled_from(EDGES) | st.integers() | st.floats(allow_nan=False)
words = st.text(max_size=8) | st.sampled_from(
    ["", "/", "/x", "..", "\0", "\ud800", "user", "net", "deny", "private", "x" * 5000, "CAP_KILL"]
)
scalars = st.none() | st.booleans() | numbers | words
# What a plan consists of, under the names that it has there.
RECORDS: tuple[type[Record], ...] = (Plan, Life, Outputs, Joining, Join, Keep, Extent)
FIELDS = sorted(
    {name for kind in (*RECORDS, *KINDS.values()) for name in kind._fields}
    | {"kind", "seconds", "nanoseconds", "set", "keep"}
)
names = st.sampled_from(FIELDS) | st.text(max_size=5)
kinds = st.fixed_dictionaries({"kind": st.sampled_from(sorted(KINDS))})
anything = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(names, inner, max_size=6)
        | st.builds(lambda one, more: {**more, **one}, kinds, st.dictionaries(names, inner))
    ),
    max_leaves=20,
)


def full_plan() -> dict[str, Any]:
    """Return a plan in which every kind of value occurs."""
    return {
        "version": VERSION,
        "command": ["true"],
        "namespaces": ["user", "mount", "net", "uts", "time", "pid"],
        "maps": {
            "uid_map": [{"inside": 0, "outside": 0, "count": 1}],
            "gid_map": [{"inside": 0, "outside": 0, "count": 1}],
        },
        "identity": {"uid": 0, "gid": 0, "groups": [0]},
        "clocks": {
            "boottime": {"seconds": 1, "nanoseconds": 0},
            "monotonic": {"seconds": 1, "nanoseconds": 0},
        },
        "environment": {"set": [["A", "b"]], "keep": ["C*"]},
        "life": {"timeout": 1.5, "kill_after": 1, "kill_child": 9},
        "outputs": {"status_fd": 2, "report": True},
        "existing": {
            "joining": {"joins": [{"namespace": "ipc", "pid": 1}], "target": 1, "start": 1},
            "keeps": [{"namespace": "net", "path": "/x"}],
        },
        "mounts": {
            "operations": [
                {"kind": "Tmpfs", "target": "/x", "size": 4096, "perms": 493},
                {"kind": "BindFd", "target": "/y", "fd": 0},
                {"kind": "File", "target": "/z", "fd": 1, "perms": 420},
            ]
        },
    }


def read(path: Path) -> Plan | None:
    """Read a plan as --plan does, and show it as --dry-run does; None where it is refused."""
    try:
        plan = plan_file.read(str(path))
    except UsageFault:
        return None
    assert preview.text(plan, equivalent.of(plan, equivalent.Caller.of_this_process()))
    data = plan.to_data()
    assert data.pop("version") == VERSION
    assert not list(plan_file.faults_of(Plan, data))
    return plan


hostile = settings(
    # `thorough` has four times as many as any other test.
    max_examples=settings().max_examples * (4 if settings().max_examples > 50 else 1),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@hostile
@given(data=anything)
def test_any_json_is_a_plan_or_is_refused(tmp_path: Path, data: Any) -> None:
    if isinstance(data, dict):
        data = {"version": VERSION, **data}  # or that alone would be refused
    file = tmp_path / "plan"
    file.write_text(json.dumps(data))
    read(file)


@hostile
@given(data=st.data())
def test_any_value_in_the_place_of_another(tmp_path: Path, data: st.DataObject) -> None:
    plan = full_plan()
    place: Any = plan
    while True:
        keys = sorted(place) if isinstance(place, dict) else range(len(place))
        if not keys:
            break
        key = data.draw(st.sampled_from(keys))
        if isinstance(place[key], dict | list) and data.draw(st.integers(0, 3)):
            place = place[key]
        else:
            place[key] = data.draw(anything)
            break
    file = tmp_path / "plan"
    file.write_text(json.dumps(plan))
    read(file)


def test_the_full_plan_is_one(tmp_path: Path) -> None:
    file = tmp_path / "plan"
    data = full_plan()
    file.write_text(json.dumps(data))
    plan = read(file)
    assert plan is not None
    assert {operation["kind"] for operation in data["mounts"]["operations"]} <= set(KINDS)


def places(data: Any, where: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return where there is a number."""
    if isinstance(data, dict | list):
        keys = data.keys() if isinstance(data, dict) else range(len(data))
        return [found for key in keys for found in places(data[key], (*where, key))]
    return [where] if type(data) in (int, float) else []


def test_no_number_is_too_large_to_be_refused(tmp_path: Path) -> None:
    """Before anything is created."""
    file = tmp_path / "plan"
    for where in places(full_plan()):
        for number in (10**30, -(10**30), 10**400, 2**63):
            plan: Any = full_plan()
            inner = plan
            for key in where[:-1]:
                inner = inner[key]
            inner[where[-1]] = number
            file.write_text(json.dumps(plan))
            with pytest.raises(UsageFault):
                plan_file.read(str(file))


BIG = 100_000
PLAN = '{"version": 2, "command": ["x"], '


# Each is made when it is needed: together they are 100 MB, of which every launch of the suite would
# be a copy.
TEXTS: list[Callable[[], str]] = [
    lambda: '{"version": 2, ' + ",".join(f'"k{n}": 0' for n in range(BIG)) + "}",
    lambda: "{" + ",".join(f'"k{n}": 0, "k{n}": 1' for n in range(BIG // 2)) + "}",
    lambda: '{"version": 2, "command": [' + ",".join(["1"] * BIG) + "]}",
    lambda: (
        '{"version": 2, "command": ['
        + ",".join(['"x"'] * BIG)
        + '], "identity": {"groups": ['
        + "0," * BIG
        + "0]}}"
    ),
    lambda: PLAN + '"mounts": {"operations": [' + ",".join(['{"kind": "x"}'] * BIG) + "]}}",
    lambda: (
        PLAN
        + '"existing": {"keeps": ['
        + ",".join(f'{{"namespace": "net", "path": "/{n}"}}' for n in range(BIG))
        + "]}}"
    ),
    lambda: (
        PLAN
        + '"namespaces": ["user"], "maps": {"uid_map": ['
        + ",".join(f'{{"inside": {n}, "outside": {n}, "count": 1}}' for n in range(BIG))
        + "]}}"
    ),
    lambda: PLAN + '"privileges": {"cap_drop": [' + ",".join(['"CAP_X"'] * BIG) + "]}}",
    lambda: PLAN + '"namespaces": [' + ",".join(['"user"'] * BIG) + "]}",
    lambda: PLAN + '"environment": {"set": [' + ",".join(['["A","b"]'] * BIG) + "]}}",
    lambda: (
        PLAN
        + '"existing": {"joining": {"joins": ['
        + ",".join(['{"namespace": "net", "pid": 1}'] * BIG)
        + "]}}}"
    ),
    lambda: "[" * 300_000,
    lambda: '{"version": 2, "command": ' + "[" * 100_000 + "]" * 100_000 + "}",
    lambda: '{"a":' * 100_000 + "1" + "}" * 100_000,
    lambda: PLAN + '"mounts": {"operations": [{"kind": ' + "[" * 900 + "]" * 900 + "}]}}",
    lambda: PLAN + '"identity": {"uid": ' + "9" * 1_000_000 + "}}",
    lambda: PLAN + '"life": {"timeout": 1e999}}',
    lambda: PLAN + '"maps": {"setgroups": "' + "x" * 3_000_000 + '"}}',
    lambda: PLAN + '"' + "x" * 3_000_000 + '": 1}',
    lambda: PLAN + '"mounts": {"operations": [{"kind": "' + "x" * 3_000_000 + '"}]}}',
    lambda: "\ufeff{}",
    lambda: " " * 3_000_000,
]
# Unknown keys, keys twice, a list of the wrong type, rows, depth, digits, infinity, a long text.
USUAL = (0, 1, 2, 6, 11, 12, 15, 16, 17, 20)


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(make, id=str(n), marks=() if n in USUAL else pytest.mark.stress)
        for n, make in enumerate(TEXTS)
    ],
)
def test_size_and_depth_are_bounded_before_work(
    pyspaces: Run, tmp_path: Path, make: Callable[[], str]
) -> None:
    """What took time was quadratic: minutes, where this takes a second; hence so wide a limit."""
    file = tmp_path / "plan"
    file.write_text(make())
    before = time.monotonic()
    done = pyspaces("run", "--dry-run", "--plan", str(file))
    assert time.monotonic() - before < 50
    assert done.returncode == 2, done.stderr[:500]
    assert done.stderr.startswith("pyspaces: ")
    assert "Traceback" not in done.stderr
    assert "this program reads version" not in done.stderr
    assert "version: is missing" not in done.stderr
    assert len(done.stderr) < 20_000
