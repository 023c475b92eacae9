"""The set of operations that shows all of the host, which depends on what this host has.

Runs in the parent; changes nothing.
"""

from __future__ import annotations

import os
import stat

from pyspaces.kernel import constants, mountinfo, nsfs
from pyspaces.mounts.binds import Bind
from pyspaces.mounts.devices import Dev
from pyspaces.mounts.overlays import TmpOverlay
from pyspaces.mounts.places import Dir, Symlink
from pyspaces.mounts.sets import proc_of_host

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Container, Iterator, Mapping

    from pyspaces.mounts.operation import Operation

# File systems that show the kernel's state: they cannot be layers of an overlay, and changes to
# them affect the host.
_OF_THE_KERNEL = (
    *("proc", "sysfs", "devtmpfs", "devpts", "mqueue", "cgroup", "cgroup2", "debugfs", "tracefs"),
    *("securityfs", "bpf", "configfs", "fusectl", "binfmt_misc", "efivarfs", "pstore"),
    *("hugetlbfs", "autofs", "rpc_pipefs", "nsfs", "selinuxfs", "nfsd"),
)
_MOST_OVERLAYS = 16


def operations(*, proc: bool, user: bool) -> tuple[Operation, ...]:
    """Return operations that show the host's whole tree, with changes in memory only.

    File systems of the kernel are read-only, except /proc; /dev is a minimal one. proc: as for
    `host_ro`. user: whether the mounts belong to a new user namespace. There, existing mounts are
    locked together, and nothing can be mounted over a directory with a mount below it
    (has_locked_children() in fs/namespace.c, EINVAL): the tree is built on an empty root from the
    directories without mounts.
    """
    kinds = _visible_mounts()
    if not in_pieces(user=user):
        return tuple(_layer(point, kinds, proc=proc) for point in sorted(kinds))
    above: set[str] = set()
    for point in kinds:
        path = point
        while path != "/":
            path = os.path.dirname(path)
            above.add(path)
    return tuple(_pieces("/", kinds, above, proc=proc))


def in_pieces(*, user: bool) -> bool:
    """Return whether `throwaway` needs an empty root."""
    own = nsfs.inode_of(os.readlink("/proc/self/ns/user"))
    return user or own != constants.PROC_USER_INIT_INO


def _visible_mounts() -> dict[str, str]:
    """Return mount points and file system types, except below file systems of the kernel."""
    kinds = {row.point: row.kind for row in mountinfo.mounts()}
    visible: dict[str, str] = {}
    covered: tuple[str, ...] = ()
    for point in sorted(kinds):
        # A mount point may be covered by another mount, or not accessible to this user.
        if point.startswith(covered) or not os.path.exists(point):
            continue
        visible[point] = kinds[point]
        if kinds[point] in _OF_THE_KERNEL:
            covered = (*covered, f"{point}/")
    return visible


def _pieces(
    directory: str, kinds: Mapping[str, str], above: Container[str], *, proc: bool
) -> Iterator[Operation]:
    """Yield operations for each file in `directory`, which has mounts below it."""
    try:
        names = sorted(os.listdir(directory))
    except PermissionError:  # the command could not list it either
        return
    for name in names:
        path = os.path.join(directory, name)
        if path in above and kinds.get(path) not in _OF_THE_KERNEL:
            yield Dir(target=path, perms=os.stat(path).st_mode & 0o7777)
            yield from _pieces(path, kinds, above, proc=proc)
        elif os.path.islink(path):
            yield Symlink(text=os.readlink(path), target=path)
        else:
            layer = _layer(path, kinds, proc=proc)
            yield layer
            if isinstance(layer, TmpOverlay):
                for inner in _own_overlays(path):
                    yield TmpOverlay(lower=(inner,), target=inner)


def _own_overlays(path: str) -> list[str]:
    """Return the directories below `path` that need their own overlay in a user namespace.

    A change in a directory first copies the directory up, and all above it, with their owners:
    EOVERFLOW if these are not mapped (ovl_copy_up(), fs/overlayfs/copy_up.c), as root's /var/tmp
    for an ordinary user. The root of an overlay is never copied. Only directories where a command
    is likely to write are considered: those one level down, and those on the way to $HOME and to
    the working directory.
    """
    found = {_first_uncopyable(path, way) for way in _likely_paths() if way.startswith(f"{path}/")}
    # If everybody may write to it, directories come and go: a missing one would be an error.
    if not os.stat(path).st_mode & stat.S_IWOTH:
        below = _below(path)
        # Each takes a descriptor and several mounts: none if there are hundreds.
        found |= below if len(below) <= _MOST_OVERLAYS else set()
    return sorted(filter(None, found))


def _likely_paths() -> Iterator[str]:
    """Yield $HOME and the working directory if they exist."""
    for way in (os.environ.get("HOME", ""), "."):
        try:
            yield os.path.realpath(way, strict=True) if way else ""
        except OSError:
            continue


def _below(path: str) -> set[str]:
    try:
        with os.scandir(path) as entries:
            return {
                entry.path
                for entry in entries
                if entry.is_dir(follow_symlinks=False) and _first_uncopyable(path, entry.path)
            }
    except PermissionError:
        return set()


def _first_uncopyable(top: str, way: str) -> str | None:
    """Return the first directory on the way from `top` that is writable but cannot be copied up."""
    path, foreign = top, False
    for name in way.removeprefix(f"{top}/").split("/"):
        path = f"{path}/{name}"
        try:
            status = os.lstat(path)
        except OSError:
            return None
        foreign |= (status.st_uid, status.st_gid) != (os.geteuid(), os.getegid())
        if foreign and stat.S_ISDIR(status.st_mode) and _is_writable(path, status):
            return path
    return None


def _is_writable(path: str, status: os.stat_result) -> bool:
    """Return whether the command, whose capabilities cover only its own files, can write there."""
    if os.geteuid() == 0:
        return status.st_uid == 0 or bool(status.st_mode & stat.S_IWOTH)
    return os.access(path, os.W_OK | os.X_OK, effective_ids=True)


def _layer(path: str, kinds: Mapping[str, str], *, proc: bool) -> Operation:
    """Return the operation for a file or directory of the host."""
    if path == "/dev":
        return Dev()
    if path == "/proc" and path in kinds:
        return proc_of_host(proc=proc)
    if kinds.get(path) in _OF_THE_KERNEL or not os.path.isdir(path):
        return Bind(source=path, target=path, read_only=True)
    return TmpOverlay(lower=(path,), target=path)
