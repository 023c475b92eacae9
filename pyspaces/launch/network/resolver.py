"""Names to addresses, beside a loop that must not wait: getaddrinfo(3) in a few threads.

Runs in the proxy.
"""

from __future__ import annotations

import _socket
import _thread
import os

from pyspaces.features.network import hosts
from pyspaces.launch.network.loop import IN

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from pyspaces.launch.network.loop import Loop

    Found = Callable[[list[bytes]], object]

_THREADS = 8
_STACK = 1 << 18  # bytes; getaddrinfo(3) needs less than half of it
_MOST = 8  # addresses of one name


class Resolver:
    """Looks names up, a few at once; the others wait."""

    def __init__(self, loop: Loop) -> None:
        self._waiting: list[tuple[bytes, Found]] = []
        self._done: list[tuple[Found, list[bytes]]] = []
        self._busy = 0
        self._reading, self._writing = os.pipe()
        os.set_blocking(self._reading, False)
        _thread.stack_size(_STACK)
        loop.watch(self._reading, IN, self._take)

    def look_up(self, name: str, found: Found) -> None:
        """Call `found` later with the addresses of a name, which may be none."""
        self._waiting.append((name.encode("ascii"), found))
        self._start()

    def _start(self) -> None:
        while self._waiting and self._busy < _THREADS:
            name, found = self._waiting[0]
            try:
                _thread.start_new_thread(self._run, (name, found))
            except RuntimeError:  # no more threads: the next one that ends tries again
                if self._busy:
                    return
                self._waiting.pop(0)
                found([])
                continue
            self._busy += 1
            self._waiting.pop(0)

    def _run(self, name: bytes, found: Found) -> None:
        """Look one name up; runs in a thread of its own."""
        addresses: list[bytes] = []
        try:
            addresses = _addresses(name)
        finally:
            self._done.append((found, addresses))  # by the GIL, at once
            os.write(self._writing, b".")

    def _take(self, events: int) -> None:
        del events
        try:
            os.read(self._reading, 64)
        except BlockingIOError:
            return
        while self._done:
            found, addresses = self._done.pop(0)
            self._busy -= 1
            found(addresses)
        self._start()


def _addresses(name: bytes) -> list[bytes]:
    try:
        rows: list[Any] = _socket.getaddrinfo(name, None, 0, _socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return []
    found = [hosts.address_of(row[4][0].partition("%")[0]) for row in rows]
    return [address for address in found if address is not None][:_MOST]
