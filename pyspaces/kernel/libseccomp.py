"""The only door to libseccomp: names of system calls, and the compilation of a filter.

Runs in the parent. Off the launch path: the library is loaded only for a filter, which takes 2 ms.
seccomp_init(3), seccomp_rule_add(3), seccomp_export_bpf(3); numbers of seccomp.h.
"""

from __future__ import annotations

import errno
import os
import struct

from pyspaces.kernel import foreign as ctypes
from pyspaces.kernel.libc import KernelError
from pyspaces.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

NAME = "libseccomp.so.2"
_c_uint: Any = ctypes.simple("c_uint", "I")
_BAD_ARCHITECTURE, _OPTIMIZE = 2, 8  # SCMP_FLTATR_ACT_BADARCH, SCMP_FLTATR_CTL_OPTIMIZE
_UNKNOWN = -1  # __NR_SCMP_ERROR
_SORTED = 2  # a binary tree of calls, in place of a row; since 2.5
ARCHITECTURES = (
    *("x86_64", "x86", "x32", "aarch64", "arm", "riscv64", "ppc64le", "s390x", "s390"),
    *("loongarch64", "mips64", "mipsel64"),
)
OPERATORS = ("NE", "LT", "LE", "EQ", "GE", "GT", "MASKED_EQ")  # SCMP_CMP_*, from 1 on


class Comparison(Record):
    """A condition on one argument of a call. For MASKED_EQ, `value` is the mask."""

    index: int
    operator: str
    value: int
    other: int = 0

    def to_bytes(self) -> bytes:
        """Return it as a struct scmp_arg_cmp."""
        number = OPERATORS.index(self.operator) + 1
        return struct.pack("IIQQ", self.index, number, self.value, self.other)


class Missing(Exception):
    """The library is not installed."""


class Library:
    """The library, loaded. Raises Missing if it is not installed.

    target: the architecture for whose programs filters are made, of the same byte order as this
    machine; if empty, that of this program.
    """

    def __init__(self, name: str = NAME, *, target: str = "") -> None:
        try:
            self._library = ctypes.Library(name)
        except OSError as error:
            raise Missing(str(error)) from None
        pointer, number, text = ctypes.c_void_p, _c_uint, ctypes.c_char_p
        one = self._library.function
        self._resolve = one("seccomp_syscall_resolve_name", text)
        self._arch = one("seccomp_arch_resolve_name", text, restype=number)
        self._own = self._target = one("seccomp_arch_native", restype=number)()
        self._init = one("seccomp_init", number, restype=pointer)
        self._add_arch = one("seccomp_arch_add", pointer, number)
        self._remove_arch = one("seccomp_arch_remove", pointer, number)
        self._attribute = one("seccomp_attr_set", pointer, ctypes.c_int, number)
        self._add = one("seccomp_rule_add_array", pointer, number, ctypes.c_int, number, text)
        self._export = one("seccomp_export_bpf", pointer, ctypes.c_int)
        self._release = one("seccomp_release", pointer, restype=None)
        if target:
            self._target = self.architecture(target)

    def version(self) -> str:
        """Return the version of the library."""
        told = self._library.function("seccomp_version", restype=ctypes.c_void_p)()
        return ".".join(map(str, (_c_uint * 3).from_address(told)))

    def number(self, name: str) -> int | None:
        """Return the number of a call, negative if this architecture lacks it; None if unknown."""
        found: int = self._resolve(name.encode())
        return None if found == _UNKNOWN else found

    def name(self, architecture: int, number: int) -> str | None:
        """Return the name of a call of an architecture, or None if it is unknown."""
        resolve = self._library.function(
            "seccomp_syscall_resolve_num_arch",
            *(_c_uint, ctypes.c_int),
            restype=ctypes.c_char_p,
        )
        found: bytes | None = resolve(architecture, number)
        return None if found is None else found.decode()

    def name_of_architecture(self, number: int) -> str | None:
        """Return the name of an architecture, such as x86_64."""
        return next((name for name in ARCHITECTURES if self.architecture(name) == number), None)

    def architecture(self, name: str) -> int:
        """Return the number of an architecture such as x86_64, or 0 if it is unknown."""
        found: int = self._arch(name.encode())
        return found

    def number_for(self, name: str) -> int | None:
        """Return the number of a call on the architecture of the filters, as `number` does."""
        resolve = self._library.function(
            "seccomp_syscall_resolve_name_arch", *(_c_uint, ctypes.c_char_p)
        )
        found: int = resolve(self._target, name.encode())
        return None if found == _UNKNOWN else found

    def native(self) -> int:
        """Return the number of the architecture of the filters."""
        found: int = self._target
        return found

    def filter(self, default: int, others: Sequence[int], foreign: int) -> Filter:
        """Return a new filter. default: the action for calls without a rule.

        others: further architectures. foreign: the action for all calls of any other.
        """
        return Filter(self, default, others, foreign)


class Filter:
    """A filter under construction; a context, which releases it."""

    def __init__(self, library: Library, default: int, others: Sequence[int], foreign: int) -> None:
        self._library = library
        self._context = library._init(default)
        if not self._context:
            raise KernelError(errno.EINVAL, "seccomp_init", [hex(default)])
        try:
            self._prepare(others, foreign)
        except BaseException:
            library._release(self._context)
            raise

    def _prepare(self, others: Sequence[int], foreign: int) -> None:
        library = self._library
        self._check(library._attribute(self._context, _BAD_ARCHITECTURE, foreign), "attr_set")
        if library._target != library._own:
            # Rules have the numbers of this machine all the same: the library translates them.
            self._check(library._add_arch(self._context, library._target), "arch_add")
            self._check(library._remove_arch(self._context, library._own), "arch_remove")
        for other in others:
            result = library._add_arch(self._context, other)
            if result != -errno.EEXIST:
                self._check(result, "arch_add")
        if not others:
            # An older library has rows only. With other architectures it takes 23 ms, and not 10.
            library._attribute(self._context, _OPTIMIZE, _SORTED)

    def __enter__(self) -> Filter:
        return self

    def __exit__(self, *told: object) -> None:
        self._library._release(self._context)

    def add(self, action: int, number: int, conditions: Sequence[Comparison] = ()) -> None:
        """Add a rule. Raises KernelError if the library refuses it."""
        data = b"".join(one.to_bytes() for one in conditions)
        result = self._library._add(self._context, action, number, len(conditions), data)
        # EDOM: one of the architectures cannot have it; EEXIST: it is there already.
        if result not in (-errno.EDOM, -errno.EEXIST):
            self._check(result, "rule_add")

    def program(self) -> bytes:
        """Return the filter as BPF."""
        file = os.memfd_create("seccomp", os.MFD_CLOEXEC)
        try:
            self._check(self._library._export(self._context, file), "export_bpf")
            return os.pread(file, os.fstat(file).st_size, 0)
        finally:
            os.close(file)

    @staticmethod
    def _check(result: int, call: str) -> None:
        if result < 0:
            raise KernelError(-result, f"seccomp_{call}")
