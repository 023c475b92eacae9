"""Writing to a descriptor that others share, and whose reader may have gone to sleep.

Runs in the parent. Loaded only with what writes to descriptors of the caller.
"""

from __future__ import annotations

import errno
import os
import select

# What a pipe takes whole without blocking: PIPE_BUF of pipe(7).
_PIECE = 4096
# How long a reader may leave a pipe full before the record is given up, in milliseconds.
_PATIENCE = 2000


def write(descriptor: int, data: bytes) -> None:
    """Write all of it, as long as there is room. Raises OSError."""
    poller = select.poll()
    poller.register(descriptor, select.POLLOUT)
    while data:
        if not poller.poll(_PATIENCE):
            raise OSError(errno.EAGAIN, "its reader does not read")
        try:
            data = data[os.write(descriptor, data[:_PIECE]) :]
        except BlockingIOError:
            continue
