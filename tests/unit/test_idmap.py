"""Id maps: the grammar in each of its forms, and the arithmetic against a brute-force model."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from pyspaces.features.ids import idmap
from pyspaces.features.ids.idmap import Extent, MapFault
from pyspaces.kernel import constants, procfs

LARGEST = 4294967294  # 4294967295 is (uid_t) -1, "no id"


def extent(inside: int, outside: int, count: int) -> Extent:
    return Extent(inside=inside, outside=outside, count=count)


@st.composite
def _extents(draw: st.DrawFn) -> Extent:
    count = draw(st.integers(1, 70000) | st.integers(1, LARGEST))
    firsts = st.integers(0, LARGEST - count + 1)
    return extent(draw(firsts), draw(firsts), count)


extents = _extents()
extent_lists = st.lists(extents, min_size=1, max_size=8)

# Few ids, so that records often touch and overlap.
small_extents = st.builds(extent, st.integers(0, 12), st.integers(0, 12), st.integers(1, 5))
small_maps = st.lists(small_extents, max_size=6)


def fields_of(row: Extent) -> tuple[str, str, str]:
    return str(row.inside), str(row.outside), str(row.count)


# --- grammar ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("0,1000,1", [(0, 1000, 1)]),
        ("0,1000,1,1,100000,65536", [(0, 1000, 1), (1, 100000, 65536)]),
        ("0 1000 1", [(0, 1000, 1)]),
        ("0 1000 1,1 100000 65536", [(0, 1000, 1), (1, 100000, 65536)]),
        ("0 1000 1, 1 100000 65536", [(0, 1000, 1), (1, 100000, 65536)]),
        ("0 1000 1\n1 100000 65536\n", [(0, 1000, 1), (1, 100000, 65536)]),
        ("         0       1000          1\n", [(0, 1000, 1)]),
        ("0\t1000\t1", [(0, 1000, 1)]),
        ("0:1000:1", [(0, 1000, 1)]),
        ("0:1000:1,1:100000:65536", [(0, 1000, 1), (1, 100000, 65536)]),
        ("1000", [(0, 1000, 1)]),
        ("0", [(0, 0, 1)]),
        (" 1000 ", [(0, 1000, 1)]),
        ("00,01000,01", [(0, 1000, 1)]),
        (f"{LARGEST}", [(0, LARGEST, 1)]),
        (f"0,1,{LARGEST}", [(0, 1, LARGEST)]),
        (f"{LARGEST},{LARGEST},1", [(LARGEST, LARGEST, 1)]),
    ],
)
def test_forms_of_the_grammar(spec: str, expected: list[tuple[int, int, int]]) -> None:
    assert idmap.parse(spec) == [extent(*row) for row in expected]


@pytest.mark.parametrize("word", ["root", "current", "all", "none"])
def test_words(word: str) -> None:
    assert idmap.parse(word) == [word]
    assert idmap.parse(f" {word}\n") == [word]
    assert word in idmap.WORDS


@pytest.mark.parametrize(
    ("spec", "named"),
    [
        ("", "empty"),
        ("  ", "empty"),
        ("rooot", "rooot"),
        ("ROOT", "ROOT"),
        ("root,current", "root,current"),
        ("0,1000", "0,1000"),
        ("0,1000,1,5", "0,1000,1,5"),
        ("0,1000,1,", "0,1000,1,"),
        (",,", ",,"),
        ("0,1000,0", "0,1000,0"),
        ("0 1000 1,5 6 0", "5 6 0"),
        ("0 1000 1,5 6", "5 6"),
        ("0 1000 1,5 6 7 8", "5 6 7 8"),
        ("0 1000 1,", "''"),
        ("0:1000", "0:1000"),
        ("0:1000:1,2:3", "2:3"),
        ("0:1000:1:2", "0:1000:1:2"),
        ("0:1000:1 1:2000:1", "1:2000:1"),
        ("0:1000:", "0:1000:"),
        ("a,1000,1", "'a' is not a number"),
        ("0,-1,1", "'-1' is not a number"),
        ("+0,1,1", "'+0' is not a number"),
        ("0,1.5,1", "'1.5' is not a number"),
        ("0,0x10,1", "'0x10' is not a number"),
        ("0,1_000,1", "'1_000' is not a number"),
        ("0,\u0661,1", "'\u0661' is not a number"),  # a digit for int(), not for the kernel
        ("\u0661", "'\u0661' is not a number"),
        ("0,\u00b2,1", "'\u00b2' is not a number"),
        ("-1", "-1"),
        ("4294967295", "4294967295"),
        ("0,4294967295,1", "0,4294967295,1"),
        ("4294967295,0,1", "4294967295,0,1"),
        ("4294967294,0,2", "4294967294,0,2"),
        ("0,4294967294,2", "0,4294967294,2"),
        ("1,1,4294967295", "1,1,4294967295"),
        ("0,0,4294967296", "0,0,4294967296"),
        ("99999999999999999999", "99999999999999999999"),
        ("9" * 5000, "99999999999999999999"),
        ("0," + "9" * 5000 + ",1", "99999999999999999999"),
    ],
)
def test_faults_name_the_record(spec: str, named: str) -> None:
    with pytest.raises(MapFault) as caught:
        idmap.parse(spec)
    assert named in str(caught.value)


@pytest.mark.parametrize("spec", ["0" * 5000, "0" * 5000 + ",1000,1", "0:" + "0" * 4999 + "1:1"])
def test_thousands_of_leading_zeros_give_a_map_or_a_fault(spec: str) -> None:
    """int() refuses more than 4,300 digits with an error that nobody here expects."""
    try:
        rows = idmap.parse(spec)
    except MapFault:
        return
    assert all(isinstance(row, Extent) and row.inside == 0 for row in rows)


def test_the_whole_range_of_ids_can_be_written() -> None:
    """The initial user namespace's own map: 4294967295 ids, the last of which is 4294967294."""
    everything = [extent(0, 0, 4294967295)]
    assert idmap.parse("0 0 4294967295") == everything
    assert idmap.parse("0:0:4294967295") == everything
    assert idmap.parse("0,0,4294967295") == everything


