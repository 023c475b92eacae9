"""Mounts, and paths across them: mount(2), pivot_root(2), openat2(2), statx(2).

And mounts by descriptor: open_tree(2), fsmount(2), move_mount(2), mount_setattr(2). Runs in any
process. Off the launch path: loaded if a plan has a mount namespace, or joins one.
"""

from __future__ import annotations

import errno
import os

from pyspaces.kernel import constants, foreign, libc, procfs

_int, _long, _text, _pointer = foreign.c_int, foreign.c_long, foreign.c_char_p, foreign.c_void_p
_later = libc.LIBRARY.later
_mount = _later("mount", _text, _text, _text, foreign.c_ulong, _text)
_pivot_root = _later("pivot_root", _text, _text)
# syscall(2) is variadic.
_openat2 = _later("syscall", _long, _long, _text, _pointer, foreign.c_size_t, restype=_long)
_statx = _later("statx", _int, _text, _int, _int, _pointer)
_umount2 = _later("umount2", _text, _int)
_NO_DIRECTORY = -100  # AT_FDCWD: for a path that begins at the root
_MOST_RACES = 10_000  # seen with paths that have "..": one in thousands, beside tests that mount


def mount(
    source: str | None, target: str, fstype: str | None, flags: int, data: str | None = None
) -> None:
    """Attach a file system, or change a mount, according to `flags`: mount(2)."""
    encoded = [None if text is None else os.fsencode(text) for text in (source, target, fstype)]
    options = None if data is None else os.fsencode(data)
    libc.checked(_mount(*encoded, flags, options), "mount", source, fstype, hex(flags), path=target)


def umount(target: str, flags: int) -> None:
    """Detach a mount: umount2(2)."""
    libc.checked(_umount2(os.fsencode(target), flags), "umount2", hex(flags), path=target)


def pivot_root(new_root: str, put_old: str) -> None:
    """Make the mount `new_root` the root of this mount namespace: pivot_root(2)."""
    result = _pivot_root(os.fsencode(new_root), os.fsencode(put_old))
    libc.checked(result, "pivot_root", put_old, path=new_root)


def openat2(directory: int, path: str, flags: int, resolve: int) -> int:
    """Open `path` beneath the descriptor `directory`, resolved as `resolve` says: openat2(2).

    The descriptor is close-on-exec. Since Linux 5.6.
    """
    how = libc.words(flags | os.O_CLOEXEC, 0, resolve)
    # EAGAIN: anything at all was mounted or renamed on the host while ".." was resolved.
    for _ in range(_MOST_RACES):
        result = _openat2(constants.SYS_openat2, directory, os.fsencode(path), how, len(how))
        if result != -1 or foreign.get_errno() != errno.EAGAIN:
            break
    return libc.checked(result, "openat2", path=path)


def _looked_at(descriptor: int, path: bytes, more: int = 0) -> bytes | None:
    """Return the struct statx of a file, with its mount id, or None if statx(2) has none.

    more: what else to ask for. A file system may have to ask somebody else for it.
    """
    room, flags = foreign.create_string_buffer(constants.STATX_SIZE), constants.AT_EMPTY_PATH
    wanted = constants.STATX_MNT_ID | more
    try:
        if _statx(descriptor, path, flags, wanted, foreign.addressof(room)) == -1:
            return None
    except AttributeError:  # in the GNU C library since 2.28
        return None
    data: bytes = room.raw
    return data if libc.numbers(data[:4], 4)[0] & constants.STATX_MNT_ID else None


def mount_id(descriptor: int, path: bytes = b"") -> int | None:
    """Return the id of the mount of `descriptor`, or None if statx(2) does not report it.

    path: what to look at from there. The number of proc_pid_mountinfo(5). Since Linux 5.8; needs no
    /proc.
    """
    data = _looked_at(descriptor, path)
    return _mount_id_in(data) if data else None


def _mount_id_in(data: bytes) -> int:
    place = constants.STATX_MNT_ID_OFFSET
    return libc.numbers(data[place : place + 8])[0]


