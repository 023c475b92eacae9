"""What people write of system calls, and profiles in OCI's format."""

from __future__ import annotations

import errno
import json
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyspaces import settings
from pyspaces.errors import UsageFault
from pyspaces.feature import CONFINEMENT, CONFINING
from pyspaces.features.confinement import profile
from pyspaces.features.confinement.groups import GROUPS, NEW, members
from pyspaces.features.confinement.profile import Host, Rule, Unfit, parse
from pyspaces.features.confinement.seccomp import action_of
from pyspaces.kernel import bpf, constants
from pyspaces.kernel.libseccomp import Comparison
from pyspaces.plan import Plan

HOST = Host(architecture="x86_64", kernel=(6, 1), capabilities=frozenset(["CAP_SYS_CHROOT"]))
ALLOW, EPERM = constants.SECCOMP_RET_ALLOW, constants.SECCOMP_RET_ERRNO | errno.EPERM


def parsed(**more: object) -> profile.Profile:
    data = {"defaultAction": "SCMP_ACT_ERRNO", **more}
    return parse(json.dumps(data).encode(), HOST)


def test_a_profile_as_the_specification_has_it() -> None:
    found = parsed(
        defaultErrnoRet=38,
        architectures=["SCMP_ARCH_X86_64", "SCMP_ARCH_X32"],
        flags=["SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_TSYNC"],
        syscalls=[
            {"names": ["read", "write"], "action": "SCMP_ACT_ALLOW", "args": []},
            {
                "names": ["clone"],
                "action": "SCMP_ACT_ERRNO",
                "errnoRet": 5,
                "args": [{"index": 0, "value": 3, "valueTwo": 1, "op": "SCMP_CMP_MASKED_EQ"}],
            },
        ],
    )
    assert found == profile.Profile(
        default=constants.SECCOMP_RET_ERRNO | 38,
        architectures=("x86_64", "x32"),
        flags=constants.SECCOMP_FILTER_FLAG_LOG,
        rules=(
            Rule(names=("read", "write"), action=ALLOW),
            Rule(
                names=("clone",),
                action=constants.SECCOMP_RET_ERRNO | 5,
                conditions=(Comparison(index=0, operator="MASKED_EQ", value=3, other=1),),
            ),
        ),
    )


def test_a_profile_as_moby_and_podman_write_it() -> None:
    found = parsed(
        defaultErrno="ENOSYS",
        archMap=[
            {"architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86"]},
            {"architecture": "SCMP_ARCH_AARCH64", "subArchitectures": ["SCMP_ARCH_ARM"]},
        ],
        syscalls=[
            {"name": "read", "action": "SCMP_ACT_ALLOW", "args": None, "comment": "x"},
            {"names": ["bpf"], "action": "SCMP_ACT_ERRNO", "errno": "EIO"},
        ],
    )
    assert found.default == constants.SECCOMP_RET_ERRNO | errno.ENOSYS
    assert found.architectures == ("x86",)
    assert found.rules[0].names == ("read",)
    assert found.rules[1].action == constants.SECCOMP_RET_ERRNO | errno.EIO


@pytest.mark.parametrize(
    ("condition", "applies"),
    [
        ({"includes": {"caps": ["CAP_SYS_CHROOT"]}}, True),
        ({"includes": {"caps": ["CAP_SYS_ADMIN"]}}, False),
        ({"includes": {"caps": ["CAP_SYS_CHROOT", "CAP_SYS_ADMIN"]}}, False),
        ({"excludes": {"caps": ["CAP_SYS_ADMIN"]}}, True),
        ({"excludes": {"caps": ["CAP_SYS_ADMIN", "CAP_SYS_CHROOT"]}}, False),
        ({"includes": {"arches": ["amd64", "x32"]}}, True),
        ({"includes": {"arches": ["arm64"]}}, False),
        ({"excludes": {"arches": ["amd64"]}}, False),
        ({"includes": {"minKernel": "6.1"}}, True),
        ({"includes": {"minKernel": "6.10"}}, False),
        ({"excludes": {"minKernel": "4.8"}}, False),
        ({"includes": {}, "excludes": {}}, True),
        ({"includes": {"caps": ["CAP_SYS_CHROOT"], "arches": ["arm64"]}}, False),
    ],
)
def test_rules_for_some_hosts(condition: dict[str, object], applies: bool) -> None:
    rule = {"names": ["chroot"], "action": "SCMP_ACT_ALLOW", **condition}
    assert bool(parsed(syscalls=[rule]).rules) is applies