def test_the_callers_own_map_comes_back_through_the_grammar() -> None:
    own = procfs.id_map("uid_map")
    rows = idmap.build(["all"], caller=0, own=own)
    assert idmap.parse(idmap.to_text(rows)) == list(rows)


@given(extent_lists)
def test_the_kernels_form_comes_back(rows: list[Extent]) -> None:
    assert idmap.parse(idmap.to_text(rows)) == rows


@given(extent_lists, st.sampled_from([" ", "  ", "\t"]), st.sampled_from([",", ", ", "\n"]))
def test_the_form_with_blanks_comes_back(rows: list[Extent], blank: str, comma: str) -> None:
    assert idmap.parse(comma.join(blank.join(fields_of(row)) for row in rows)) == rows


@given(extent_lists)
def test_the_form_with_commas_comes_back(rows: list[Extent]) -> None:
    assert idmap.parse(",".join(",".join(fields_of(row)) for row in rows)) == rows


@given(extent_lists)
def test_the_form_with_colons_comes_back(rows: list[Extent]) -> None:
    assert idmap.parse(",".join(":".join(fields_of(row)) for row in rows)) == rows


@given(st.integers(0, LARGEST))
def test_one_number_is_that_id_as_root(number: int) -> None:
    assert idmap.parse(str(number)) == [extent(0, number, 1)]


@given(st.text(max_size=40) | st.text("0123456789,: \nrotcuenal-", max_size=40))
@example("0,\u0661\u0662,1")
def test_any_text_gives_rows_or_a_fault(text: str) -> None:
    try:
        rows = idmap.parse(text)
    except MapFault:
        return
    assert rows
    for row in rows:
        if isinstance(row, str):
            assert rows == [row]
            assert row in idmap.WORDS
        else:
            assert row.count >= 1
            assert 0 <= row.inside <= row.inside + row.count - 1 <= LARGEST
            assert 0 <= row.outside <= row.outside + row.count - 1 <= LARGEST


