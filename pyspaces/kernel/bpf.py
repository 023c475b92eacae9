"""Programs of classic BPF, above all seccomp filters over struct seccomp_data: seccomp(2).

Pure; runs in any process. Off the launch path: loaded only for a filter.
"""

from __future__ import annotations

import struct
import sys

from pyspaces.kernel import constants

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

# include/uapi/linux/bpf_common.h: the class, and what it does.
LOAD_WORD, LOAD_BYTE, AND, RETURN = 0x20, 0x30, 0x54, 0x06
EQUAL, ANY_BIT = 0x15, 0x45
_JUMP, _ABOVE, _AT_LEAST = 0x05, 0x25, 0x35
_JUMPS: dict[int, Callable[[int, int], bool]] = {
    EQUAL: lambda a, k: a == k,
    _ABOVE: lambda a, k: a > k,
    _AT_LEAST: lambda a, k: a >= k,
    ANY_BIT: lambda a, k: bool(a & k),
}
_INSTRUCTION = struct.Struct("HBBI")
SIZE = _INSTRUCTION.size
_DATA = struct.Struct("=iIQ6Q")  # struct seccomp_data: number, architecture, address, arguments
_X32 = 0x40000000  # __X32_SYSCALL_BIT: the same call through another table


def fault(program: bytes) -> str | None:
    """Return why the kernel cannot accept this program, or None if it may."""
    if not program:
        return "is empty"
    if len(program) > constants.BPF_MAXINSNS * SIZE:
        return f"has more than {constants.BPF_MAXINSNS} instructions"
    if len(program) % SIZE:
        return f"has {len(program)} bytes, and an instruction has {SIZE}"
    return None


def by_number(answers: Mapping[int, int]) -> bytes:
    """Return a program that decides by the number of a call, on every architecture.

    answers: SECCOMP_RET_* by number; every other call is allowed. For numbers from
    424 on, which mean the same everywhere.
    """
    rows = [(LOAD_WORD, 0, 0, 0), (AND, 0, 0, ~_X32 & 0xFFFFFFFF)]
    for number, answer in answers.items():
        rows += [(EQUAL, 0, 1, number), (RETURN, 0, 0, answer)]
    return assembled([*rows, (RETURN, 0, 0, constants.SECCOMP_RET_ALLOW)])


def constant(answer: int) -> bytes:
    """Return a program with the same action for every call."""
    return assembled([(RETURN, 0, 0, answer)])


def assembled(rows: Iterable[tuple[int, int, int, int]]) -> bytes:
    """Return instructions as bytes: operation, two jumps, and a number each."""
    return b"".join(_INSTRUCTION.pack(*row) for row in rows)


def answer(program: bytes, number: int, architecture: int, *arguments: int) -> int | None:
    """Return the action of a program for a call, or None if it is unknown.

    number, architecture: as in struct seccomp_data. arguments: the first of the call; the others
    are 0. Only what libseccomp writes is understood.
    """
    data = _DATA.pack(number, architecture, 0, *arguments, *[0] * (6 - len(arguments)))
    place, value = 0, 0
    while 0 <= place < len(program) // SIZE:
        operation, yes, no, word = _INSTRUCTION.unpack_from(program, place * SIZE)
        place += 1
        if operation == LOAD_WORD and word % 4 == 0 and word < len(data):
            value = int.from_bytes(data[word : word + 4], sys.byteorder)
        elif operation == AND:
            value &= word
        elif operation == RETURN:
            return int(word)
        elif operation == _JUMP:
            place += word
        elif operation in _JUMPS:
            place += yes if _JUMPS[operation](value, word) else no
        else:
            return None
    return None
