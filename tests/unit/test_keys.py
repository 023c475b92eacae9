"""What of the typed bytes a terminal turns into signals."""

from __future__ import annotations

import os
import signal
import termios

import pytest

from pyspaces.launch.outer.keys import Keys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any


@pytest.fixture
def attributes() -> Iterator[list[Any]]:
    """Those of a new terminal."""
    main, other = os.openpty()
    yield termios.tcgetattr(other)
    os.close(main)
    os.close(other)


def test_what_is_no_key_is_passed_whole(attributes: list[Any]) -> None:
    assert Keys().split(b"hello\n", attributes) == (6, 0)


@pytest.mark.parametrize(("key", "number"), [(b"\x03", signal.SIGINT), (b"\x1c", signal.SIGQUIT)])
def test_a_key_is_found_where_it_is(attributes: list[Any], key: bytes, number: int) -> None:
    assert Keys().split(b"ab" + key + b"c", attributes) == (2, number)
    assert Keys().split(key, attributes) == (0, number)


def test_a_quoted_key_is_none_across_writes_too(attributes: list[Any]) -> None:
    keys = Keys()
    assert keys.split(b"\x16\x03\x03", attributes) == (2, signal.SIGINT)
    keys.wrote(b"\x16", attributes)
    assert keys.split(b"\x03\x03", attributes) == (1, signal.SIGINT)
    keys.wrote(b"\x03", attributes)
    assert keys.split(b"\x03", attributes) == (0, signal.SIGINT)
    assert Keys().split(b"\x16\x16\x03", attributes) == (2, signal.SIGINT)


@pytest.mark.parametrize("left_out", [termios.ICANON, termios.IEXTEN])
def test_nothing_quotes_in_other_modes(attributes: list[Any], left_out: int) -> None:
    attributes[3] &= ~left_out
    assert Keys().split(b"\x16\x03", attributes) == (1, signal.SIGINT)


def test_without_isig_there_are_no_signals(attributes: list[Any]) -> None:
    attributes[3] &= ~termios.ISIG
    assert Keys().split(b"\x03\x1c", attributes) == (2, 0)


def test_a_character_that_is_disabled_is_none(attributes: list[Any]) -> None:
    attributes[6][termios.VINTR] = attributes[6][termios.VLNEXT] = b"\0"
    assert Keys().split(b"\0\x03\0\x1c", attributes) == (3, signal.SIGQUIT)


def test_seven_bits_are_looked_at_where_the_eighth_is_stripped(attributes: list[Any]) -> None:
    assert Keys().split(b"\x83", attributes) == (1, 0)
    attributes[0] |= termios.ISTRIP
    assert Keys().split(b"\x83", attributes) == (0, signal.SIGINT)