def test_two_conditions_on_one_argument_are_two_rules() -> None:
    args = [{"index": 0, "value": n, "op": "SCMP_CMP_EQ"} for n in (1, 2)]
    rule = {"names": ["personality"], "action": "SCMP_ACT_ALLOW", "args": args}
    assert [len(one.conditions) for one in parsed(syscalls=[rule]).rules] == [1, 1]
    args[1]["index"] = 1
    assert [len(one.conditions) for one in parsed(syscalls=[rule]).rules] == [2]


def rules(*rows: dict[str, object]) -> bytes:
    data = {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": list(rows)}
    return json.dumps(data).encode()


CALL: dict[str, object] = {"names": ["a"], "action": "SCMP_ACT_ALLOW"}
EQ: dict[str, object] = {"index": 0, "value": 1, "op": "SCMP_CMP_EQ"}


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (b"", "is not JSON"),
        (b"\xff", "is not UTF-8"),
        (b"[" * 100_000, "is nested too deeply"),
        (b"[]", "the profile: has to be an object"),
        (b"{}", "defaultAction: has to be a text"),
        (b'{"defaultAction": "ALLOW"}', "'ALLOW' is not an action"),
        (b'{"defaultAction": "SCMP_ACT_NOTIFY"}', "hands a filter to no listener"),
        (b'{"defaultAction": "SCMP_ACT_ALLOW", "x": 1}', "x: unknown member"),
        (rules({"names": ["a"]}), "syscalls[0].action: has to be a text"),
        (rules({"action": "SCMP_ACT_ALLOW"}), "syscalls[0].names: is missing"),
        (rules(CALL | {"names": "a"}), "syscalls[0].names: has to be a list"),
        (rules(CALL | {"names": ["\u00e4"]}), "is not a name"),
        (rules(CALL | {"names": ["a" * 100]}), "is not a name"),
        (rules(CALL | {"errnoRet": True}), "errnoRet: has to be a whole number"),
        (rules(CALL | {"errnoRet": -1}), "is not an errno"),
        (rules(CALL | {"errno": "EWRONG"}), "is not an errno"),
        (rules(CALL | {"includes": {"x": 1}}), "syscalls[0].includes.x: unknown member"),
        (rules(CALL | {"includes": {"minKernel": "six"}}), "is not a version"),
        (rules(CALL | {"args": [EQ | {"index": 6}]}), "is not a condition"),
        (rules(CALL | {"args": [EQ | {"op": "SCMP_CMP_IN"}]}), "is not a condition"),
        (rules(CALL | {"args": [EQ | {"value": 1 << 64}]}), "value: is out of range"),
        (rules(CALL | {"args": [EQ | {"value": "1"}]}), "value: has to be a whole number"),
        (rules(CALL | {"names": ["a"] * 20_001}), "20000 are the most"),
        (rules(*[CALL] * 257), "too many rules"),
        (rules(*[CALL | {"args": [EQ, EQ | {"index": 1}]}] * 9), "too many rules"),
        (rules(CALL | {"names": [f"c{n}" for n in range(2001)], "args": [EQ]}), "too many rules"),
        (b'{"defaultAction": "SCMP_ACT_ALLOW", "listenerPath": "/x"}', "listenerPath"),
        (b'{"defaultAction": "SCMP_ACT_ALLOW", "flags": ["X"]}', "flags: X"),
        (b'{"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["x"]}', "is not an architecture"),
    ],
)
def test_what_is_no_profile(content: bytes, fault: str) -> None:
    begun = time.monotonic()
    with pytest.raises(Unfit) as caught:
        parse(content, HOST)
    assert fault in str(caught.value)
    assert len(str(caught.value)) < 400
    assert time.monotonic() - begun < 20


