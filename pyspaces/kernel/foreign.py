"""The part of ctypes that `libc` needs, with the same names, made from the C module `_ctypes`.

`import ctypes` makes types of every C type there is, in both byte orders, and functions of its
own: more than a millisecond of each launch. Runs in any process. Must not know a system call.
"""

from __future__ import annotations

import _ctypes
from _ctypes import addressof, byref, get_errno, sizeof


def simple(name: str, code: str) -> Any:
    """Return a C type by its letter: those of struct, z for char * and P for void *."""
    text = f"ctypes.{name}: the C type whose letter is {code}."
    return type(name, (_ctypes._SimpleCData,), {"_type_": code, "__doc__": text})


TYPE_CHECKING = False
if TYPE_CHECKING:
    from ctypes import (
        Array,
        c_char,
        c_char_p,
        c_int,
        c_long,
        c_size_t,
        c_ssize_t,
        c_ulong,
        c_void_p,
    )
    from typing import Any
else:
    c_char, c_int = simple("c_char", "c"), simple("c_int", "i")
    c_long, c_ulong = simple("c_long", "l"), simple("c_ulong", "L")
    c_char_p, c_void_p = simple("c_char_p", "z"), simple("c_void_p", "P")
    # As wide as a pointer on every machine that Linux runs on.
    c_size_t, c_ssize_t = c_ulong, c_long

__all__ = [
    "Library",
    "addressof",
    "byref",
    "c_char",
    "c_char_p",
    "c_int",
    "c_long",
    "c_size_t",
    "c_ssize_t",
    "c_ulong",
    "c_void_p",
    "create_string_buffer",
    "get_errno",
    "simple",
    "sizeof",
]


class _Function(_ctypes.CFuncPtr):
    """A function that keeps the GIL, and whose errno is read by get_errno()."""

    _flags_ = _ctypes.FUNCFLAG_CDECL | _ctypes.FUNCFLAG_PYTHONAPI | _ctypes.FUNCFLAG_USE_ERRNO
    _restype_ = c_int


class Library:
    """A shared library, as ctypes.PyDLL(name, use_errno=True); None is this process."""

    def __init__(self, name: str | None) -> None:
        dlopen: Any = _ctypes.dlopen  # whose None typeshed does not know
        self._handle = dlopen(name, _ctypes.RTLD_LOCAL)

    def function(self, name: str, *argtypes: Any, restype: Any = c_int) -> Any:
        """Return function `name`, a new one each time; without types, they are not checked.

        Raises AttributeError if the library does not have it.
        """
        function: Any = _Function((name, self))  # type: ignore[arg-type]  # takes any _handle
        if argtypes:
            function.argtypes = argtypes
        function.restype = restype
        return function

    def later(self, name: str, *argtypes: Any, restype: Any = c_int) -> Later:
        """Return function `name`, looked up when it is called for the first time."""
        return Later(self, name, argtypes, restype)


class Later:
    """A function of a library that is looked up when it is called: a launch calls few of them."""

    __slots__ = ("_function", "_shape")

    def __init__(self, library: Library, name: str, argtypes: Any, restype: Any) -> None:
        self._shape = (library, name, argtypes, restype)
        self._function: Any = None

    def __call__(self, *arguments: Any) -> Any:
        if self._function is None:
            library, name, argtypes, restype = self._shape
            self._function = library.function(name, *argtypes, restype=restype)
        return self._function(*arguments)


def create_string_buffer(content: bytes | int, size: int | None = None) -> Array[c_char]:
    """Return a buffer with `content` and a NUL, or of that many bytes, as ctypes does."""
    if isinstance(content, int):
        return (c_char * content)()
    room = (c_char * (len(content) + 1 if size is None else size))()
    room.raw = content
    return room
