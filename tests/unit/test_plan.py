"""The plan: plain data, checked as a whole, the same after a journey through JSON."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from plans import flat, nested

from pyspaces.errors import UsageFault
from pyspaces.features.clocks import Clocks, Offset
from pyspaces.features.environment import Environment
from pyspaces.features.hostname import Uts
from pyspaces.features.ids.idmap import Extent
from pyspaces.features.ids.maps import Maps
from pyspaces.features.loopback import Net
from pyspaces.kernel.namespaces import NAMES
from pyspaces.mounts.feature import Mounts
from pyspaces.plan import Plan
from pyspaces.plan.plan import VERSION

numbers = st.integers(0, 2**32)
extents = st.builds(lambda i, o, c: Extent(inside=i, outside=o, count=c), numbers, numbers, numbers)
offsets = st.builds(
    lambda s, n: Offset(seconds=s, nanoseconds=n), st.integers(), st.integers(0, 999_999_999)
)
texts = st.text(max_size=8)
environments = st.builds(
    lambda clear, keep, unset, pairs: Environment(
        clear=clear, keep=tuple(keep), unset=tuple(unset), set=tuple(pairs)
    ),
    st.booleans(),
    st.lists(texts, max_size=3),
    st.lists(texts, max_size=3),
    st.lists(st.tuples(texts, texts), max_size=3),
)


@st.composite
def _plans(draw: st.DrawFn) -> Plan:
    optional: dict[str, st.SearchStrategy[Any]] = {
        "namespaces": st.lists(st.sampled_from(NAMES), unique=True).map(tuple),
        "uid_map": st.lists(extents, max_size=3).map(tuple),
        "gid_map": st.lists(extents, max_size=3).map(tuple),
        "setgroups": st.sampled_from([None, "allow", "deny"]),
        "hostname": st.none() | texts,
        "domainname": st.none() | texts,
        "boottime": st.none() | offsets,
        "monotonic": st.none() | offsets,
        "propagation": st.sampled_from(["private", "slave", "shared", "unchanged"]),
        "mount_proc": st.booleans(),
        "loopback": st.booleans(),
        "workdir": st.none() | texts,
        "environment": environments,
    }
    values: dict[str, Any] = draw(st.fixed_dictionaries({}, optional=optional))
    return flat(command=tuple(draw(st.lists(texts, min_size=1, max_size=3))), **values)


plans = _plans()


@given(plans)
def test_a_plan_comes_back_through_json(plan: Plan) -> None:
    data = json.loads(json.dumps(plan.to_data()))
    back = Plan.from_data(data)
    assert back == plan
    assert hash(back) == hash(plan)
    assert back.to_data() == data
    assert Plan.from_data(plan.to_data(whole=False)) == plan
    assert list(back.faults()) == list(plan.faults())


@given(plans)
def test_bytes_that_are_no_utf8_come_back_through_json(plan: Plan) -> None:
    odd = plan.replace(command=(*plan.command, "\udcff"), workdir="/\udc80")
    assert Plan.from_data(json.loads(json.dumps(odd.to_data()))) == odd


def test_the_least_plan() -> None:
    plan = Plan(command=("true",))
    plan.check()
    assert plan.to_data(whole=False) == {"version": 2, "command": ["true"]}
    assert plan.namespaces == ()
    assert plan.mounts.propagation == "private"
    assert plan.net.loopback is True
    assert plan.mounts.mount_proc is False
    assert plan.environment == Environment()
    assert not plan.has("user")


def test_a_full_plan_has_no_fault() -> None:
    plan = full_plan()
    assert list(plan.faults()) == []
    assert all(plan.has(name) for name in NAMES)
    plan.check()


def full_plan() -> Plan:
    return Plan(
        command=("sh", "-c", "exit"),
        namespaces=NAMES,
        workdir="/",
        environment=Environment(clear=True, keep=("LC_*",), unset=("A",), set=(("B", ""),)),
        maps=Maps(
            uid_map=(Extent(inside=0, outside=1000, count=1),),
            gid_map=(Extent(inside=0, outside=1000, count=1),),
            setgroups="deny",
        ),
        uts=Uts(hostname="box", domainname="example"),
        clocks=Clocks(boottime=Offset(seconds=864000), monotonic=Offset(seconds=-1, nanoseconds=5)),
        mounts=Mounts(propagation="slave", mount_proc=True),
        net=Net(loopback=False),
    )


EXTENT = Extent(inside=0, outside=0, count=1)
OFFSET = Offset(seconds=1)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"command": ()}, "command"),
        ({"command": ("a\0",)}, "NUL"),
        ({"command": ("a", "b\0c")}, "NUL"),
        ({"workdir": "/\0"}, "NUL"),
        ({"workdir": ""}, "workdir"),
        ({"namespaces": ("user", "nett")}, "nett"),
        ({"uid_map": (EXTENT,), "namespaces": ("pid",)}, "map-uid: needs a new user"),
        ({"gid_map": (EXTENT,)}, "map-gid: needs a new user"),
        ({"setgroups": "allow"}, "setgroups: needs a new user"),
        ({"setgroups": "maybe", "namespaces": ("user",)}, "setgroups: maybe"),
        ({"hostname": "x"}, "hostname: needs a new uts"),
        ({"domainname": "x"}, "domainname: needs a new uts"),
        ({"hostname": "x" * 65, "namespaces": ("uts",)}, "hostname: xxx"),
        ({"hostname": "", "namespaces": ("uts",)}, "hostname: a name cannot be empty"),
        ({"domainname": "x\0", "namespaces": ("uts",)}, "domainname: 'x"),
        ({"boottime": OFFSET}, "boottime: needs a new time"),
        ({"monotonic": OFFSET}, "monotonic: needs a new time"),
        ({"propagation": "shared"}, "propagation: needs a new mount"),
        ({"propagation": "odd", "namespaces": ("mount",)}, "propagation: odd"),
        ({"mount_proc": True, "namespaces": ("mount",)}, "mount-proc: needs a new pid"),
        ({"mount_proc": True, "namespaces": ("pid",)}, "mount-proc: needs a new mount"),
        ({"uid_map": (EXTENT, EXTENT), "namespaces": ("user",)}, "map-uid: 0 0 1: overlaps"),
        ({"gid_map": (EXTENT, EXTENT), "namespaces": ("user",)}, "map-gid: 0 0 1: overlaps"),
        ({"environment": Environment(set=(("", "x"),))}, "setenv"),
        ({"environment": Environment(set=(("A=B", "x"),))}, "setenv: 'A=B'"),
        ({"environment": Environment(set=(("A", "x\0"),))}, "setenv: 'A'"),
        ({"environment": Environment(unset=("A=B",))}, "unsetenv: 'A=B'"),
    ],
)
def test_each_fault_is_the_only_one_told(changes: dict[str, Any], named: str) -> None:
    plan = Plan(command=("true",)).replace(**nested(changes))
    faults = list(plan.faults())
    assert len(faults) == 1
    assert named in faults[0]
    with pytest.raises(UsageFault) as caught:
        plan.check()
    assert caught.value.faults == tuple(faults)
    assert caught.value.exit_status == 2


def test_all_faults_are_told_at_once() -> None:
    plan = Plan(
        command=(),
        namespaces=("mount", "fish"),
        workdir="",
        environment=Environment(unset=("",), set=(("=", "\0"),)),
        maps=Maps(uid_map=(EXTENT, EXTENT), setgroups="maybe"),
        uts=Uts(hostname=""),
        clocks=Clocks(boottime=OFFSET),
        mounts=Mounts(mount_proc=True),
    )
    faults = "\n".join(plan.faults())
    for part in (
        "no command given",
        "workdir: a path cannot be empty",
        "fish: is not a namespace",
        "map-uid: needs a new user",
        "setgroups: needs a new user",
        "hostname: needs a new uts",
        "boottime: needs a new time",
        "mount-proc: needs a new pid",
        "map-uid: 0 0 1: overlaps",
        "setgroups: maybe",
        "setenv: '='",
        "unsetenv: the name of a variable cannot be empty",
        "hostname: a name cannot be empty",
    ):
        assert part in faults
    with pytest.raises(UsageFault) as caught:
        plan.check()
    assert len(caught.value.faults) == len(faults.splitlines())


@pytest.mark.parametrize(
    "row",
    [(0, 0, 0), (4294967295, 0, 1), (0, 4294967295, 1), (0, 4294967294, 2), (-1, 0, 1)],
)
def test_plain_data_is_held_to_the_limits_of_id_maps(row: tuple[int, int, int]) -> None:
    inside, outside, count = row
    plan = Plan.from_data(
        {
            "version": VERSION,
            "command": ["true"],
            "namespaces": ["user"],
            "maps": {"uid_map": [{"inside": inside, "outside": outside, "count": count}]},
        }
    )
    assert any(fault.startswith("map-uid: ") for fault in plan.faults())


@pytest.mark.parametrize(
    "changes",
    [
        {"command": ("\ud800",)},
        {"hostname": "\ud800", "namespaces": ("uts",)},
        {"workdir": "/\ud800"},
        {"environment": Environment(set=(("A", "\ud800"),))},
        {"environment": Environment(set=(("\ud800", "A"),))},
        {"environment": Environment(unset=("\ud800",))},
    ],
)
def test_text_that_no_byte_string_can_be_is_a_fault(changes: dict[str, Any]) -> None:
    """A lone surrogate that stands for no byte: exec and the kernel could never be given it."""
    plan = Plan(command=("true",)).replace(**nested(changes))
    with pytest.raises(UsageFault):
        plan.check()


def test_from_data_names_what_it_does_not_know() -> None:
    with pytest.raises(TypeError, match="unknown field 'colour'"):
        Plan.from_data({"version": VERSION, "command": ["true"], "colour": "red"})
    with pytest.raises(TypeError, match="missing field 'command'"):
        Plan.from_data({"version": VERSION})
    row = {"inside": 0, "outside": 0, "count": 1, "middle": 1}
    with pytest.raises(TypeError, match="unknown field 'middle'"):
        Plan.from_data({"version": VERSION, "command": ["true"], "maps": {"uid_map": [row]}})


@pytest.mark.parametrize("version", [1, VERSION + 1, 1.5, True, "2", [], 10**30])
def test_a_plan_of_another_version_is_refused(version: object) -> None:
    with pytest.raises(UsageFault, match=r"^plan: version: is .*, and this program reads version"):
        Plan.from_data({"version": version, "command": ["true"]})


def test_a_plan_without_a_version_is_an_old_one() -> None:
    with pytest.raises(UsageFault, match="has no version, as before version 2: make it again"):
        Plan.from_data({"command": ["true"], "hostname": "box"})
