"""Existing namespaces, joined by the process that then creates the child, or becomes the command.

Runs in that process only: the one in the middle of `spawn`, or the launcher itself. Processes in
the namespaces may be hostile, and have all capabilities there: from before the first is joined up
to exec, this process and its child are not dumpable, so that nobody inside can trace them or use
what they are: their root, their directory, their descriptors and memory (CVE-2016-9962; seen
without it: a loop inside opened the memory of each of 60 visitors).
"""

from __future__ import annotations

import errno
import os

from pyspaces.features import clocks
from pyspaces.features.existing import joining
from pyspaces.features.ids.maps import ALLOW
from pyspaces.kernel import ioctl_ns, libc
from pyspaces.kernel.libc import KernelError
from pyspaces.kernel.procfs import Extent, inside_id
from pyspaces.launch.inner.identity import drop_groups, leave_session_keyring, take_ids
from pyspaces.launch.inner.steps import seal_imports

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyspaces.features.existing.joining import Visit


def join(visit: Visit) -> None:
    """Join what the visit holds, and become root there. Raises KernelError."""
    seal_imports()
    # By this descriptor the process finds its own id maps, whatever /proc it will be under.
    own = _open("/proc/self", os.O_RDONLY | os.O_DIRECTORY)
    # Files of a process that is not dumpable belong to root: what is to be written is opened now.
    offsets = clocks.open_offsets_inner() if visit.new_clocks else -1
    foreign = _foreign(visit)
    libc.set_dumpable(dumpable=visit.open_child)
    leaving = (lambda: None) if visit.keep_ids or visit.keep_groups else drop_groups
    try:
        # While this process still has the rights that it came with.
        joining.join_cgroups_inner(visit.cgroups)
        joined_user = joining.join_inner(visit, leaving)
        # Joining changes the credentials as well.
        libc.set_dumpable(dumpable=visit.open_child)
        # Before the change of ids, which may cost the right to it.
        joining.move_inner(visit)
        if joined_user and not visit.keep_ids:
            leave_session_keyring()
            _become_root(own, keep_groups=visit.keep_groups, foreign=foreign)
        if visit.new_clocks:
            boottime, monotonic = visit.new_clocks
            clocks.enter_inner(boottime=boottime, monotonic=monotonic, own=own, offsets=offsets)
    finally:
        for descriptor in (own, offsets):
            if descriptor >= 0:
                os.close(descriptor)


def _foreign(visit: Visit) -> str | None:
    """Return the path of a user namespace that another user owns; None if there is none."""
    for handle in (*visit.handles, *visit.owners):
        if handle.name == "user" and ioctl_ns.owner_uid(handle.descriptor) != os.geteuid():
            return handle.path
    return None


def _become_root(own: int, *, keep_groups: bool, foreign: str | None) -> None:
    """Become root of the user namespace, or the first id that is mapped in it.

    If none is mapped, the caller's own id stays: root of the host would act as that on whatever
    the owner of the namespace, if it is another user, has put there. So that is refused.
    """
    uid, gid = (
        inside_id([_extent(line) for line in _read(own, name).splitlines()])
        for name in ("uid_map", "gid_map")
    )
    allowed = not keep_groups and _read(own, "setgroups").strip() == ALLOW
    for call, number in (("setresgid", gid), ("setresuid", uid)):
        if number is None and foreign:
            raise KernelError(errno.EINVAL, call, [], foreign)
    if uid is not None or gid is not None:
        take_ids(uid, gid, () if allowed and gid is not None else None)


def _extent(line: str) -> Extent:
    inside, outside, count = map(int, line.split())
    return Extent(inside=inside, outside=outside, count=count)


def _read(directory: int, name: str) -> str:
    descriptor = _open(name, os.O_RDONLY, directory)
    try:
        # seq_file gives a map of 340 lines in pieces of a page.
        chunks = []
        while chunk := os.read(descriptor, 65536):
            chunks.append(chunk)
        return b"".join(chunks).decode("ascii")
    finally:
        os.close(descriptor)


def _open(path: str, flags: int, directory: int | None = None) -> int:
    try:
        return os.open(path, flags | os.O_CLOEXEC, dir_fd=directory)
    except OSError as error:
        raise KernelError(error.errno or 0, "open", [], path) from None
