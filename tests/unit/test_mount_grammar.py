"""The values of --mount=, and what becomes of them."""

from __future__ import annotations

import os
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyspaces import settings
from pyspaces.commands import fast
from pyspaces.errors import UsageFault
from pyspaces.mounts import grammar
from pyspaces.mounts.operations import Bind, Dev, Operation, Proc, RemountRo, Sysfs, Tmpfs


def made(*values: str, **more: Any) -> tuple[Operation, ...]:
    mounts = [["mount", value] for value in values]
    plan = settings.plan_from({"command": ["true"], "user": True, "mounts": mounts, **more})
    return plan.mounts.operations


@pytest.mark.parametrize(
    ("value", "operations"),
    [
        ("type=bind,source=/a,target=/b", [Bind(source="/a", target="/b")]),
        ("type=bind,src=/a,dst=/b,ro", [Bind(source="/a", target="/b", read_only=True)]),
        (
            "ro=true,destination=/b,src=/a,type=bind",
            [Bind(source="/a", target="/b", read_only=True)],
        ),
        ("type=bind,src=/a,dst=/b,readonly=false", [Bind(source="/a", target="/b")]),
        ("type=bind,src=/a,dst=/b,rw,nosuid,nodev,exec", [Bind(source="/a", target="/b")]),
        (
            "type=bind,src=/a,dst=/b,noexec,suid,dev",
            [Bind(source="/a", target="/b", no_exec=True, suid=True, dev=True)],
        ),
        ("type=tmpfs,target=/t", [Tmpfs(target="/t")]),
        (
            "type=tmpfs,dst=/t,size=1m,mode=1777,noexec,nosuid,nodev,ro",
            [Tmpfs(target="/t", size=1 << 20, perms=0o1777, no_exec=True), RemountRo(target="/t")],
        ),
        (
            "type=tmpfs,dst=/t,tmpfs-size=2k,tmpfs-mode=700",
            [Tmpfs(target="/t", size=2048, perms=0o700)],
        ),
        ("type=dev,dst=/d,nosuid", [Dev(target="/d")]),
        ("type=sysfs,dst=/s,ro", [Sysfs(target="/s"), RemountRo(target="/s")]),
        (
            '"source=/a,b",type=bind,"target=/say ""hi"""',
            [Bind(source="/a,b", target='/say "hi"')],
        ),
        ("type=bind,src=/a=b,dst=/b", [Bind(source="/a=b", target="/b")]),
    ],
)
def test_what_they_mean(value: str, operations: list[Operation]) -> None:
    assert made(value, net=True) == tuple(operations)


def test_a_new_proc_needs_a_new_pid_namespace_as_with_the_option() -> None:
    assert Proc(target="/p") in made("type=proc,target=/p", pid=True)
    assert made("type=proc,target=/p") == (Bind(source="/proc", target="/p"),)


def test_a_point_is_the_working_directory() -> None:
    assert made("type=bind,src=.,dst=.") == (Bind(source=".", target=os.getcwd()),)


@pytest.mark.parametrize(
    ("value", "fault"),
    [
        ("", "'': is unknown"),
        ("target=/a", "type: is missing: choose from bind, tmpfs, proc, sysfs, mqueue, dev"),
        ("type=volume,target=/a", "type: 'volume': is unknown: choose from bind,"),
        ("type=bind,target=/a", "source: is missing"),
        ("type=bind,source=/a", "target: is missing"),
        ("type=bind,source=,target=/a", "source: requires a value"),
        ("type=bind,source=/a,target=b", "a target is a path inside, and begins with /"),
        ("type=bind,source=/a,target=/b,size=1", "size: does not apply to type=bind"),
        ("type=tmpfs,target=/b,source=x", "source: does not apply to type=tmpfs"),
        ("type=tmpfs,target=/b,suid", "suid: does not apply to type=tmpfs"),
        ("type=tmpfs,target=/b,size=x", "size: 'x' is not a size"),
        ("type=tmpfs,target=/b,mode=9", "perms: '9' is not a mode"),
        ("type=proc,target=/b,exec", "exec: does not apply to type=proc"),
        ("type=bind,src=/a,source=/b,dst=/c", "source: is given twice"),
        ("type=bind,src=/a,dst=/c,ro,rw", "rw: is given twice, or contradicts"),
        ("type=bind,src=/a,dst=/c,ro=1", "ro: '1': is neither true nor false"),
        ("type=bind,src=/a,dst=/c,z", "'z': is unknown"),
        ('type=bind,"src=/a', "a quote is not closed"),
    ],
)
def test_what_is_wrong(value: str, fault: str) -> None:
    with pytest.raises(UsageFault) as caught:
        made(value)
    assert fault in caught.value.faults[0]


def test_a_modifier_is_for_the_other_options() -> None:
    mounts = [["size", "1"], ["mount", "type=tmpfs,target=/t"]]
    with pytest.raises(UsageFault, match="size: does not apply to --mount=, which has an option"):
        settings.plan_from({"command": ["true"], "user": True, "mounts": mounts})


def test_no_exec_is_for_the_next_operation() -> None:
    mounts = [["noexec"], ["tmpfs", "/t"], ["noexec"], ["ro_bind", "/a", "/b"], ["tmpfs", "/u"]]
    plan = settings.plan_from({"command": ["true"], "user": True, "mounts": mounts})
    assert plan.mounts.operations == (
        Tmpfs(target="/t", no_exec=True),
        Bind(source="/a", target="/b", read_only=True, no_exec=True),
        Tmpfs(target="/u"),
    )
    for wrong in ([["noexec"], ["dir", "/a"]], [["noexec"]], [["noexec"], ["noexec"]]):
        with pytest.raises(UsageFault, match="noexec: "):
            settings.plan_from({"command": ["true"], "user": True, "mounts": wrong})


def test_alone_it_is_a_namespace_and_with_a_value_an_operation() -> None:
    assert fast.line_of_run(["--mount", "x"]) == (("x",), {"mount": True})
    line = ["-m", "--tmpfs", "/a", "--mount=type=x", "--dir", "/b", "--mount=y"]
    assert fast.line_of_run(line) == (
        (),
        {
            "mount": True,
            "mounts": [["tmpfs", "/a"], ["mount", "type=x"], ["dir", "/b"], ["mount", "y"]],
        },
    )


@given(st.text(alphabet='typebind=,"/sorcag ', max_size=40))
def test_every_text_is_read_or_refused(text: str) -> None:
    def number(field: str, word: str) -> int:
        assert field in ("size", "perms")
        return len(word)

    try:
        found = list(grammar.operations_of(text, number))
    except grammar.Wrong:
        return
    assert found
