"""Programs that are executed in a child, without a fork of this process: posix_spawn(3).

`execute` runs in the parent, `forget_ignored` in the program. Off the launch path: loaded by what
starts a server, and by the server.
"""

from __future__ import annotations

import os
import sys

from pyspaces.kernel import constants, libc

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


def execute(
    words: Sequence[str], variables: Mapping[bytes, bytes], descriptors: Mapping[int, int]
) -> int:
    """Execute a program in a child, and return its pid: posix_spawn(3). Raises OSError.

    words: its path first. variables: its environment. descriptors: by the number that each gets,
    which none of them has here. The standard streams are /dev/null. Nothing of this process is
    copied, so its size does not matter.
    """
    actions: list[tuple[int, ...] | tuple[int, int, str, int, int]] = [
        (os.POSIX_SPAWN_OPEN, number, os.devnull, os.O_RDWR, 0) for number in range(3)
    ]
    actions += [(os.POSIX_SPAWN_DUP2, source, number) for number, source in descriptors.items()]
    return os.posix_spawn(words[0], tuple(words), variables, file_actions=actions)


def forget_ignored() -> None:
    """Reset the signals that posix_spawn(3) leaves ignored in a program that it executes.

    The C library keeps signals 32 and 33 to itself, and so ignores them in what it executes (glibc
    2.36, __spawni_child()); none of its own functions can change that.
    """
    number = constants.SYS_rt_sigaction.get((os.uname().machine, 8 if sys.maxsize > 1 << 32 else 4))
    if number is not None:
        for signal in (32, 33):
            # struct sigaction of the kernel: handler, flags, restorer and mask. SIG_DFL is 0.
            libc.call("rt_sigaction", number, signal, bytes(32), None, 8)
