"""Records: frozen, keyword-only, comparable, and to and from plain data."""

from __future__ import annotations

import json
from typing import ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyspaces.record import Record


class Point(Record):
    x: int
    y: int = 0


class Named(Point):
    name: str = "origin"
    y: int = 7


class Path(Record):
    start: Point | None = None
    points: tuple[Point, ...] = ()
    labels: tuple[tuple[str, str], ...] = ()

    _nested: ClassVar = {"start": Point, "points": Point}


class Twin(Record):
    x: int
    y: int = 0


integers = st.integers()
points = st.builds(lambda x, y: Point(x=x, y=y), integers, integers)
paths = st.builds(
    lambda start, rest, labels: Path(start=start, points=tuple(rest), labels=tuple(labels)),
    st.none() | points,
    st.lists(points),
    st.lists(st.tuples(st.text(), st.text())),
)


def test_fields_and_defaults() -> None:
    point = Point(x=1)
    assert (point.x, point.y) == (1, 0)


def test_a_missing_field_is_named() -> None:
    with pytest.raises(TypeError, match=r"Point: missing field 'x'"):
        Point(y=1)  # type: ignore[call-arg]


def test_an_unknown_field_is_named() -> None:
    with pytest.raises(TypeError, match=r"Point: unknown field 'z'"):
        Point(x=1, z=2)  # type: ignore[call-arg]


def test_fields_are_keyword_only() -> None:
    with pytest.raises(TypeError):
        Point(1)  # type: ignore[call-arg]


def test_a_subclass_adds_fields_and_overrides_defaults() -> None:
    named = Named(x=3)
    assert (named.x, named.y, named.name) == (3, 7, "origin")
    assert set(named.to_data()) == {"x", "y", "name"}
    assert Point(x=3).y == 0


def test_frozen() -> None:
    point = Point(x=1)
    with pytest.raises(AttributeError, match="frozen"):
        point.x = 2  # type: ignore[misc]
    with pytest.raises(AttributeError, match="frozen"):
        del point.y
    with pytest.raises(AttributeError, match="frozen"):
        point.other = 2
    assert point == Point(x=1, y=0)


def test_a_default_that_is_a_function_is_not_bound() -> None:
    class Rule(Record):
        holds: object = lambda value: value > 1

    held = Rule().holds
    assert callable(held)
    assert held(2) is True


def test_equality_needs_the_same_class_and_the_same_values() -> None:
    assert Point(x=1, y=2) == Point(y=2, x=1)
    assert Point(x=1) != Point(x=2)
    assert Point(x=1) != Twin(x=1)
    assert Point(x=1, y=7) != Named(x=1)
    assert Point(x=1) != (1, 0)


@given(points, points)
def test_equal_records_have_equal_hashes(one: Point, other: Point) -> None:
    assert (one == other) == (one.to_data() == other.to_data())
    if one == other:
        assert hash(one) == hash(other)
    assert len({one, one.replace()}) == 1


def test_repr_can_be_read_as_python() -> None:
    point = Point(x=-1, y=2)
    assert repr(point) == "Point(x=-1, y=2)"
    assert eval(repr(point)) == point


def test_replace_gives_a_copy_and_leaves_the_original() -> None:
    point = Point(x=1, y=2)
    assert point.replace(y=3) == Point(x=1, y=3)
    assert point == Point(x=1, y=2)
    assert type(Named(x=1).replace(x=2)) is Named
    with pytest.raises(TypeError, match="unknown field 'z'"):
        point.replace(z=1)


@given(paths)
def test_plain_data_comes_back_through_json(path: Path) -> None:
    text = json.dumps(path.to_data())
    back = Path.from_data(json.loads(text))
    assert back == path
    assert json.dumps(back.to_data()) == text
    assert all(type(point) is Point for point in back.points)
    assert isinstance(back.points, tuple)
    assert all(isinstance(pair, tuple) for pair in back.labels)


def test_from_data_wants_the_fields_and_no_others() -> None:
    with pytest.raises(TypeError, match="missing field 'x'"):
        Point.from_data({"y": 1})
    with pytest.raises(TypeError, match="unknown field 'z'"):
        Point.from_data({"x": 1, "z": 1})
    with pytest.raises(TypeError, match="unknown field 'z'"):
        Path.from_data({"points": [{"x": 1, "z": 1}]})


def test_from_data_fills_in_what_has_a_default() -> None:
    assert Path.from_data({"points": [{"x": 1}]}) == Path(points=(Point(x=1, y=0),))
