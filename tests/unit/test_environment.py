"""The environment of the command: precedence, patterns, names."""

from __future__ import annotations

import fnmatch
import time

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pyspaces.features import environment
from pyspaces.features.environment import Environment
from pyspaces.launch import command
from pyspaces.pattern import matches

BASE = {b"HOME": b"/root", b"LC_ALL": b"C", b"LC_TIME": b"de", b"LANG": b"C", b"TERM": b"xterm"}

letters = st.text("abAB_?*\n\u00e9", max_size=12)


def test_nothing_asked_nothing_changed() -> None:
    result = Environment().apply(BASE)
    assert result == BASE
    assert result is not BASE


def test_clear() -> None:
    assert Environment(clear=True).apply(BASE) == {}


def test_keep_is_an_exception_from_clear() -> None:
    changes = Environment(clear=True, keep=("LC_*", "HOME", "NOT_THERE"))
    assert set(changes.apply(BASE)) == {b"LC_ALL", b"LC_TIME", b"HOME"}


def test_keep_without_clear_takes_nothing_away() -> None:
    assert Environment(keep=("HOME",)).apply(BASE) == BASE


def test_unset_is_stronger_than_keep() -> None:
    changes = Environment(clear=True, keep=("LC_*",), unset=("LC_ALL", "NOT_THERE"))
    assert changes.apply(BASE) == {b"LC_TIME": b"de"}


def test_set_is_stronger_than_all() -> None:
    changes = Environment(
        clear=True, keep=("HOME",), unset=("HOME", "NEW"), set=(("HOME", "/x"), ("NEW", ""))
    )
    assert changes.apply(BASE) == {b"HOME": b"/x", b"NEW": b""}


def test_the_last_value_of_a_name_wins() -> None:
    assert Environment(set=(("A", "1"), ("A", "2"))).apply({}) == {b"A": b"2"}


def test_a_name_to_unset_is_no_pattern() -> None:
    assert Environment(unset=("LC_*",)).apply(BASE) == BASE


def test_bytes_that_are_no_utf8_survive() -> None:
    base = {b"\xff\xfe": b"\x80", b"A": b"\xe9"}
    assert Environment(clear=True, keep=("*",)).apply(base) == base
    assert Environment(unset=("\udcff\udcfe",)).apply(base) == {b"A": b"\xe9"}
    assert Environment(set=(("B", "\udc80"),)).apply({}) == {b"B": b"\x80"}


names = st.text("ABC_", min_size=1, max_size=3)


@given(
    st.dictionaries(names, st.text("xyz", max_size=2)),
    st.booleans(),
    st.lists(st.text("ABC_*?", min_size=1, max_size=3), max_size=3),
    st.lists(names, max_size=3),
    st.lists(st.tuples(names, st.text("xyz", max_size=2)), max_size=3),
)
def test_precedence(
    base: dict[str, str],
    clear: bool,
    keep: list[str],
    unset: list[str],
    pairs: list[tuple[str, str]],
) -> None:
    changes = Environment(clear=clear, keep=tuple(keep), unset=tuple(unset), set=tuple(pairs))
    result = changes.apply({name.encode(): value.encode() for name, value in base.items()})
    expected = {}
    for name in {*base, *dict(pairs)}:
        if name in dict(pairs):
            expected[name.encode()] = dict(pairs)[name].encode()
        elif name in unset:
            continue
        elif not clear or any(fnmatch.fnmatchcase(name, pattern) for pattern in keep):
            expected[name.encode()] = base[name].encode()
    assert result == expected


@given(letters, letters)
@example("", "")
@example("", "*")
@example("a", "")
@example("aab", "*ab")
@example("abab", "*ab")
@example("ababa", "*aba*")
@example("aXbXc", "a*b*c")
@example("ab", "a**?")
@example("a", "?*?")
def test_patterns_are_those_of_fnmatch(name: str, pattern: str) -> None:
    assert matches(name, pattern) == fnmatch.fnmatchcase(name, pattern)


@given(st.text("ab", max_size=10), st.lists(st.sampled_from(["a", "b", "*", "?"]), max_size=10))
def test_dense_patterns_are_those_of_fnmatch(name: str, parts: list[str]) -> None:
    pattern = "".join(parts)
    assert matches(name, pattern) == fnmatch.fnmatchcase(name, pattern)


def test_brackets_are_plain_characters() -> None:
    assert matches("[a]", "[a]")
    assert not matches("a", "[a]")


def test_case_matters() -> None:
    assert not matches("lc_all", "LC_*")


def test_many_stars_do_not_take_for_ever() -> None:
    started = time.monotonic()
    assert not matches("a" * 400, "a*" * 200 + "b")
    assert time.monotonic() - started < 60


@pytest.mark.parametrize("name", ["A", "lower", "with space", "1", "\u00e9", "\udcff", "A.B-C"])
def test_names_that_can_be(name: str) -> None:
    assert environment.name_fault(name) is None


@pytest.mark.parametrize("name", ["", "A=B", "=", "A\0B"])
def test_names_that_cannot_be(name: str) -> None:
    fault = environment.name_fault(name)
    assert fault is not None
    assert not name or repr(name) in fault


@pytest.mark.parametrize("value", [b"C.UTF-8", b"C.utf8", b"UTF-8"])
def test_a_coerced_locale_is_recognised(value: bytes) -> None:
    assert command.is_coerced({b"LC_CTYPE": value})
    assert not command.is_coerced({b"LC_ALL": value})


def test_another_locale_is_the_users() -> None:
    assert not command.is_coerced({b"LC_CTYPE": b"de_DE.UTF-8"})
    assert not command.is_coerced({})


def test_coercion_is_undone_only_where_the_process_began_without() -> None:
    current = {b"LC_CTYPE": b"C.UTF-8", b"A": b"1"}
    assert command.without_coercion(current, {b"A": b"1"}) == {b"A": b"1"}
    assert command.without_coercion(current, {b"LC_CTYPE": b"C.UTF-8"}) == current
    assert command.without_coercion(current, None) == current
    assert current == {b"LC_CTYPE": b"C.UTF-8", b"A": b"1"}


def test_without_coercion_there_is_nothing_to_undo() -> None:
    assert command.without_coercion({b"A": b"1"}, {b"A": b"1"}) == {b"A": b"1"}


@pytest.mark.parametrize(
    ("changes", "left"),
    [
        (Environment(), True),
        (Environment(set=(("B", "x"),), unset=("C",)), True),
        (Environment(set=(("A", "x"),)), False),
        (Environment(unset=("A",)), False),
        (Environment(clear=True), False),
        (Environment(clear=True, keep=("B",)), False),
        (Environment(clear=True, keep=("A*",)), True),
        (Environment(clear=True, keep=("A",), unset=("A",)), False),
    ],
)
def test_whether_a_variable_is_left_alone(changes: Environment, left: bool) -> None:
    assert changes.leaves("A") == left
