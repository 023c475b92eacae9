"""The little of ctypes that the launch takes: the same as ctypes itself."""

from __future__ import annotations

import ctypes
import errno
import os

import pytest

from pyspaces.kernel import foreign

TYPES = [name for name in foreign.__all__ if name.startswith("c_")]


def test_there_are_types() -> None:
    assert {"c_int", "c_ulong", "c_char_p", "c_void_p"} <= set(TYPES)


@pytest.mark.parametrize("name", TYPES)
def test_a_type_is_as_wide_and_as_signed_as_that_of_ctypes(name: str) -> None:
    ours, theirs = getattr(foreign, name), getattr(ctypes, name)
    assert foreign.sizeof(ours) == ctypes.sizeof(theirs)
    if not name.endswith("_p"):
        low = b"\xff" if name == "c_char" else -1
        assert ours(low).value == theirs(low).value


@pytest.mark.parametrize("arguments", [(b"",), (b"a\0b",), (b"abc", 3), (0,), (24,)])
def test_a_buffer_is_that_of_ctypes(arguments: tuple[bytes, int]) -> None:
    ours, theirs = foreign.create_string_buffer(*arguments), ctypes.create_string_buffer(*arguments)
    assert (ours.raw, foreign.sizeof(ours)) == (theirs.raw, ctypes.sizeof(theirs))


def test_a_function_is_called_and_its_errno_read() -> None:
    close = foreign.Library(None).function("close", foreign.c_int)
    assert close(-1) == -1
    assert foreign.get_errno() == errno.EBADF
    reading, writing = os.pipe()
    os.close(writing)
    assert close(reading) == 0
    with pytest.raises(OSError, match=os.strerror(errno.EBADF)):
        os.fstat(reading)


def test_arguments_are_checked_and_results_are_of_their_type() -> None:
    library = foreign.Library(None)
    with pytest.raises(Exception, match="argument 1"):
        library.function("close", foreign.c_int)("text")
    text = library.function("getenv", foreign.c_char_p, restype=foreign.c_char_p)
    assert text(b"PATH") == os.environb[b"PATH"]
    assert text(b"NO_SUCH_VARIABLE_ANYWHERE") is None
    word = foreign.c_int(0)
    assert library.function("sched_getparam")(0, foreign.byref(word)) == 0


def test_what_a_library_lacks() -> None:
    with pytest.raises(AttributeError, match="no_such_function"):
        foreign.Library(None).function("no_such_function")
    with pytest.raises(OSError, match="no_such_library"):
        foreign.Library("no_such_library.so.9")
