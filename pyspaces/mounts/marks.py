"""The marks of overlayfs in an upper directory, and which attributes of a file are none.

Pure reading, in any process. Documentation/filesystems/overlayfs.rst of the kernel has the marks.
"""

from __future__ import annotations

import errno
import os
import stat

# The second is for overlays in user namespaces (userxattr); the first only root may read.
_PREFIXES = ("trusted.overlay.", "user.overlay.")
_OPAQUE = tuple(f"{prefix}opaque" for prefix in _PREFIXES)
# What refers to a file elsewhere, or is itself a layer. Observation: Linux 6.18 does not take the
# attribute `whiteout` for a deletion in an upper directory; `overlay.` is a mark one level deeper.
_FOREIGN = tuple(
    f"{prefix}{name}" for prefix in _PREFIXES for name in ("redirect", "metacopy", "whiteout")
)
_NESTED = tuple(f"{prefix}overlay." for prefix in _PREFIXES)
# What a copy has as well. Labels of security modules are not copied: the kernel writes them.
ACL = "system.posix_acl_"
_COPIED = ("user.", "trusted.", ACL)
_CAPABILITY = "security.capability"
_NONE = (errno.EOPNOTSUPP, errno.ENODATA)


def is_whiteout(status: os.stat_result) -> bool:
    """Return whether a file stands for a deleted one."""
    return stat.S_ISCHR(status.st_mode) and status.st_rdev == 0


def is_opaque(directory: int) -> bool:
    """Return whether a directory hides everything below: it was deleted and created again."""
    return any(_attribute(directory, name) == b"y" for name in _OPAQUE)


def foreign(where: int | str) -> str | None:
    """Return the name of a mark by which a file means more than what is in it; None without one.

    where: a descriptor, or a path such as /proc/self/fd/N.
    """
    for name in _names(where):
        if name in _FOREIGN or name.startswith(_NESTED):
            return name
    return None


def has_marks_of_users(directory: int) -> bool:
    """Return whether an overlay in a user namespace has marked a directory."""
    return any(name.startswith(_PREFIXES[1]) for name in _names(directory))


def attributes(where: int | str) -> dict[str, bytes]:
    """Return the attributes that a copy of a file has as well, as far as they can be read.

    where: as for `foreign`.
    """
    found = {}
    for name in _names(where):
        if name != _CAPABILITY and not name.startswith(_COPIED):
            continue
        if name.startswith(_PREFIXES):
            continue
        value = _attribute(where, name)
        if value is not None:
            found[name] = value
    return found


def _names(where: int | str) -> list[str]:
    try:
        return os.listxattr(where)
    except OSError as error:
        if error.errno not in _NONE:
            raise
        return []


def _attribute(where: int | str, name: str) -> bytes | None:
    try:
        return os.getxattr(where, name)
    except OSError:  # no such attribute, the file system has none, or it is not for us
        return None
