"""Host and domain names: what the kernel takes, counted in bytes."""

from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyspaces.features import hostname


@pytest.mark.parametrize("name", ["box", "a", "a.b", "x" * 64, "\u00e9" * 32, "\udcff" * 64, " "])
def test_names_that_can_be(name: str) -> None:
    assert hostname.name_fault(name) is None


def test_an_empty_name() -> None:
    assert hostname.name_fault("") == "a name cannot be empty"


def test_a_name_with_a_nul() -> None:
    assert hostname.name_fault("a\0b") == r"'a\x00b': holds a NUL"


@pytest.mark.parametrize(("name", "size"), [("x" * 65, 65), ("\u00e9" * 33, 66), ("x" * 999, 999)])
def test_a_name_that_is_too_long_is_counted_in_bytes(name: str, size: int) -> None:
    fault = hostname.name_fault(name)
    assert fault is not None
    assert name in fault
    assert f"has {size} bytes" in fault
    assert "64" in fault


@given(st.binary(min_size=1, max_size=100))
def test_one_to_64_bytes_without_nul(data: bytes) -> None:
    name = os.fsdecode(data)
    assert (hostname.name_fault(name) is None) == (len(data) <= 64 and b"\0" not in data)
