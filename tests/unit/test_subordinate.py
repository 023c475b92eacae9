"""Arithmetic of subordinate ids: nothing lost, nothing twice, explicit records as they stand."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pyspaces.features.ids import idmap
from pyspaces.features.ids.idmap import Extent, MapFault

small = st.integers(0, 40)
spans = st.lists(st.tuples(small, st.integers(1, 12)), max_size=5)
records = st.lists(
    st.builds(
        lambda inside, outside, count: Extent(inside=inside, outside=outside, count=count),
        small,
        small,
        st.integers(1, 6),
    ),
    max_size=4,
)


def pairs(rows: tuple[Extent, ...]) -> list[tuple[int, int]]:
    return [(row.inside + n, row.outside + n) for row in rows for n in range(row.count)]


def ids(ranges: list[tuple[int, int]]) -> set[int]:
    return {first + n for first, count in ranges for n in range(count)}


def is_a_map(explicit: list[Extent]) -> bool:
    try:
        idmap.check(explicit)
    except MapFault:
        return False
    return True


@given(small, spans, records.filter(is_a_map))
def test_auto_loses_nothing_and_maps_nothing_twice(
    own: int, ranges: list[tuple[int, int]], explicit: list[Extent]
) -> None:
    made = idmap.build([*explicit, "auto"], caller=own, own=(), ranges=ranges)
    inside, outside = zip(*pairs(made), strict=True)
    assert len(set(inside)) == len(inside)
    assert len(set(outside)) == len(outside)
    assert set(pairs(tuple(explicit))) <= set(pairs(made))
    named = {number for _, number in pairs(tuple(explicit))}
    assert set(outside) == {own} | ids(ranges) | named
    # Consecutive: below the highest id that auto gave, no inside id is free.
    given_by_auto = {number for number, _ in pairs(made[len(explicit) :])}
    if given_by_auto:
        assert set(range(max(given_by_auto) + 1)) <= set(inside)


@given(spans, records.filter(is_a_map))
def test_subids_keep_their_numbers(ranges: list[tuple[int, int]], explicit: list[Extent]) -> None:
    made = pairs(idmap.build([*explicit, "subids"], caller=0, own=(), ranges=ranges))
    named = pairs(tuple(explicit))
    taken = {number for pair in named for number in pair}
    assert made[: len(named)] == named
    assert set(made[len(named) :]) == {(number, number) for number in ids(ranges) - taken}


def test_the_own_id_comes_first_and_ranges_behind_it() -> None:
    rows = idmap.build(["auto"], caller=1000, own=(), ranges=[(100000, 65536), (300000, 10)])
    assert [str(row) for row in rows] == ["0 1000 1", "1 100000 65536", "65537 300000 10"]


def test_an_explicit_record_does_not_cost_the_top_id() -> None:
    """unshare(1) of util-linux 2.38 loses it: -r with auto gives `1 100000 65535`."""
    rows = idmap.build(["current", "auto"], caller=1000, own=(), ranges=[(100000, 65536)])
    assert [str(row) for row in rows] == ["1000 1000 1", "0 100000 1000", "1001 101000 64536"]


def test_the_own_id_within_a_range_is_cut_out_of_it() -> None:
    rows = idmap.build(["auto"], caller=100005, own=(), ranges=[(100000, 10)])
    assert [str(row) for row in rows] == ["0 100005 1", "1 100000 5", "6 100006 4"]
