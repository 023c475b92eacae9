"""Existing namespaces, joined by the process that then creates the child, or becomes the command.

Runs in that process only: the one in the middle of `spawn`, or the launcher itself.
"""

from __future__ import annotations

import os

from pyspaces import joining
from pyspaces.idmap import ALLOW, Extent, inside_id
from pyspaces.inner.identity import become
from pyspaces.inner.seal import seal_imports
from pyspaces.kernel.libc import KernelError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyspaces.joining import Visit


def join(visit: Visit) -> None:
    """Join what the visit holds, and become root there. Raises KernelError."""
    seal_imports()
    # By this descriptor the process finds its own id maps, whatever /proc it will be under.
    own = _open("/proc/self", os.O_RDONLY | os.O_DIRECTORY)
    try:
        # While this process still has the rights that it came with.
        joining.join_cgroups_inner(visit.cgroups)
        joined_user = joining.join_inner(visit.handles, visit.owners)
        # Before the change of ids, which may cost the right to it.
        joining.move_inner(visit)
        if joined_user and not visit.keep_ids:
            _become_root(own, keep_groups=visit.keep_groups)
    finally:
        os.close(own)


def _become_root(own: int, *, keep_groups: bool) -> None:
    """Become root of the user namespace, or the first id that is mapped in it."""
    uid, gid = (
        inside_id([_extent(line) for line in _read(own, name).splitlines()])
        for name in ("uid_map", "gid_map")
    )
    allowed = not keep_groups and _read(own, "setgroups").strip() == ALLOW
    if uid is not None or gid is not None:
        become(uid, gid, may_set_groups=allowed and gid is not None)


def _extent(line: str) -> Extent:
    inside, outside, count = map(int, line.split())
    return Extent(inside=inside, outside=outside, count=count)


def _read(folder: int, name: str) -> str:
    descriptor = _open(name, os.O_RDONLY, folder)
    try:
        # seq_file gives a map of 340 lines in pieces of a page.
        chunks = []
        while chunk := os.read(descriptor, 65536):
            chunks.append(chunk)
        return b"".join(chunks).decode("ascii")
    finally:
        os.close(descriptor)


def _open(path: str, flags: int, folder: int | None = None) -> int:
    try:
        return os.open(path, flags | os.O_CLOEXEC, dir_fd=folder)
    except OSError as error:
        raise KernelError(error.errno or 0, "open", [], path) from None
