"""What the launcher arranges with its caller by descriptors and locks: two services.

Runs in the parent, but for what ends in _inner. Loaded only if the plan has some of it.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import struct

from pyspaces.errors import Refusal, UsageFault
from pyspaces.features.network.values import LISTEN_FDS_START
from pyspaces.kernel.libc import KernelError
from pyspaces.launch import rights
from pyspaces.launch.handed import Handed
from pyspaces.launch.outer import prepare, waiting
from pyspaces.launch.service import Service

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from pyspaces.features.descriptors import Descriptors
    from pyspaces.kernel.spawn import Spawned
    from pyspaces.launch.services import Launch
    from pyspaces.status import Ended

# struct flock of fcntl(2): the whole file. A lock of the open file description, not of the process:
# the launcher has it, too, and it conflicts with those of processes.
_READ_LOCK = struct.pack("hhqqi0q", fcntl.F_RDLCK, os.SEEK_SET, 0, 0, 0)


class Arranging(Service):
    """The descriptors of the caller, from before there is a child to the end of the command."""

    task = "release the descriptors of the caller"

    def __init__(self, launch: Launch) -> None:
        super().__init__(launch)
        self._wanted: Descriptors = launch.plan.descriptors
        self._locking: Locking | None = None
        self._locked: list[int] = []
        self._ours: list[int] = []

    def open(self) -> None:
        """Check that all of them are open. Raises UsageFault that names those that are not."""
        if faults := list(_faults(self._wanted)):
            raise UsageFault(faults)
        for option, number in self._wanted.numbers():
            if option != "keep-fd" and number > 2:
                os.set_inheritable(number, False)
                self._ours.append(number)
        # Who reads them, or waits for --sync-fd, sees the end only if no child has them.
        self.launch.not_for_others.append(self._forget)
        self.launch.map = self._map
        if self._wanted.close:
            given = self.launch.handed or Handed()
            self.launch.handed = given.replace(kept=(*self._wanted.keep, *self._activated()))
        if self._wanted.locks:
            self._locking = self.launch.locking = Locking(self._wanted.locks)

    def _forget(self) -> None:
        while self._ours:
            os.close(self._ours.pop())

    def _map(self, child: Spawned) -> bool:
        """Write the id maps, or wait for those that others write; return as `write_maps` does."""
        launch, block = self.launch, self._wanted.userns_block
        if block is not None:
            self._inform(child)
            return waiting.take_maps(launch, child, block)
        may_set_groups = prepare.write_maps(launch.plan, child, launch.observe)
        # Only now is whoever enters the user namespace somebody in there.
        self._inform(child)
        return may_set_groups

    def _inform(self, child: Spawned) -> None:
        if self._wanted.info is not None:
            waiting.inform(self.launch, child, "info-fd", self._wanted.info)
            self._close(self._wanted.info)
        if self._wanted.json_status is not None:
            waiting.inform(self.launch, child, "json-status-fd", self._wanted.json_status)

    def _close(self, number: int) -> None:
        if number in self._ours:
            self._ours.remove(number)
            os.close(number)

    def _activated(self) -> Iterator[int]:
        """Yield the numbers that the sockets of --listen will have."""
        if self.launch.plan.holds("network"):
            count = len(self.launch.plan.network.listen)
            yield from range(LISTEN_FDS_START, LISTEN_FDS_START + count)

    def ended(self, ended: Ended) -> None:
        """Write the exit status for --json-status-fd, whose reader may have gone."""
        try:
            if self._wanted.json_status is not None:
                waiting.tell_end(self._wanted.json_status, ended.shell_code)
        except OSError as error:
            number = self._wanted.json_status
            self.launch.tell(f"json-status-fd: {number}: cannot be written: {error.strerror}")
        finally:
            self.release()

    def release(self) -> None:
        """Close what is to be open, or locked, only while the command runs."""
        if self._locking:
            self._locking.close()
        rights.close(self._locked)
        self._locked = []
        self._forget()


class ArrangingLocks(Arranging):
    """The same with locks, for which the child has to wait."""

    def held(self, child: Spawned) -> None:
        """Take the locked files from the child, which closes its own by exec."""
        assert self._locking
        self._locked = self._locking.take()


class Waiting(Service):
    """The word of the caller without which the command is not executed."""

    def held(self, child: Spawned) -> None:
        """Wait for it. Raises SpaceError if it cannot come any more."""
        number = self.launch.plan.descriptors.block
        assert number is not None
        waiting.wait_for(self.launch, child, number, "block-fd")


class Locking:
    """The locks of the child, and the sockets by which it gives them to the launcher."""

    def __init__(self, paths: tuple[str, ...]) -> None:
        self._paths = paths
        self._ours, self._theirs = rights.pair()

    def lock_inner(self) -> None:
        """Lock the files, and send them to the launcher. Raises Refusal and OSError."""
        opened = [_locked_inner(path) for path in self._paths]
        try:
            rights.send(self._theirs, b".", opened)
        except OSError as error:
            raise KernelError(error.errno or 0, "sendmsg") from None
        rights.close(opened)
        self.close()

    def take(self) -> list[int]:
        """Return the descriptors of the locked files."""
        return rights.take(self._ours, 1, len(self._paths))[1]

    def close(self) -> None:
        """Close both ends; more than once is fine."""
        self._ours.close()
        self._theirs.close()


def _locked_inner(path: str) -> int:
    """Open a file and take a read lock, at once or not at all."""
    # NONBLOCK: in a foreign tree it may be a FIFO.
    opened = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    if not stat.S_ISREG(os.fstat(opened).st_mode):
        raise Refusal("is not a regular file", path=path)
    try:
        fcntl.fcntl(opened, fcntl.F_OFD_SETLK, _READ_LOCK)
    except OSError as error:
        if error.errno in (errno.EAGAIN, errno.EACCES):
            raise Refusal("another process has a write lock on it", path=path) from None
        raise Refusal(number=error.errno or 0, path=path) from None
    return opened


def _faults(wanted: Descriptors) -> Iterator[str]:
    for option, number in wanted.numbers():
        try:
            mode = fcntl.fcntl(number, fcntl.F_GETFL) & os.O_ACCMODE
        except (OSError, OverflowError):
            yield f"{option}: {number}: is not open"
            continue
        if option in ("info-fd", "json-status-fd") and mode == os.O_RDONLY:
            yield f"{option}: {number}: is not open for writing"
        if option in ("block-fd", "userns-block-fd") and mode == os.O_WRONLY:
            yield f"{option}: {number}: is not open for reading"
