"""Mounts by descriptor: open_tree(2), fsmount(2), move_mount(2), mount_setattr(2).

Runs in any process. Off the launch path: loaded if a plan has operations on mounts.
"""

from __future__ import annotations

import _struct as struct  # what `struct` hands on, without a file to load
import os

from pyspaces.kernel import constants, libc


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
    attr = struct.pack("QQQQ", attributes, 0, 0, 0)
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
