"""What --sandbox stands for, and what takes the place of a part of it."""

from __future__ import annotations

import pytest

from pyspaces import settings
from pyspaces.errors import UsageFault
from pyspaces.plan import Plan
from pyspaces.settings.presets import expanded

ALL = ("user", "mount", "pid", "net", "uts", "ipc", "cgroup")


def plan_of(**mapping: object) -> Plan:
    return settings.plan_from({"command": ["true"], "sandbox": True, **mapping})


def test_the_whole_of_it() -> None:
    """A promise: pyspaces-run(1) and SECURITY.md have the same list."""
    plan = plan_of()
    assert set(plan.namespaces) == set(ALL)
    assert [(one.inside, one.count) for one in plan.maps.uid_map] == [
        (plan.maps.uid_map[0].outside, 1)
    ]
    assert plan.privileges.cap_drop == ("ALL",)
    assert (plan.privileges.no_new_privs, plan.privileges.no_nested_users) == (True, True)
    assert plan.life.new_session
    assert plan.seccomp.profile == "default"
    assert plan.mounts.empty_root
    assert plan.mounts.guard_proc
    assert plan.mounts.operations[0].target == "/usr"
    written = {
        **dict.fromkeys(ALL, True),
        "map_current": True,
        "cap_drop": "all",
        "no_new_privs": True,
        "no_nested_users": True,
        "new_session": True,
        "seccomp": "default",
        "mounts": [["host_ro"]],
    }
    assert plan == settings.plan_from({"command": ["true"], **written})


def test_nothing_is_changed_without_it() -> None:
    mapping = {"command": ["true"], "user": True}
    assert expanded(mapping) is mapping
    assert expanded({**mapping, "sandbox": False})["user"] is True
    assert settings.plan_from({**mapping, "sandbox": False}) == settings.plan_from(mapping)


def test_what_is_shared_or_joined_is_not_new() -> None:
    assert "net" not in plan_of(share="net").namespaces
    assert not {"net", "ipc"} & set(plan_of(share=["net,ipc"]).namespaces)
    assert "uts" not in plan_of(join=["uts=/proc/1/ns/uts"]).namespaces
    assert "time" in plan_of(all=True, share="net").namespaces


def test_others_take_the_place_of_a_part() -> None:
    assert not plan_of(pty=True).life.new_session
    assert not plan_of(allow_new_privs=True).privileges.no_new_privs
    assert plan_of(map_root=True).maps.uid_map[0].inside == 0
    assert plan_of(seccomp="x.json").seccomp.profile == "x.json"
    assert plan_of(seccomp_learn="x.json").seccomp.profile is None
    assert plan_of(cap_drop="chown").privileges.cap_drop == ("CAP_CHOWN",)
    assert not plan_of(root="/srv").mounts.empty_root
    assert not any(one.target == "/usr" for one in plan_of(empty_root=True).mounts.operations)


def test_what_is_added_comes_behind() -> None:
    plan = plan_of(mounts=[["bind", "/srv", "/mnt"]], seccomp_allow="@debug", init=True)
    assert [one.target for one in plan.mounts.operations][-1] == "/mnt"
    assert plan.seccomp.allow == ("@debug",)


@pytest.mark.parametrize(
    ("mapping", "fault"),
    [
        ({"hold": True, "name": "x", "command": []}, "hold: cannot be combined with --sandbox"),
        ({"no_fork": True}, "no-fork: cannot be combined with --pid"),
        ({"share": "user"}, "no-nested-users: needs a new user namespace"),
        ({"sandbox": "yes"}, "sandbox: takes True or False"),
        ({"mounts": "x"}, "mounts: takes a list of operations"),
        ({"share": 5}, "share: '5' is not a namespace"),
    ],
)
def test_what_does_not_go_with_it(mapping: dict[str, object], fault: str) -> None:
    with pytest.raises(UsageFault) as caught:
        plan_of(**mapping)
    assert any(fault in line for line in caught.value.faults), caught.value.faults
