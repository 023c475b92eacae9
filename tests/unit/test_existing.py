"""Joined namespaces, files that keep some, and names: the grammar, and all faults at once."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyspaces import settings
from pyspaces.errors import UsageFault
from pyspaces.features.existing import values
from pyspaces.features.existing.names import name_fault
from pyspaces.features.existing.values import Join, Joining, Keep


@pytest.mark.parametrize(
    ("text", "join"),
    [
        ("net=/run/netns/a", Join(namespace="net", path="/run/netns/a")),
        ("net=4711", Join(namespace="net", pid=4711)),
        ("uts=a=b", Join(namespace="uts", path="a=b")),
        ("uts=./7", Join(namespace="uts", path="./7")),
        ("uts=\u0667", Join(namespace="uts", path="\u0667")),
        ("uts=9999999999", Join(namespace="uts", path="9999999999")),
    ],
)
def test_joins(text: str, join: Join) -> None:
    assert values.parse_join(text) == join
    assert str(join) == text


@pytest.mark.parametrize("text", ["", "net", "net=", "="])
def test_what_is_no_join_and_no_keep(text: str) -> None:
    with pytest.raises(ValueError, match="is not of the form NS=PATH, NS=PID or NS=NAME"):
        values.parse_join(text)
    with pytest.raises(ValueError, match="is not of the form NS=FILE"):
        values.parse_keep(text)


def test_all_faults_at_once() -> None:
    joining = Joining(
        joins=(
            Join(namespace="what", pid=1),
            Join(namespace="net", pid=1),
            Join(namespace="net", path="/a"),
            Join(namespace="uts", pid=-1),
            Join(namespace="ipc", path="\0"),
        )
    )
    assert [fault.partition(": is not a namespace")[0] for fault in joining.faults()] == [
        "join: what=1",
        "join: net=/a: a process is in one net namespace",
        "join: uts=-1: names neither a file nor a process",
        "join: ipc: '\\x00': holds a NUL",
    ]
    keeps = (
        Keep(namespace="what", path="/a"),
        Keep(namespace="net", path="/b"),
        Keep(namespace="uts", path="/b"),
    )
    assert [
        fault.partition(": is not a namespace")[0] for fault in values.keep_faults(keeps, ["net"])
    ] == [
        "keep: what=/a",
        "keep: net=/b: a file keeps one namespace",
        "keep: uts=/b: the uts namespace is not new",
        "keep: uts=/b: a file keeps one namespace",
    ]


def test_what_is_joined_is_not_made() -> None:
    with pytest.raises(UsageFault) as caught:
        settings.plan_from({"command": ["x"], "join": ["net=/a"], "net": True})
    assert "join: net: --net asks for a new one" in caught.value.faults
    plan = settings.plan_from({"command": ["x"], "join": ["net=/a"], "all": True})
    assert "net" not in plan.namespaces
    assert "uts" in plan.namespaces
    with pytest.raises(UsageFault, match="join: uts: --hostname asks for a new one"):
        settings.plan_from({"command": ["x"], "join": ["uts=/a"], "hostname": "b"})


def test_a_keep_makes_what_it_keeps() -> None:
    plan = settings.plan_from({"command": ["x"], "keep": ["net=/a"]})
    assert plan.namespaces == ("net",)
    assert plan.existing.keeps == (Keep(namespace="net", path="/a"),)


def test_a_hold_is_a_plan_without_a_command() -> None:
    plan = settings.plan_from({"hold": True, "name": "box", "user": True})
    assert plan.existing.hold
    assert plan.life.kill_child is None


def test_nothing_to_join_is_no_joining() -> None:
    assert not Joining()
    assert Joining(root=True, target=1)
    assert Joining(joins=(Join(namespace="net", pid=1),))


@given(st.text(max_size=80))
def test_a_name_without_fault_is_harmless(name: str) -> None:
    if name_fault(name) is None:
        assert 0 < len(name) <= 64
        assert name.isascii()
        assert name[0].isalnum()
        assert not name.isdecimal()
        assert not {"/", "\0", " ", "\n"}.intersection(name)
