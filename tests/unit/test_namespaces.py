"""The table of namespaces, against this kernel and this interpreter."""

from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyspaces.kernel import namespaces
from pyspaces.kernel.namespaces import NAMES, NAMESPACES


def test_the_rows() -> None:
    assert set(NAMES) == {"user", "mount", "pid", "net", "uts", "ipc", "cgroup", "time"}
    assert len(NAMES) == len(NAMESPACES) == 8
    assert NAMES[0] == "user" == namespaces.USER.name


def test_every_flag_is_one_bit_of_its_own() -> None:
    flags = [row.flag for row in NAMESPACES]
    assert all(flag.bit_count() == 1 for flag in flags)
    assert len(set(flags)) == len(flags)


@pytest.mark.parametrize("row", NAMESPACES, ids=lambda row: row.name)
def test_rows_say_what_they_are(row: namespaces.Namespace) -> None:
    assert row.what == row.what.strip() != ""
    assert all(part.isdecimal() for part in row.since.split("."))


def test_what_this_kernel_has_is_what_proc_shows() -> None:
    shown = set(os.listdir("/proc/self/ns"))
    assert set(namespaces.supported()) == {row.name for row in NAMESPACES if row.link in shown}
    assert "user" in namespaces.supported() or "user" not in shown


def test_no_link_of_this_kernel_is_unknown() -> None:
    ours = {row.link for row in NAMESPACES}
    assert {name.removesuffix("_for_children") for name in os.listdir("/proc/self/ns")} <= ours


@given(st.lists(st.sampled_from(NAMES)))
def test_flags_add_up_once_each(names: list[str]) -> None:
    flags = namespaces.flags_of(names)
    for row in NAMESPACES:
        assert bool(flags & row.flag) == (row.name in names)
    assert flags.bit_count() == len(set(names))


def test_flags_are_those_of_the_standard_library() -> None:
    """Python 3.12 and later know the numbers too."""
    theirs = {name: getattr(os, name) for name in dir(os) if name.startswith("CLONE_NEW")}
    if not theirs:
        theirs = {"CLONE_NEWNS": 0x20000}
    ours = {"CLONE_NEW" + {"mnt": "NS"}.get(row.link, row.link.upper()): row for row in NAMESPACES}
    for name, value in theirs.items():
        assert ours[name].flag == value
