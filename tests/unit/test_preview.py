"""The preview, its equivalent and a plan from JSON, by property: nothing is ever silent."""

from __future__ import annotations

import json
import typing
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from plans import flat

from pyspaces.errors import UsageFault
from pyspaces.features.clocks import Offset
from pyspaces.features.environment import Environment
from pyspaces.features.existing.values import Join, Keep
from pyspaces.features.ids import capabilities
from pyspaces.features.ids.idmap import Extent
from pyspaces.features.limits import Rlimit
from pyspaces.features.loopback import Net
from pyspaces.features.network.naming import Host
from pyspaces.features.network.values import Listening, Port
from pyspaces.kernel.namespaces import NAMES
from pyspaces.launch import preview
from pyspaces.mounts.operations import KINDS, Operation, Tmpfs
from pyspaces.plan import Plan, equivalent
from pyspaces.plan import file as plan_file
from pyspaces.plan.plan import VERSION
from pyspaces.record import Record

CALLERS = [
    equivalent.Caller(uid=0, gid=0, privileged=True),
    equivalent.Caller(uid=1000, gid=1000, privileged=False),
]
ids = st.integers(0, 4294967294)
extents = st.builds(
    lambda i, o, c: Extent(inside=i, outside=o, count=c),
    *(st.integers(0, 70000) | st.just(1000), st.just(0) | st.just(1000) | ids, st.integers(1, 9)),
)
words = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1)
names = st.lists(st.sampled_from(capabilities.NAMES), max_size=3, unique=True).map(tuple)
# Of every kind, with texts and numbers of which some cannot be meant.
operations = st.sampled_from([*KINDS.values()]).flatmap(
    lambda kind: st.fixed_dictionaries(
        {name: values_of(type_) for name, type_ in plan_file.types_of(kind).items()}
    ).map(lambda fields: kind(**fields))
)


def values_of(kind: Any) -> st.SearchStrategy[Any]:
    if args := [arg for arg in getattr(kind, "__args__", ()) if arg is not Ellipsis]:
        if typing.get_origin(kind) is tuple:
            return st.lists(values_of(args[0]), max_size=2).map(tuple)
        return st.one_of(*map(values_of, args))
    return {str: words, bool: st.booleans(), int: st.integers(0, 999), type(None): st.none()}[kind]


def plans() -> st.SearchStrategy[Plan]:
    """Return plans that may be contradictory; what is drawn from them filters."""
    optional: dict[str, st.SearchStrategy[Any]] = {
        "namespaces": st.lists(st.sampled_from(NAMES), unique=True).map(tuple) | st.just(NAMES),
        "uid_map": st.lists(extents, max_size=3).map(tuple),
        "gid_map": st.lists(extents, max_size=3).map(tuple),
        "setgroups": st.sampled_from([None, "allow", "deny"]),
        "uid": st.none() | st.integers(0, 9),
        "gid": st.none() | st.integers(0, 9),
        "groups": st.none() | st.lists(st.integers(0, 9), max_size=2).map(tuple),
        "keep_groups": st.booleans(),
        "keep_caps": st.booleans(),
        "cap_drop": names,
        "no_new_privs": st.booleans(),
        "no_nested_users": st.booleans(),
        "hostname": st.none() | st.just("box"),
        "domainname": st.none() | st.just("box"),
        "boottime": st.none() | st.builds(lambda s: Offset(seconds=s), st.integers(-9, 9)),
        "monotonic": st.none()
        | st.builds(lambda n: Offset(seconds=1, nanoseconds=n), st.integers(0, 999_999_999)),
        "propagation": st.sampled_from(["private", "slave", "shared", "unchanged"]),
        "root": st.none() | words,
        "empty_root": st.booleans(),
        "operations": st.lists(operations, max_size=3).map(tuple),
        "mount_proc": st.booleans(),
        "loopback": st.booleans(),
        "workdir": st.none() | words,
        "environment": st.builds(
            lambda clear, keep: Environment(clear=clear, keep=tuple(keep)),
            st.booleans(),
            st.lists(words.filter(lambda word: "=" not in word), max_size=2),
        ),
    }
    commands = st.lists(words, min_size=1, max_size=3).map(tuple)
    drawn = st.fixed_dictionaries({"command": commands}, optional=optional)
    return drawn.map(_plan)


def _plan(values: dict[str, Any]) -> Plan:
    return flat(**values)


@settings(max_examples=2 * settings().max_examples)
@given(plans(), st.sampled_from(CALLERS))
def test_any_plan_goes_through_json_and_has_a_preview(
    plan: Plan, caller: equivalent.Caller
) -> None:
    data = json.loads(json.dumps(plan.to_data()))
    assert list(plan_file.faults_of(Plan, without_version(data))) == []
    assert Plan.from_data(data) == plan
    told = preview.text(plan, equivalent.of(plan, caller))
    assert "\nexecute the command: " in f"\n{told}"
    assert ("\nequivalent: unshare " in told) != ("\nno equivalent: " in told)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


