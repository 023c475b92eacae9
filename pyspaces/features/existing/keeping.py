"""Namespaces that are persisted by binding them to files, and released again.

What ends in _outer runs in the parent, while the child waits for it; `drop` in its caller. Must
not know processes beyond their number.
"""

from __future__ import annotations

import errno
import os
import stat

from pyspaces.errors import Hint, SpaceError
from pyspaces.kernel import constants, ioctl_ns, mountapi, mountinfo, namespaces, nsfs, procfs
from pyspaces.kernel.libc import Naming

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pyspaces.features.existing.values import Keep


# Of 30 mount namespaces, 13 could not be bound from outside of the first one (Linux 6.18).
_TRIES = 64
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


def check(keeps: Sequence[Keep]) -> None:
    """Check the files before anything is created. Raises SpaceError."""
    taken = {point for _, _, point in mountinfo.namespace_files()}
    for keep in keeps:
        if fault := _file_fault(keep.path, taken):
            raise SpaceError(f"cannot keep the {keep.namespace} namespace: {fault}")
    if keeps and not _may_mount():
        raise SpaceError(
            f"cannot keep the {keeps[0].namespace} namespace: {keeps[0].path}: without"
            " CAP_SYS_ADMIN for this mount namespace nothing can be bound to it",
            hint=Hint(
                "only root binds a namespace to a file here; without root,"
                " `run --name NAME --hold` keeps one by a process",
                "keep-needs-root",
            ),
        )


def _may_mount() -> bool:
    """Return whether this process may mount: CAP_SYS_ADMIN in the owner of its mount namespace."""
    if not procfs.has_capability(constants.CAP_SYS_ADMIN):
        return False
    own = nsfs.open_file("/proc/self/ns/mnt")
    # The kernel does not reveal an owner outside of this process's own user namespace.
    owner = ioctl_ns.owner(own)
    os.close(own)
    if owner is not None:
        os.close(owner)
    return owner is not None


class Kept:
    """The files that persist the namespaces of a launch: all of them, or none."""

    def __init__(self, keeps: Sequence[Keep]) -> None:
        self._keeps = keeps
        self._created: list[str] = []
        self._bound: list[str] = []
        self._tries = _TRIES

    def bind_outer(self, process: int) -> None:
        """Bind the namespaces of process `process` of /proc. On KernelError, call `undo_outer`."""
        for keep in self._keeps:
            if keep.path in self._bound:
                continue
            place = self._opened(keep.path)
            link = next(row.link for row in namespaces.NAMESPACES if row.name == keep.namespace)
            source = f"/proc/{process}/ns/{link}"
            try:
                with Naming("mount", keep.path):
                    mountapi.mount(source, f"/proc/self/fd/{place}", None, constants.MS_BIND)
            finally:
                os.close(place)
            self._bound.append(keep.path)

    def _opened(self, path: str) -> int:
        """Open the file, or create it; it is known by the descriptor from then on.

        Whoever may write to its directory could put a link there meanwhile, to a file which the
        namespace would cover for the whole host.
        """
        with Naming("open", path):
            if not os.path.lexists(path):
                created = os.open(path, _NEW, 0o444)
                self._created.append(path)
                return created
            found = os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
            if not stat.S_ISREG(os.fstat(found).st_mode):
                os.close(found)
                raise OSError(errno.ELOOP, "")
            return found

    def may_try_again(self) -> bool:
        """Return whether binding a mount namespace may succeed if tried again after EINVAL.

        The kernel always refuses a shared mount: unshare(1), --mount. Each call counts.
        """
        self._tries -= 1
        failed = [keep for keep in self._keeps if keep.path not in self._bound][:1]
        return self._tries > 0 and any(
            keep.namespace == "mount" and not is_on_shared_mount(keep.path) for keep in failed
        )

    def undo_outer(self) -> None:
        """Release and remove all files. Ignores errors: that of the launch is reported."""
        for path in self._bound:
            _try(mountapi.umount, path, constants.MNT_DETACH | constants.UMOUNT_NOFOLLOW)
        for path in self._created:
            _try(os.unlink, path)
        self._bound, self._created = [], []


def _try(release: Callable[..., object], *arguments: object) -> None:
    """Release a file, unless somebody else has done so meanwhile."""
    try:
        release(*arguments)
    except OSError:
        return


def drop(paths: Sequence[str]) -> None:
    """Release the namespaces that files persist, and remove the files.

    All files are checked before the first is released. Raises SpaceError naming a file without a
    namespace, or KernelError.
    """
    places: list[tuple[int, str]] = []
    paths = tuple({_place(path): path for path in paths}.values())  # each once
    try:
        for path in paths:
            places.append(_opened_directory(path))
            if not _is_kept(*places[-1]):
                raise _nothing_kept(path)
        for path, place in zip(paths, places, strict=True):
            _release(*place, path)
    finally:
        for directory, _ in places:
            os.close(directory)


def _opened_directory(path: str) -> tuple[int, str]:
    """Open the directory of a file, and return it with the name of the file there.

    Others may rename the directory: what was found is released there.
    """
    directory, name = os.path.split(_place(path))
    try:
        return os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC), name
    except OSError:
        raise _nothing_kept(path) from None


def _nothing_kept(path: str) -> SpaceError:
    try:
        os.lstat(path)
        why = "no namespace is kept there"
    except (FileNotFoundError, NotADirectoryError):
        why = "there is no such file"
    except OSError as error:  # it may be in a directory of another user
        why = error.strerror or ""
    return SpaceError(f"cannot drop {path}: {why}")


def _is_kept(directory: int, name: str) -> bool:
    """Return whether a namespace is bound to a file of a directory."""
    try:
        found = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
    except OSError:
        return False
    try:
        return mountinfo.kind_of(found) == "nsfs"
    finally:
        os.close(found)


def _release(directory: int, name: str, path: str) -> None:
    # Several namespaces may be bound there, one over the other.
    while _is_kept(directory, name):
        with Naming("umount2", path):
            flags = constants.MNT_DETACH | constants.UMOUNT_NOFOLLOW
            mountapi.umount(f"/proc/self/fd/{directory}/{name}", flags)
    with Naming("unlink", path):
        os.unlink(name, dir_fd=directory)


def is_on_shared_mount(path: str) -> bool:
    """Return whether `path` is on a shared mount: mount_namespaces(7)."""
    return mountinfo.is_on_shared(_place(path))


def _place(path: str) -> str:
    """Return the absolute path of a file, with symbolic links in its directory resolved."""
    directory, name = os.path.split(os.path.abspath(path))
    return os.path.join(os.path.realpath(directory), name)


def _file_fault(path: str, taken: set[str]) -> str | None:
    if _place(path) in taken:
        return f"{path}: keeps a namespace already; release it with: pyspaces drop {path}"
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        if os.path.isdir(os.path.dirname(path) or "."):
            return None
        return f"{path}: there is no such directory"
    except OSError as error:
        return f"{path}: {error.strerror}"
    return None if stat.S_ISREG(mode) else f"{path}: exists, and is not a regular file"