def root_place() -> str:
    """Return which directory the root of this process is, and on which mount, to be compared.

    A directory may be at several mounts. Raises OSError.
    """
    if data := _looked_at(_NO_DIRECTORY, b"/", constants.STATX_INO):
        inode, device = constants.STATX_INO_OFFSET, constants.STATX_DEVICE_OFFSET
        (number,) = libc.numbers(data[inode : inode + 8])
        major, minor = libc.numbers(data[device : device + 8], 4)
        mount = _mount_id_in(data)
    else:
        descriptor = os.open("/", os.O_PATH | os.O_CLOEXEC)
        try:
            status = os.fstat(descriptor)
            mount = mount_number(descriptor)
        finally:
            os.close(descriptor)
        number, major, minor = status.st_ino, os.major(status.st_dev), os.minor(status.st_dev)
    return f"{number} {major} {minor} {mount}"


def mount_number(descriptor: int, fdinfo: int | None = None) -> int:
    """Return the id of the mount that a descriptor of this process is on. Raises KernelError.

    fdinfo: a descriptor of /proc/self/fdinfo, if that cannot be reached by its path any more. It is
    used only if statx(2) has no mount id, before Linux 5.8.
    """
    if (number := mount_id(descriptor)) is not None:
        return number
    path = str(descriptor) if fdinfo is not None else f"/proc/self/fdinfo/{descriptor}"
    return procfs.fdinfo_field("mnt_id", path, fdinfo)


def open_tree(descriptor: int) -> int:
    """Return a close-on-exec descriptor of a detached copy of the mounts at and below `descriptor`.

    open_tree(2), since Linux 5.2.
    """
    flags = constants.OPEN_TREE_CLONE | os.O_CLOEXEC
    flags |= constants.AT_EMPTY_PATH | constants.AT_RECURSIVE
    return libc.call("open_tree", constants.SYS_open_tree, descriptor, b"", flags)


def move_mount(mount: int, target: int) -> None:
    """Attach a detached mount to the place behind `target`: move_mount(2), since Linux 5.2."""
    flags = constants.MOVE_MOUNT_F_EMPTY_PATH | constants.MOVE_MOUNT_T_EMPTY_PATH
    libc.call("move_mount", constants.SYS_move_mount, mount, b"", target, b"", flags)


def mount_setattr(descriptor: int, attributes: int, *, recursive: bool) -> None:
    """Set MOUNT_ATTR_* bits of the mount behind `descriptor`: mount_setattr(2), since Linux 5.12.

    recursive: also of every mount below it; all of them or none.
    """
    flags = constants.AT_EMPTY_PATH | (constants.AT_RECURSIVE if recursive else 0)
    attr = libc.words(attributes, 0, 0, 0)
    number = constants.SYS_mount_setattr
    libc.call("mount_setattr", number, descriptor, b"", flags, attr, len(attr))


def fresh(kind: str, attributes: int, data: str) -> int:
    """Return a close-on-exec descriptor of a detached mount of a new file system of type `kind`.

    attributes: MOUNT_ATTR_* bits. data: comma-separated options as for mount(2). fsopen(2),
    fsconfig(2), fsmount(2), since Linux 5.2.
    """
    context = libc.call("fsopen", constants.SYS_fsopen, os.fsencode(kind), constants.FSOPEN_CLOEXEC)
    try:
        for option in filter(None, data.split(",")):
            key, equals, value = option.partition("=")
            how = constants.FSCONFIG_SET_STRING if equals else constants.FSCONFIG_SET_FLAG
            text = os.fsencode(value) if equals else None
            _configure(context, how, os.fsencode(key), text)
        _configure(context, constants.FSCONFIG_CMD_CREATE, None, None)
        number, flags = constants.SYS_fsmount, constants.FSMOUNT_CLOEXEC
        return libc.call("fsmount", number, context, flags, attributes)
    finally:
        os.close(context)


def _configure(context: int, how: int, key: bytes | None, value: bytes | None) -> None:
    libc.call("fsconfig", constants.SYS_fsconfig, context, how, key, value, 0)
