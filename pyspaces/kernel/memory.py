"""Memory that a process shares with those that it forks: mmap(2).

Runs in any process. Loaded if the command is confined: Python's own `mmap` is a library to load.
"""

from __future__ import annotations

import errno

from pyspaces.kernel import constants, foreign, libc

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_MOST = 1 << 16  # bytes of a message
_HEAD = 4  # bytes before a message: its size
_SLOT = _MOST + _HEAD
_PLACES = (8, 8 + _SLOT)
_SIZE = _PLACES[1] + _SLOT
_FAILED = (1 << 8 * foreign.sizeof(foreign.c_void_p)) - 1

_word = foreign.c_size_t
_mmap = libc.LIBRARY.later(
    "mmap",
    *(foreign.c_void_p, _word, *[foreign.c_int] * 3, foreign.c_long),
    restype=foreign.c_void_p,
)
_munmap = libc.LIBRARY.later("munmap", foreign.c_void_p, _word)


class Board:
    """The last message that one of the processes has written; empty at first.

    Writing takes no system call. There is room for two: a writer that is killed meanwhile leaves
    the message before.
    """

    def __init__(self) -> None:
        access = constants.PROT_READ | constants.PROT_WRITE
        how = constants.MAP_SHARED | constants.MAP_ANONYMOUS
        self._address: int | None = None
        found = _mmap(None, _SIZE, access, how, -1, 0)
        if found is None or found == _FAILED:
            raise libc.KernelError(foreign.get_errno() or errno.ENOMEM, "mmap", [_SIZE])
        self._address = found

    def write(self, frame: bytes) -> None:
        """Put a message, or what there is room for, in place of the last one."""
        assert self._address
        kept = frame[:_MOST]
        new = 1 - self._read(0, 1)[0]
        libc.write_memory(self._address + _PLACES[new], len(kept).to_bytes(_HEAD, "little") + kept)
        libc.write_memory(self._address, bytes([new]))

    def read(self) -> bytes:
        """Return the last message."""
        place = _PLACES[self._read(0, 1)[0]]
        size = int.from_bytes(self._read(place, _HEAD), "little")
        return self._read(place + _HEAD, min(size, _MOST))

    def _read(self, place: int, size: int) -> bytes:
        assert self._address
        return (foreign.c_char * size).from_address(self._address + place).raw

    def __del__(self, unmap: Callable[..., object] = _munmap) -> None:
        # By a name of its own: those of the module are gone when an interpreter ends.
        if self._address:
            address, self._address = self._address, None
            unmap(address, _SIZE)
