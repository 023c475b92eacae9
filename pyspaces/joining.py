"""Existing namespaces: hold those of a process by descriptors, and join them: setns(2).

What opens runs in any process, what joins in the process that is to be inside. Must not know
options.
"""

from __future__ import annotations

import errno
import os

from pyspaces import namespaces
from pyspaces.kernel import libc, nsfs
from pyspaces.kernel.libc import KernelError
from pyspaces.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


class Handle(Record):
    """A namespace held open: its name, an owned descriptor, and the path it was opened at."""

    name: str
    descriptor: int
    path: str


class Visit(Record):
    """What to join, and who to be there.

    handles: the namespaces. uid, gid: ids inside the user namespace that is joined, or None to stay
    who one is. may_set_groups: whether setgroups(2) works there.
    """

    handles: tuple[Handle, ...]
    uid: int | None = None
    gid: int | None = None
    may_set_groups: bool = False

    def close(self) -> None:
        """Release the descriptors."""
        close(self.handles)


def open_handles(process: int, names: Iterable[str]) -> tuple[Handle, ...]:
    """Open those namespaces of `process` in which it differs from this thread.

    process: a pid. names: of `namespaces.NAMES`. All are open before any is joined, and the
    process still lived then: its number was not another's. Raises KernelError naming the file.
    """
    wanted = frozenset(names)
    pidfd = nsfs.pidfd_open(process)
    handles: list[Handle] = []
    try:
        for row in namespaces.NAMESPACES:
            path = f"/proc/{process}/ns/{row.link}"
            if row.name in wanted and not nsfs.same_file(path, f"/proc/thread-self/ns/{row.link}"):
                handles.append(Handle(name=row.name, descriptor=nsfs.open_file(path), path=path))
        if nsfs.has_ended(pidfd):
            raise KernelError(errno.ESRCH, "open", [], f"/proc/{process}/ns")
    except BaseException as error:
        close(handles)
        # The files of a process that has ended are missing one by one; the process is what is.
        if isinstance(error, KernelError) and nsfs.has_ended(pidfd):
            raise KernelError(errno.ESRCH, "open", [], f"/proc/{process}/ns") from None
        raise
    finally:
        os.close(pidfd)
    return tuple(handles)


def close(handles: Iterable[Handle]) -> None:
    """Release the descriptors."""
    for handle in handles:
        os.close(handle.descriptor)


def join_inner(handles: Sequence[Handle]) -> None:
    """Join namespaces. Raises KernelError naming the one that failed.

    Two passes, as nsenter(1) makes them: root joins the others first, while it has its rights, and
    the user namespace last; the ordinary owner of a user namespace gets its rights by joining it.
    """
    later: list[Handle] = []
    for handle in handles:
        if handle.name == "user":
            continue
        try:
            _join_one_inner(handle)
        except KernelError:
            later.append(handle)
    user = [handle for handle in handles if handle.name == "user"]
    for handle in (*user, *later):
        _join_one_inner(handle)


def _join_one_inner(handle: Handle) -> None:
    """Join one namespace. Raises KernelError naming it."""
    libc.setns(handle.descriptor, namespaces.flags_of([handle.name]), path=handle.path)
