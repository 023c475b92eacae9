"""The keywords of a Container against the table of settings: none is forgotten, each has a type."""

from __future__ import annotations

import typing
from typing import Any

import pytest

from pyspaces import (
    Chroot,
    Container,
    Inject,
    Popen,
    Sandbox,
    UsageFault,
    get_context,
    run,
    setns,
    settings,
)
from pyspaces.kernel import namespaces
from pyspaces.library import keywords, space
from pyspaces.settings import FLAG, OPERATION, OPTIONAL, ORDERED, TOGGLE

TYPES = typing.get_type_hints(keywords.Space)


def test_every_setting_is_taken_or_refused_with_a_reason() -> None:
    names = {row.name for row in settings.SETTINGS}
    taken = {name for name in space.TAKEN.values() if name in settings.BY_NAME}
    assert taken | set(space.REFUSED) == names
    # A setting under another name is refused under its own, but for the name of the process.
    assert taken & set(space.REFUSED) == set(space.RENAMED) - {"name"}
    assert all(len(reason.split()) > 2 for reason in space.REFUSED.values())


def test_the_types_are_those_of_the_table() -> None:
    assert set(TYPES) == set(space.TAKEN)
    for keyword, name in space.TAKEN.items():
        row = settings.BY_NAME.get(name)
        if row is None:
            assert keyword in ("mounts", "flags")
        elif row.kind in (FLAG, ORDERED, OPERATION) or keyword in space.ALIASES:
            assert TYPES[keyword] is bool, keyword
        elif row.kind == TOGGLE:
            assert TYPES[keyword] == bool | None, keyword
        elif row.kind == OPTIONAL:
            assert TYPES[keyword] == bool | str, keyword
        else:
            assert TYPES[keyword] is not bool, keyword


def test_what_one_process_has_is_no_keyword_of_a_context_nor_the_root_of_a_chroot() -> None:
    own = set(typing.get_type_hints(keywords.Own))
    shared = set(typing.get_type_hints(keywords.Shared))
    assert set(TYPES) - shared == set(space.SINGLE)
    assert set(TYPES) - own == {"root"}
    with pytest.raises(TypeError, match="root"):
        Chroot("/", len, root="/")  # type: ignore[call-arg]


@pytest.mark.parametrize("name", sorted(space.REFUSED))
def test_a_refusal_names_the_setting_and_says_why(name: str) -> None:
    for use in (Container, get_context):
        with pytest.raises(UsageFault) as caught:
            use(**{name: "x"})  # type: ignore[arg-type]
        assert caught.value.faults == (f"{name}: {space.REFUSED[name]}",)


@pytest.mark.parametrize("name", sorted(space.REFUSED_FOR_COMMAND))
def test_a_command_has_reasons_of_its_own(name: str) -> None:
    with pytest.raises(UsageFault) as caught:
        Popen(["true"], **{name: "x"})  # type: ignore[arg-type]
    assert caught.value.faults == (f"{name}: {space.REFUSED_FOR_COMMAND[name]}",)


def test_each_reason_for_a_function_that_says_so_has_another_for_a_command() -> None:
    operations = {row.name for row in settings.SETTINGS if row.kind == ORDERED}
    rest = set(space.REFUSED) - operations - set(space.RENAMED)
    assert rest == set(space.REFUSED_FOR_COMMAND) | set(space.FOR_COMMAND)


def test_a_plan_is_refused_for_a_command_as_its_setting_is() -> None:
    plan = settings.plan_from({"command": ["true"], "listen": ["0"]})
    with pytest.raises(UsageFault, match="listen: bind a socket in the program"):
        run(["true"], plan=plan)


@pytest.mark.parametrize("name", sorted(space.SINGLE))
def test_a_context_refuses_what_is_of_one_process(name: str) -> None:
    with pytest.raises(UsageFault, match=f"{name}: .*a context starts many"):
        get_context(**{name: "x"})  # type: ignore[arg-type]


def test_what_is_no_setting_at_all() -> None:
    uses: list[Any] = [Container, get_context, lambda **more: Inject(1, **more)]
    uses.append(lambda **more: setns(1, **more).__enter__())
    for use in uses:
        with pytest.raises(TypeError, match="unexpected keyword argument 'colour'"):
            use(colour="red")


def test_a_misspelt_keyword_is_answered_with_the_nearest() -> None:
    uses: list[Any] = [Container, Sandbox, get_context, lambda **more: run("true", **more)]
    uses.append(lambda **more: setns(1, **more).__enter__())
    for use in uses:
        with pytest.raises(TypeError, match=r"keyword argument 'usr'\. Did you mean 'user'\?$"):
            use(usr=True)
    with pytest.raises(TypeError, match=r"'stdn'\. Did you mean 'stdin'\?$"):
        run("true", stdn=3)  # type: ignore[call-arg]


def test_visits_take_each_namespace_as_a_keyword() -> None:
    types = typing.get_type_hints(keywords.Namespaces)
    assert types == dict.fromkeys((*namespaces.NAMES, "all"), bool)


@pytest.mark.parametrize(
    ("given", "fault"),
    [
        ({"uid_map": "1000,1001"}, r"uid_map: 1000,1001: is neither .* are a list: \[1000, 1001\]"),
        ({"gid_map": ["0 0 2", "1 1 1"]}, "gid_map: 1 1 1: overlaps with 0 0 2"),
        ({"loopback": True}, "loopback: needs a new net namespace: add net=True"),
        ({"no_nested_users": True}, "no_nested_users: .*: add user=True"),
        ({"share": "net"}, "share: requires all=True"),
        ({"empty_root": True, "root": "/"}, "empty_root: cannot be combined with root"),
        ({"registered": "a b"}, "registered: "),
        ({"overlay_diff": "x"}, "overlay_diff: needs tmp_overlay=... or throwaway=..."),
    ],
)
def test_faults_are_in_the_words_of_python(given: dict[str, Any], fault: str) -> None:
    with pytest.raises(UsageFault, match=fault):
        Container(len, **given)
