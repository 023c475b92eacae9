"""Tables of text: aligned, harmless to a terminal, never wider than asked."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyspaces.commands import table


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("ls -l", "ls -l"),
        ("grün 語", "grün 語"),
        ("a\x1b[31mb\n", "a\\x1b[31mb\\x0a"),
        ("\udcff", "\\xff"),
        ("\u202e", "\\xe2\\x80\\xae"),
        ("", ""),
    ],
)
def test_what_a_terminal_would_obey_is_shown_instead(text: str, shown: str) -> None:
    assert table.printable(text) == shown


@given(st.text())
def test_nothing_unprintable_is_left(text: str) -> None:
    assert table.printable(text).isprintable()


@pytest.mark.parametrize(("text", "columns"), [("abc", 3), ("語", 2), ("e\u0301", 1), ("", 0)])
def test_width(text: str, columns: int) -> None:
    assert table.width(text) == columns


@pytest.mark.parametrize(
    ("text", "columns", "shown"),
    [
        ("abcd", 4, "abcd"),
        ("abcd", 3, "ab…"),
        ("語語語", 5, "語語…"),
        ("語語", 2, "…"),
        ("ab", 0, ""),
    ],
)
def test_cut(text: str, columns: int, shown: str) -> None:
    assert table.cut(text, columns) == shown


@given(st.text(), st.integers(0, 30))
def test_what_is_cut_fits_and_is_the_beginning(text: str, columns: int) -> None:
    shown = table.cut(text, columns)
    assert table.width(shown) <= columns
    assert shown == text or text.startswith(shown.removesuffix("…"))


def lines(rows: list[list[str]], limit: int | None) -> list[str]:
    return table.lines(rows, right=[True, False, False], limit=limit, shrinkable=[1, 2])


def test_cells_are_aligned() -> None:
    rows = [["N", "NAME", "X"], ["10", "語", "x"], ["5", "abcde", "y z"]]
    assert lines(rows, None) == [" N NAME  X", "10 語    x", " 5 abcde y z"]


def test_the_widest_is_cut_first() -> None:
    rows = [["1", "short", "a long command line"], ["22", "s", "b"]]
    assert lines(rows, 20) == [" 1 short a long com…", "22 s     b"]


def test_no_rows_are_no_lines() -> None:
    assert lines([], 80) == []


@given(st.lists(st.lists(st.text(), min_size=3, max_size=3), min_size=1), st.integers(1, 60))
def test_no_line_is_wider_than_the_terminal(rows: list[list[str]], limit: int) -> None:
    assert all(table.width(line) <= limit for line in lines(rows, limit))


def test_combining_letters_are_counted_as_the_terminal_does() -> None:
    assert unicodedata.combining("\u0301")
    assert table.width("e\u0301" * 3) == 3
