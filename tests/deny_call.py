"""Execute a command under a seccomp filter that answers one system call with an errno.

    python deny_call.py NUMBER[&MASK] ERRNO COMMAND [ARG...]

With a mask, only if the first argument has one of its bits. What container runtimes do to clone3,
clone and mount, done for real.
"""

from __future__ import annotations

import ctypes
import os
import struct
import sys

PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 38, 22, 2
LOAD, JUMP_EQUAL, JUMP_SET, RETURN = 0x20, 0x15, 0x45, 0x06
ALLOW, ERRNO = 0x7FFF0000, 0x00050000


def main() -> None:
    call, answer, *command = sys.argv[1], int(sys.argv[2]), *sys.argv[3:]
    number, _, mask = call.partition("&")
    masked = [(LOAD, 0, 0, 16), (JUMP_SET, 0, 1, int(mask))] if mask else []
    # struct seccomp_data begins with the number of the call; the arguments are at 16.
    program = b"".join(
        struct.pack("HBBI", *row)
        for row in (
            (LOAD, 0, 0, 0),
            (JUMP_EQUAL, 0, 1 + len(masked), int(number)),
            *masked,
            (RETURN, 0, 0, ERRNO | answer),
            (RETURN, 0, 0, ALLOW),
        )
    )
    code = ctypes.create_string_buffer(program)
    filter_ = ctypes.create_string_buffer(
        struct.pack("HxxxxxxP", len(program) // 8, ctypes.addressof(code))
    )
    libc = ctypes.CDLL(None, use_errno=True)
    zero = ctypes.c_ulong(0)
    assert libc.prctl(PR_SET_NO_NEW_PRIVS, ctypes.c_ulong(1), zero, zero, zero) == 0
    assert libc.prctl(PR_SET_SECCOMP, ctypes.c_ulong(SECCOMP_MODE_FILTER), filter_, zero, zero) == 0
    os.execvp(command[0], command)


main()