def without_version(data: dict[str, Any]) -> dict[str, Any]:
    return {name: data[name] for name in data if name != "version"}


@settings(max_examples=2 * settings().max_examples)
@given(st.sampled_from(Plan._fields), json_values)
def test_whatever_stands_in_a_field_is_taken_or_refused(field: str, value: Any) -> None:
    """Never a traceback: what has the right shape makes a plan, whose own rules then decide."""
    data = {"command": ["true"], field: value}
    if not list(plan_file.faults_of(Plan, data)):
        plan = Plan.from_data({"version": VERSION, **data})
        assert json.loads(json.dumps(plan.to_data()))[field] is not None or value is None
        list(plan.faults())
    else:
        assert value is not None or type(None) not in _arms(field)


def _arms(field: str) -> tuple[Any, ...]:
    kind = plan_file.types_of(Plan)[field]
    return tuple(getattr(kind, "__args__", ()))


@given(json_values)
def test_whatever_stands_for_a_plan_is_taken_or_refused(value: Any) -> None:
    assert list(plan_file.faults_of(Plan, value))


def leaves(record: Record, prefix: str = "") -> list[str]:
    found = []
    for name in record._fields:
        value = getattr(record, name)
        found += leaves(value, f"{prefix}{name}.") if isinstance(value, Record) else [prefix + name]
    return found


def with_other(record: Any, path: str) -> Any:
    """Return the record with another value in the field `path`: of its type, not its default."""
    name, _, rest = path.partition(".")
    if rest:
        return record.replace(**{name: with_other(getattr(record, name), rest)})
    return record.replace(**{name: other(plan_file.types_of(type(record))[name], record, name)})


def other(kind: Any, record: Record, name: str) -> Any:
    samples: list[Any] = [True, False, 7, 1.5, "slave", ("slave",), (("A", "b"),), (7,)]
    samples += [(Extent(inside=1, outside=2, count=3),), Offset(seconds=5), ("pid",)]
    samples += [(Join(namespace="net", pid=7),), (Keep(namespace="net", path="/x"),)]
    samples += [(Tmpfs(target="/tmp"),), (Port(inside=1, outside=2),), (Listening(port=1),)]
    samples += [(Rlimit(name="core"),), (Host(name="a", address="192.0.2.1"),)]
    for value in samples:
        if value != getattr(record, name) and not list(
            plan_file.faults_of(kind, Plan(command=("a",), workdir=value).to_data()["workdir"])
        ):
            return value
    raise AssertionError(f"no sample for {name}: {kind}")


def test_no_field_of_a_plan_is_silent() -> None:
    """Set alone, it changes what is told, and is translated or named as untranslatable."""
    for path in leaves(Plan(command=("a",))):
        plain = Plan(command=("a",), namespaces=NAMES, net=Net(loopback=path == "net.loopback"))
        plan = with_other(plain, path)
        assert preview.happenings(plan) != preview.happenings(plain), path
        for caller in CALLERS:
            before, after = equivalent.of(plain, caller), equivalent.of(plan, caller)
            if path not in SAME_FOR_UNSHARE:
                assert before != after, path


# keep_groups: there is nothing to drop. life.in_place: unshare(1) does that by itself.
SAME_FOR_UNSHARE = {"identity.keep_groups", "life.in_place"}


def test_a_later_field_is_told_and_has_no_equivalent() -> None:
    class Later(Plan):
        """A plan of a later version, with a field that nothing here knows."""

        gravity: float = 9.81

    plan = Later(command=("true",), gravity=1.62)
    told = preview.text(plan, equivalent.of(plan, CALLERS[0]))
    assert "with gravity = 1.62\n" in told
    assert "no equivalent: gravity: unshare(1) has no such thing\n" in told


def test_the_types_of_every_field_are_known() -> None:
    def check(kind: Any) -> None:
        if kind is Operation:
            for each in KINDS.values():
                check(each)
        elif isinstance(kind, type) and issubclass(kind, Record):
            for type_ in plan_file.types_of(kind).values():
                check(type_)
        elif args := [arg for arg in getattr(kind, "__args__", ()) if arg is not Ellipsis]:
            for arg in args:
                check(arg)
        else:
            assert kind in {str, int, bool, float, type(None)}

    check(Plan)


def test_all_faults_are_told_at_once(tmp_path: Any) -> None:
    path = tmp_path / "plan"
    data = {"version": VERSION, "command": 1, "identity": {"uid": "a"}, "b": 2}
    path.write_text(json.dumps(data))
    with pytest.raises(UsageFault) as caught:
        plan_file.read(str(path))
    assert len(caught.value.faults) == 3