@given(extent_lists, st.data())
def test_one_bad_record_among_good_ones_is_the_one_named(
    rows: list[Extent], data: st.DataObject
) -> None:
    bad = data.draw(st.sampled_from(["7 8 0", "7 x 1", "7 8", "4294967294 8 2", "7 8 9 10"]))
    texts = [str(row) for row in rows]
    texts.insert(data.draw(st.integers(0, len(texts))), bad)
    with pytest.raises(MapFault) as caught:
        idmap.parse(",".join(texts))
    assert bad in str(caught.value)


# --- words into extents ----------------------------------------------------------------------


def test_root_and_current_are_the_caller() -> None:
    assert idmap.build(["root"], caller=1234, own=[]) == (extent(0, 1234, 1),)
    assert idmap.build(["current"], caller=1234, own=[]) == (extent(1234, 1234, 1),)


def test_all_maps_the_ids_that_exist_here_to_themselves() -> None:
    own = [(0, 1000, 1), (1, 100000, 65536)]
    assert idmap.build(["all"], caller=0, own=own) == (extent(0, 0, 1), extent(1, 1, 65536))


def test_none_is_an_empty_map() -> None:
    assert idmap.build(["none"], caller=1000, own=[]) == ()


def test_words_and_records_add_up_in_their_order() -> None:
    items: list[Extent | str] = [extent(5, 100000, 10), "root", extent(20, 200000, 10)]
    assert idmap.build(items, caller=1000, own=[]) == (
        extent(5, 100000, 10),
        extent(0, 1000, 1),
        extent(20, 200000, 10),
    )


@pytest.mark.parametrize(
    "items", [["none", "root"], ["root", "none"], ["none", extent(0, 1, 1)], ["none", "all"]]
)
def test_nothing_can_be_added_to_none(items: list[Extent | str]) -> None:
    with pytest.raises(MapFault, match="none"):
        idmap.build(items, caller=1000, own=[])


@pytest.mark.parametrize("items", [["root", "root"], ["root", "current"], ["current", "all"]])
def test_words_that_overlap_are_refused(items: list[Extent | str]) -> None:
    with pytest.raises(MapFault, match="overlaps"):
        idmap.build(items, caller=1000, own=[(0, 0, 4294967295)])


# --- the whole map against a model -----------------------------------------------------------


def model_accepts(rows: Sequence[Extent]) -> bool:
    """Accept what the kernel does, id by id: user_namespaces(7)."""
    inside = [row.inside + offset for row in rows for offset in range(row.count)]
    outside = [row.outside + offset for row in rows for offset in range(row.count)]
    return (
        len(inside) == len(set(inside))
        and len(outside) == len(set(outside))
        and len(rows) <= 340
        and len("".join(f"{row.inside} {row.outside} {row.count}\n" for row in rows)) <= 4095
        and all(identity <= LARGEST for identity in (*inside, *outside))
        and all(row.count > 0 for row in rows)
    )


def accepts(rows: Sequence[Extent]) -> bool:
    try:
        idmap.check(rows)
    except MapFault:
        return False
    return True


@given(small_maps)
@example([])
@example([extent(0, 5, 5), extent(5, 0, 5)])
@example([extent(0, 5, 5), extent(4, 0, 5)])
@example([extent(0, 5, 5), extent(5, 9, 5)])
@example([extent(0, 0, 5), extent(2, 20, 1)])
@example([extent(2, 20, 1), extent(0, 0, 5)])
def test_overlap_is_what_the_model_calls_overlap(rows: list[Extent]) -> None:
    assert accepts(rows) == model_accepts(rows)


