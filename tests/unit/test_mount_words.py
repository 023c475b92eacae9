"""Operations as people write them: any words make operations, or faults, and never a traceback."""

from __future__ import annotations

import json
from typing import Any

import hypothesis
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyspaces import settings
from pyspaces.errors import UsageFault
from pyspaces.mounts import table, words
from pyspaces.mounts.operation import NO_EXEC, PERMS, SIZE, SOURCE
from pyspaces.mounts.operations import KINDS, Bind, Dev, Operation, Proc, Tmpfs
from pyspaces.pattern import matches
from pyspaces.settings import ORDERED, SETTINGS

NAMES = [row.name for row in SETTINGS if row.kind == ORDERED]
texts = st.sampled_from(["/a", "/", "0", "1M", "0755", ".", "x", "", "/a/../b", "7" * 40, "a\0b"])


def read(*items: Any) -> tuple[tuple[Operation, ...], list[str]]:
    faults: list[str] = []
    return words.operations_from(items, faults), faults


@hypothesis.settings(max_examples=40)
@given(st.lists(st.tuples(st.sampled_from([*NAMES, "what"]), st.lists(texts, max_size=4))))
def test_any_words_are_taken_or_refused(items: list[tuple[str, list[str]]]) -> None:
    made, faults = read(*([name, *rest] for name, rest in items if name != "throwaway"))
    for operation in made:
        list(operation.faults())
        assert operation.describe()
        for whole in (True, False):
            data = json.loads(json.dumps(operation.to_data(whole=whole)))
            assert Operation.from_data(data) == operation
    assert all("\n" not in fault for fault in faults)


def test_every_option_is_an_operation_or_about_one() -> None:
    known = {name.replace("-", "_") for name in table.OPERATIONS}
    known |= {name.replace("-", "_") for name in (SIZE, PERMS, SOURCE, NO_EXEC)}
    known |= {"host_ro", "throwaway"}
    assert known == set(NAMES)


def test_every_kind_can_be_written() -> None:
    made = {type(operation).__name__ for operation in everything()}
    assert made == set(KINDS)


def everything() -> list[Operation]:
    """Return an operation of each word."""
    made: list[Operation] = []
    for name, (_, fields, modifiers, _) in table.OPERATIONS.items():
        first = {"chmod": "0755", "file": "0"}.get(
            name, "0" if "fd" in name or "data" in name else "/a"
        )
        given = [first, "/b", "/c"][: len(fields)]
        layers = [["overlay-src", "/l"]] * 2 if SOURCE in modifiers else []
        operations, faults = read(*layers, [name, *given])
        assert faults == [], name
        made += operations
    return made


@pytest.mark.parametrize(
    ("text", "size"),
    [("1", 1), ("512K", 1 << 19), ("512k", 1 << 19), ("2M", 2 << 20), ("1G", 1 << 30)],
)
def test_sizes(text: str, size: int) -> None:
    assert read(["size", text], ["tmpfs", "/a"]) == ((Tmpfs(target="/a", size=size),), [])


def test_what_follows_by_itself() -> None:
    """A /proc of the new pid namespace, and a /dev where the root was bound without devices."""
    base: dict[str, Any] = {"user": True, "command": ["true"]}
    plan = settings.plan_from({**base, "pid": True, "mounts": [["tmpfs", "/tmp"]]})
    assert Proc() in plan.mounts.operations
    assert not plan.mounts.mount_proc
    plan = settings.plan_from({**base, "mounts": [["ro-bind", "/", "/"]]})
    assert plan.mounts.operations == (Bind(source="/", target="/", read_only=True), Dev())
    plan = settings.plan_from({**base, "mounts": [["ro-bind", "/", "/"], ["dev", "/dev"]]})
    assert plan.mounts.operations.count(Dev()) == 1
    plan = settings.plan_from({**base, "mounts": [["dev-bind", "/", "/"]]})
    assert Dev() not in plan.mounts.operations


def test_every_fault_is_told() -> None:
    with pytest.raises(UsageFault) as caught:
        settings.plan_from(
            {
                "command": ["true"],
                "bind": "/a",
                "mounts": [["bind", "/a"], ["perms", "9"], ["what"], ["size", "1"], 5],
            }
        )
    told = "\n".join(caught.value.faults)
    for fault in (
        "bind: requires 2 words, but got 1",
        "perms: '9' is not a mode",
        "mounts: 'what' is not an operation",
        "size: no operation follows",
        "bind: its place is in the list `mounts`, whose order counts",
    ):
        assert fault in told


@given(st.text("ab*?", max_size=8), st.text("ab", max_size=8))
def test_patterns_are_those_of_a_shell(pattern: str, name: str) -> None:
    import fnmatch

    assert matches(name, pattern) == fnmatch.fnmatchcase(name, pattern)