KEYS = (
    *("names", "action", "args", "index", "value", "op", "includes", "caps", "arches"),
    *("minKernel", "errnoRet", "valueTwo", "architecture", "subArchitectures"),
)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(KEYS),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(values, values, values)
def test_any_other_content_is_refused_with_a_reason(
    one: object, two: object, three: object
) -> None:
    data = {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": one, "archMap": two, "flags": three}
    try:
        parse(json.dumps(data).encode(), HOST)
    except Unfit as fault:
        assert str(fault)  # noqa: PT017 - and no other exception


def test_a_file_that_cannot_be_read_or_is_too_large(tmp_path: Path) -> None:
    large = tmp_path / "large"
    large.write_bytes(b" " * (profile.LARGEST + 1))
    for path, why in ((str(large), "larger"), ("/nonexistent", "No such"), ("/tmp", "directory")):
        with pytest.raises(Unfit, match=why):
            profile.read(path)
    import os

    os.mkfifo(tmp_path / "fifo")
    assert profile.read(str(tmp_path / "fifo")) == b""


# --- words and groups ------------------------------------------------------------------------


def test_actions() -> None:
    assert action_of("kill") == constants.SECCOMP_RET_KILL_PROCESS
    assert action_of("log") == constants.SECCOMP_RET_LOG
    assert action_of("ENOSYS") == action_of("38") == constants.SECCOMP_RET_ERRNO | 38
    for text in ("", "0", "4096", "enosys", "errorcode", "allow", "-1", "99999"):
        with pytest.raises(ValueError, match="is not kill"):
            action_of(text)


@pytest.mark.parametrize("group", sorted(GROUPS))
def test_groups_are_made_of_calls(group: str) -> None:
    found = list(members(group))
    assert found
    assert all(name.replace("_", "").isalnum() for name in found)


def test_the_numbers_that_are_the_same_everywhere() -> None:
    assert (NEW["pidfd_send_signal"], NEW["clone3"], NEW["mseal"]) == (424, 435, 462)
    assert (NEW["landlock_create_ruleset"], NEW["open_tree_attr"]) == (444, 467)


@pytest.mark.parametrize(
    ("mapping", "fault"),
    [
        ({"seccomp_deny": "@nothing"}, "seccomp-deny: @nothing: unknown group"),
        ({"seccomp_deny": "mount:maybe"}, "'maybe' is not kill, log, or an errno"),
        ({"seccomp_deny": "a b"}, "'a b' is not the name of a system call"),
        ({"seccomp_deny": ""}, "'' is not the name of a system call"),
        ({"seccomp_allow": "mount:kill"}, "takes no action"),
        ({"seccomp_fd": ["x"]}, "seccomp-fd: 'x' is not the number of a descriptor"),
        ({"seccomp_fd": [3, 3]}, "seccomp-fd: a descriptor is given twice"),
        ({"seccomp": ""}, "seccomp: a path cannot be empty"),
        ({"seccomp": "default", "hold": True, "name": "x"}, "hold: cannot be combined"),
    ],
)
def test_each_fault_is_told(mapping: dict[str, object], fault: str) -> None:
    words = {} if "hold" in mapping else {"command": ["true"]}
    with pytest.raises(UsageFault) as caught:
        settings.plan_from({**words, **mapping})
    assert any(fault in line for line in caught.value.faults), caught.value.faults


def test_a_plan_with_filters_survives_json() -> None:
    plan = settings.plan_from(
        {"command": ["true"], "seccomp": "x.json", "seccomp_deny": "@mount,bpf:kill"}
    )
    assert plan.seccomp.deny == ("@mount", "bpf:kill")
    assert Plan.from_data(plan.to_data()) == plan


VALUES = {
    "seccomp_fd": ["3"],
    "no_terminal_injection": True,
    "seccomp_deny": "bpf",
    "seccomp_allow": "bpf",
    "allow_connect": "80",
    "allow_bind": "80",
    "scope": "signal",
}


@pytest.mark.parametrize("name", CONFINING)
def test_what_confines_forbids_new_privileges(name: str) -> None:
    mapping = {"command": ["true"], name: VALUES.get(name, "default")}
    assert settings.plan_from(mapping).privileges.no_new_privs
    assert not settings.plan_from({**mapping, "allow_new_privs": True}).privileges.no_new_privs


def test_all_settings_that_confine_are_among_these() -> None:
    rows = {row.name for row in settings.SETTINGS if row.group == CONFINEMENT}
    assert rows - {"landlock_best_effort", "sandbox"} == set(CONFINING)


# --- programs --------------------------------------------------------------------------------


@given(st.dictionaries(st.integers(424, 500), st.sampled_from([EPERM, 0]), max_size=20))
def test_a_program_by_numbers(answers: dict[int, int]) -> None:
    program = bpf.by_number(answers)
    assert bpf.fault(program) is None
    for number in range(420, 505):
        for bit in (0, 0x40000000):
            assert bpf.answer(program, number | bit, 0xC000003E) == answers.get(number, ALLOW)


@given(st.binary(max_size=200))
def test_any_bytes_have_an_answer_or_none(program: bytes) -> None:
    found = bpf.answer(program, 1, 2)
    assert found is None or 0 <= found < 1 << 32
    if not program or len(program) % 8:
        assert bpf.fault(program)


def test_a_program_that_is_too_long() -> None:
    assert bpf.fault(bpf.constant(0) * 4096) is None
    assert "more than 4096 instructions" in str(bpf.fault(bpf.constant(0) * 4097))
