"""Clock offsets: exact to the nanosecond, negative ones included."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pyspaces.features import clocks
from pyspaces.features.clocks import Offset

SECOND = 1_000_000_000
UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def total(offset: Offset) -> int:
    return offset.seconds * SECOND + offset.nanoseconds


@pytest.mark.parametrize(
    ("text", "seconds", "nanoseconds"),
    [
        ("0", 0, 0),
        ("-0", 0, 0),
        ("864000", 864000, 0),
        ("+5", 5, 0),
        ("5.", 5, 0),
        (".5", 0, 500_000_000),
        ("+.25", 0, 250_000_000),
        ("1.000000001", 1, 1),
        ("-1", -1, 0),
        ("-1.5", -2, 500_000_000),
        ("-.5", -1, 500_000_000),
        ("-0.000000001", -1, 999_999_999),
        ("007", 7, 0),
        ("00000000000005", 5, 0),
        ("1d", 86400, 0),
        ("-1.5h", -5400, 0),
        ("2.000000001m", 120, 60),
        ("5s", 5, 0),
        ("999999999999.999999999", 999_999_999_999, 999_999_999),
    ],
)
def test_numbers(text: str, seconds: int, nanoseconds: int) -> None:
    assert clocks.parse(text) == Offset(seconds=seconds, nanoseconds=nanoseconds)


@pytest.mark.parametrize(
    "text",
    [
        *(
            "",
            ".",
            "-",
            "+",
            "-.",
            "--1",
            "+-1",
            "1-",
            "1.-5",
            "1..5",
            "1.2.3",
            "1e3",
            "d",
            "1w",
            "1dd",
            "nan",
            "inf",
        ),
        *("0x10", "1_000", " 1", "1 ", "1,5", "\u0661", "1.\u0661", "\u00b2", "\udcff", "1\0"),
    ],
)
def test_what_is_no_number(text: str) -> None:
    with pytest.raises(ValueError, match="is not a number of seconds") as caught:
        clocks.parse(text)
    assert repr(text) in str(caught.value)


@pytest.mark.parametrize("text", ["1.0000000001", "1234567890123", "9" * 5000, "0." + "1" * 5000])
def test_what_no_clock_counts(text: str) -> None:
    with pytest.raises(ValueError, match="whole nanoseconds") as caught:
        clocks.parse(text)
    assert len(str(caught.value)) < 200


offsets = st.builds(
    lambda seconds, nanoseconds: Offset(seconds=seconds, nanoseconds=nanoseconds),
    st.integers(-999_999_999_999, 999_999_999_998),
    st.integers(0, SECOND - 1),
)


@given(offsets)
@example(Offset(seconds=-1, nanoseconds=SECOND - 1))
@example(Offset(seconds=-1, nanoseconds=1))
@example(Offset(seconds=0, nanoseconds=1))
def test_text_comes_back_to_the_nanosecond(offset: Offset) -> None:
    assert clocks.parse(str(offset)) == offset


@given(offsets)
def test_text_is_the_decimal_number(offset: Offset) -> None:
    assert Decimal(str(offset)) == Decimal(total(offset)).scaleb(-9)
    assert not str(offset).endswith(".")
    assert "." not in str(offset) or not str(offset).endswith("0")


@given(
    st.sampled_from(["", "+", "-"]),
    st.text("0123456789", max_size=12),
    st.none() | st.text("0123456789", max_size=9),
    st.sampled_from(["", *UNITS]),
)
def test_parsing_agrees_with_decimal(
    sign: str, whole: str, fraction: str | None, unit: str
) -> None:
    number = sign + whole + ("" if fraction is None else "." + fraction)
    if not whole and not fraction:
        with pytest.raises(ValueError, match="not a number"):
            clocks.parse(number + unit)
        return
    wanted = int(Decimal(number).scaleb(9)) * UNITS.get(unit, 1)
    if int(whole or "0") * UNITS.get(unit, 1) >= 10**12:  # the kernel refuses less than that
        with pytest.raises(ValueError, match="292 years"):
            clocks.parse(number + unit)
        return
    offset = clocks.parse(number + unit)
    assert total(offset) == wanted
    assert 0 <= offset.nanoseconds < SECOND


@given(st.text(max_size=20))
@example("0s")
@example("-1.5d")
def test_any_text_is_a_number_or_a_value_error(text: str) -> None:
    try:
        offset = clocks.parse(text)
    except UnicodeError:
        raise
    except ValueError:
        return
    unit = UNITS.get(text[-1:])
    number = text[:-1] if unit else text
    assert total(offset) == int(Decimal(number).scaleb(9)) * (unit or 1)
