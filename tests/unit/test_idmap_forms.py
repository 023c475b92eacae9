"""The forms in which Python programs write an id map, each with its meaning or its refusal."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyspaces.features.ids.idmap import LARGEST_ID, Extent, MapFault, check, entries


def extent(inside: int, outside: int, count: int = 1) -> Extent:
    return Extent(inside=inside, outside=outside, count=count)


def test_a_list_of_outside_ids_begins_at_zero_inside() -> None:
    assert entries([1000, 1001, 7]) == [extent(0, 1000), extent(1, 1001), extent(2, 7)]
    assert entries(range(5, 7)) == [extent(0, 5), extent(1, 6)]
    assert entries([1000]) == entries(1000) == [extent(0, 1000)]


@given(st.lists(st.integers(0, LARGEST_ID), max_size=8, unique=True))
def test_any_list_of_outside_ids_is_a_map(ids: list[int]) -> None:
    made = entries(ids)
    assert [(row.inside, row.outside, row.count) for row in made if isinstance(row, Extent)] == [
        (inside, outside, 1) for inside, outside in enumerate(ids)
    ]
    check([row for row in made if isinstance(row, Extent)])


@pytest.mark.parametrize(
    "value",
    [
        (0, 1000, 1),
        [(0, 1000, 1)],
        ((0, 1000, 1),),
        Extent(inside=0, outside=1000, count=1),
        [Extent(inside=0, outside=1000, count=1)],
        "0 1000 1",
        "0,1000,1",
        ["0:1000:1"],
        ("0 1000 1",),
        "1000",
        ["1000"],
        1000,
    ],
    ids=repr,
)
def test_a_record_in_every_form(value: object) -> None:
    assert entries(value) == [extent(0, 1000)]


def test_records_texts_and_true_add_up() -> None:
    value = [True, (1, 100000, 10), Extent(inside=20, outside=7, count=1), "30 8 1"]
    assert entries(value) == ["root", extent(1, 100000, 10), extent(20, 7), extent(30, 8)]
    assert entries(None) == entries(False) == entries([]) == entries(()) == []


@pytest.mark.parametrize(
    ("value", "fault"),
    [
        ("1000,1001", r"INSIDE,OUTSIDE,COUNT; ids that are 0, 1, ... inside are a list: \[1000, 1"),
        ((1000, 1001), r"\(1000, 1001\): a tuple is a record of three numbers"),
        ([1000, (1, 100000, 10)], "outside ids and records cannot be mixed"),
        ([1000, "1 100000 10"], "outside ids and records cannot be mixed"),
        ([True, 1000], "outside ids and records cannot be mixed"),
        ((0, "1000", 1), "outside ids and records cannot be mixed"),
        ([(0, 1000)], r"\(0, 1000\): a tuple is a record"),
        ([(0, 1000, True)], r"\(0, 1000, True\): a tuple is a record"),
        ([(0, 1000, 1.0)], r"\(0, 1000, of type float\): a tuple is a record"),
        ((0, 1000, 0), "the count is 0"),
        ([-1], "-1 is not an id"),
        (-1, "-1 is not an id"),
        (LARGEST_ID + 1, "is larger than"),
        (10**5000, "a number of 16610 bits is larger than"),
        ((0, 1, 10**5000), "a number of 16610 bits is larger than"),
        ([Extent(inside=0, outside=10**5000, count=1)], "a number of 16610 bits is larger than"),
        (1.5, "of type float"),
        (b"0 0 1", "of type bytes"),
        ({"a": 1}, "of type dict"),
        ([None], "what is None"),
        ([False], "what is False"),
        ([["0 0 1"]], "of type list"),
        (iter([1]), "of type list_iterator"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_forms_that_cannot_be_meant(value: object, fault: str) -> None:
    with pytest.raises(MapFault, match=fault):
        entries(value)