@given(
    st.lists(st.integers(1, 4), min_size=1, max_size=380),
    st.integers(0, 9),
    st.sampled_from([1, 10**3, 10**6, 10**9]),
)
@example([1] * 340, 0, 1)
@example([1] * 341, 0, 1)
def test_size_is_what_the_model_calls_too_much(counts: list[int], gap: int, start: int) -> None:
    rows, inside, outside = [], start, 2 * start
    for count in counts:
        rows.append(extent(inside, outside, count))
        inside += count + gap
        outside += count
    assert accepts(rows) == model_accepts(rows)


def numbered(amount: int, start: int) -> list[Extent]:
    return [extent(index, start + index, 1) for index in range(amount)]


def test_340_records_and_no_more() -> None:
    idmap.check(numbered(340, 1000))
    with pytest.raises(MapFault, match=r"340 1340 1.*341.*340"):
        idmap.check(numbered(341, 1000))


def test_4095_bytes_and_no_more() -> None:
    """A write of a page or more is refused: user_namespaces(7)."""
    rows = [extent(1_000_000_000 + index, 2_000_000_000 + index, 1) for index in range(170)]
    rows.append(extent(100_000, 20_000, 1))
    assert len(idmap.to_text(rows)) == constants.MAP_MAX_BYTES == 4095
    idmap.check(rows)
    longer = [*rows[:-1], extent(100_000, 200_000, 1)]
    assert len(idmap.to_text(longer)) == 4096
    with pytest.raises(MapFault) as caught:
        idmap.check(longer)
    assert str(longer[-1]) in str(caught.value)


@pytest.mark.parametrize(
    "row",
    [
        extent(0, 0, 0),
        extent(0, 0, -1),
        extent(-1, 0, 1),
        extent(0, -1, 1),
        extent(LARGEST + 1, 0, 1),
        extent(0, LARGEST + 1, 1),
        extent(LARGEST, 0, 2),
        extent(0, LARGEST, 2),
        extent(0, 0, LARGEST + 2),
    ],
    ids=str,
)
def test_extents_that_never_were_text_are_held_to_the_same_limits(row: Extent) -> None:
    """A plan from plain data or from Python has not been through parse()."""
    with pytest.raises(MapFault) as caught:
        idmap.check([row])
    assert str(row) in str(caught.value)


def test_the_largest_ids_are_accepted() -> None:
    idmap.check([extent(LARGEST, LARGEST, 1), extent(0, 0, 1)])
    idmap.check([extent(0, 0, LARGEST + 1)])


@given(small_maps)
def test_a_fault_names_the_first_record_that_cannot_join_the_others(rows: list[Extent]) -> None:
    assume(not model_accepts(rows))
    offender = next(row for index, row in enumerate(rows) if not model_accepts(rows[: index + 1]))
    with pytest.raises(MapFault) as caught:
        idmap.check(rows)
    assert str(caught.value).startswith(f"{offender}:")


@given(small_maps, st.integers(0, 1000))
def test_build_checks_what_it_builds(rows: list[Extent], caller: int) -> None:
    if model_accepts(rows):
        assert idmap.build(rows, caller=caller, own=[]) == tuple(rows)
    else:
        with pytest.raises(MapFault):
            idmap.build(rows, caller=caller, own=[])


# --- what people and the kernel read ---------------------------------------------------------


def test_text_for_the_kernel() -> None:
    rows = [extent(0, 1000, 1), extent(1, 100000, 65536)]
    assert idmap.to_text(rows) == "0 1000 1\n1 100000 65536\n"
    assert idmap.to_text([]) == ""


def test_text_for_people() -> None:
    rows = [extent(0, 1000, 1), extent(1, 100000, 65536)]
    assert idmap.arrows(rows) == "0 \u2192 1000, count 1; 1 \u2192 100000, count 65536"
    assert idmap.arrows([]) == ""


@given(small_maps)
def test_the_mapped_user_is_root_where_there_is_one(rows: list[Extent]) -> None:
    identity = idmap.inside_id(rows)
    if not rows:
        assert identity is None
    elif any(row.inside == 0 for row in rows):
        assert identity == 0
    else:
        assert identity == rows[0].inside
