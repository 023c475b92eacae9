"""Resource limits of this process: prlimit(2).

Runs in any process. Off the launch path: loaded if a plan has limits.
"""

from __future__ import annotations

from pyspaces.kernel import foreign, libc

_prlimit = libc.LIBRARY.later(
    *("prlimit", foreign.c_int, foreign.c_int, foreign.c_char_p, foreign.c_void_p)
)


def prlimit(number: int, soft: int | None, hard: int | None) -> None:
    """Set a resource limit of this process: prlimit(2). None leaves a value, -1 is unlimited."""
    size = foreign.sizeof(foreign.c_ulong)
    now, most = foreign.create_string_buffer(2 * size), (1 << 8 * size) - 1
    libc.checked(_prlimit(0, number, None, foreign.addressof(now)), "prlimit")
    pair = zip((soft, hard), libc.numbers(now.raw, size), strict=True)
    values = [was if wanted is None else min(wanted & (1 << 64) - 1, most) for wanted, was in pair]
    libc.checked(_prlimit(0, number, libc.words(*values, size=size), None), "prlimit")
