"""Ready-made lists of operations, made of what this host has.

Runs in the parent: it looks at the host, and changes nothing.
"""

from __future__ import annotations

import os
import stat

from pyspaces.kernel import constants, mountinfo, nsfs
from pyspaces.mounts.binds import Bind
from pyspaces.mounts.devices import Dev
from pyspaces.mounts.overlays import TmpOverlay
from pyspaces.mounts.places import Dir, Proc, Symlink, Tmpfs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Container, Iterator, Mapping

    from pyspaces.mounts.operation import Operation

_SHOWN = ("bin", "sbin", "lib", "lib32", "lib64", "libx32", "etc")
# What the kernel shows of itself: no overlay can lie over it, and a change there is the host's.
_OF_THE_KERNEL = (
    *("proc", "sysfs", "devtmpfs", "devpts", "mqueue", "cgroup", "cgroup2", "debugfs", "tracefs"),
    *("securityfs", "bpf", "configfs", "fusectl", "binfmt_misc", "efivarfs", "pstore"),
    *("hugetlbfs", "autofs", "rpc_pipefs", "nsfs", "selinuxfs", "nfsd"),
)
_MOST_APART = 16


def host_ro(*, proc: bool) -> tuple[Operation, ...]:
    """Return the host's programs and configuration, read-only, for an empty root.

    proc: whether the command has a pid namespace, and so a /proc, of its own.
    """
    made: list[Operation] = [Bind(source="/usr", target="/usr", read_only=True)]
    for name in _SHOWN:
        path = f"/{name}"
        if os.path.islink(path):
            made.append(Symlink(text=os.readlink(path), target=path))
        elif os.path.isdir(path):
            made.append(Bind(source=path, target=path, read_only=True))
    made += _names_resolved()
    made += [Dev(), _proc(proc=proc), Tmpfs(target="/tmp", perms=0o1777)]  # noqa: S108 - inside
    return tuple(made)


def throwaway(*, proc: bool, user: bool) -> tuple[Operation, ...]:
    """Return the host's whole tree, with changes in memory only.

    What the kernel shows of itself is read-only, but for /proc; /dev is a small one. proc: as for
    `host_ro`. user: whether the mounts belong to a new user namespace. There the kernel locks
    together what is mounted, and lays nothing over a folder with a mount beneath it
    (has_locked_children() in fs/namespace.c, EINVAL): on an empty root the tree is put together of
    the folders without.
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
    """Tell whether `throwaway` needs an empty root."""
    own = nsfs.inode_of(os.readlink("/proc/self/ns/user"))
    return user or own != constants.PROC_USER_INIT_INO


def _visible_mounts() -> dict[str, str]:
    """Return mount points and file system types, without those beneath one of the kernel's."""
    kinds = {row.point: row.kind for row in mountinfo.mounts()}
    visible: dict[str, str] = {}
    covered: tuple[str, ...] = ()
    for point in sorted(kinds):
        # Not there is what lies beneath another mount, or where this user may not look.
        if point.startswith(covered) or not os.path.exists(point):
            continue
        visible[point] = kinds[point]
        if kinds[point] in _OF_THE_KERNEL:
            covered = (*covered, f"{point}/")
    return visible


def _pieces(
    folder: str, kinds: Mapping[str, str], above: Container[str], *, proc: bool
) -> Iterator[Operation]:
    """Yield what is in `folder`, which has mounts beneath it, piece by piece."""
    try:
        names = sorted(os.listdir(folder))
    except PermissionError:  # nor could the command list it
        return
    for name in names:
        path = os.path.join(folder, name)
        if path in above and kinds.get(path) not in _OF_THE_KERNEL:
            yield Dir(target=path, perms=os.stat(path).st_mode & 0o7777)
            yield from _pieces(path, kinds, above, proc=proc)
        elif os.path.islink(path):
            yield Symlink(text=os.readlink(path), target=path)
        else:
            layer = _layer(path, kinds, proc=proc)
            yield layer
            if isinstance(layer, TmpOverlay):
                for inner in _apart(path):
                    yield TmpOverlay(lower=(inner,), target=inner)


def _apart(path: str) -> list[str]:
    """Return what needs an overlay of its own within that on `path`, in a user namespace.

    A change in a folder first copies the folder up, and all above it, with their owners: EOVERFLOW
    where these are not mapped (ovl_copy_up(), fs/overlayfs/copy_up.c), as root's /var/tmp is not
    for an ordinary user. The root of an overlay is never copied. Only where somebody may expect to
    write is looked: one level down, and on the way to $HOME and to the working directory.
    """
    found = {_first_apart(path, way) for way in _ways() if way.startswith(f"{path}/")} - {None}
    # In one that everybody may write to, folders come and go: one that had gone would be an error.
    if not os.stat(path).st_mode & stat.S_IWOTH:
        below = _below(path)
        # Each takes a descriptor, and mounts: of a folder with hundreds, none.
        found |= below if len(below) <= _MOST_APART else set()
    return sorted(filter(None, found))


def _ways() -> Iterator[str]:
    """Yield $HOME and the working directory, where they are there."""
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
                if entry.is_dir(follow_symlinks=False) and _first_apart(path, entry.path)
            }
    except PermissionError:
        return set()


def _first_apart(top: str, way: str) -> str | None:
    """Return the first folder below `top` on the way that can be written to, but not copied up."""
    path, foreign = top, False
    for name in way.removeprefix(f"{top}/").split("/"):
        path = f"{path}/{name}"
        try:
            status = os.lstat(path)
        except OSError:
            return None
        foreign = foreign or _is_foreign(status)
        if foreign and stat.S_ISDIR(status.st_mode) and _is_writable(path, status):
            return path
    return None


def _is_foreign(status: os.stat_result) -> bool:
    return (status.st_uid, status.st_gid) != (os.geteuid(), os.getegid())


def _is_writable(path: str, status: os.stat_result) -> bool:
    """Tell whether a folder can be changed by who, inside, has rights over his own files only."""
    if os.geteuid() == 0:
        return status.st_uid == 0 or bool(status.st_mode & stat.S_IWOTH)
    return os.access(path, os.W_OK | os.X_OK, effective_ids=True)


def _layer(path: str, kinds: Mapping[str, str], *, proc: bool) -> Operation:
    """Return what stands for a folder or a file of the host, alone or with all that is in it."""
    if path == "/dev":
        return Dev()
    if path == "/proc" and path in kinds:
        return _proc(proc=proc)
    if kinds.get(path) in _OF_THE_KERNEL or not os.path.isdir(path):
        return Bind(source=path, target=path, read_only=True)
    return TmpOverlay(lower=(path,), target=path)


def _proc(*, proc: bool) -> Operation:
    """Return a fresh /proc, which only a pid namespace of one's own can have, or the host's.

    Nothing can be started in namespaces with a read-only one: its id maps are written there.
    """
    return Proc() if proc else Bind(source="/proc", target="/proc")


def _names_resolved() -> list[Operation]:
    """Return what /etc/resolv.conf needs where it is a link out of what is shown, as to /run."""
    path = "/etc/resolv.conf"
    for _ in range(40):  # as many links as the kernel follows
        if not os.path.islink(path):
            return []
        path = os.path.normpath(os.path.join(os.path.dirname(path), os.readlink(path)))
        if not path.startswith(("/etc/", "/usr/")):
            source = os.path.realpath(path)
            return [Bind(source=source, target=path, read_only=True, optional=True)]
    return []
