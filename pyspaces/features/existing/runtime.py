"""The directory of the registry: where it is, and whether nobody else can write to it.

Runs in the parent, and in processes that look for a name.
"""

from __future__ import annotations

import errno
import os
import stat

_ROOTS_DIRECTORY = "/run/pyspaces"
_OPEN = os.O_NOFOLLOW | os.O_CLOEXEC


def directory() -> str:
    """Return the directory of this user's names, whether or not it exists.

    /run/pyspaces for root, else below the user's own XDG_RUNTIME_DIR or /run/user/UID; without
    one, /tmp/pyspaces-UID.
    """
    uid = os.geteuid()
    if uid == 0 and os.access("/run", os.W_OK):
        return _ROOTS_DIRECTORY
    if base := own_directory():
        return os.path.join(base, "pyspaces")
    return f"/tmp/pyspaces-{uid}"  # noqa: S108 - checked to be ours, and nobody else's, below


def own_directory() -> str | None:
    """Return this user's own directory for what lasts as long as a session; None without one.

    After su(1), the variable names that of another user, who can replace whatever is in it.
    """
    for path in (os.environ.get("XDG_RUNTIME_DIR", ""), f"/run/user/{os.geteuid()}"):
        if os.path.isabs(path) and _is_own(path):
            return path
    return None


def trouble() -> str | None:
    """Return why this user cannot register names here, or None."""
    try:
        os.close(open_directory(directory()))
    except FileNotFoundError:
        return None
    except OSError as error:
        return f"{directory()}: {error.strerror}"
    return None


def _is_own(path: str) -> bool:
    try:
        facts = os.lstat(path)
    except OSError:
        return False
    return stat.S_ISDIR(facts.st_mode) and facts.st_uid == os.geteuid()


def open_directory(path: str) -> int:
    """Return a descriptor of the directory of names. Raises OSError with what is wrong with it."""
    # Examined before it is opened, so that the message can name its owner.
    there = os.open(path, os.O_PATH | _OPEN)
    try:
        facts = os.fstat(there)
        if not stat.S_ISDIR(facts.st_mode):
            raise OSError(errno.ENOTDIR, "is not a directory")
        if facts.st_uid != os.geteuid():
            raise OSError(errno.EPERM, f"belongs to user {facts.st_uid}")
        if facts.st_mode & 0o022:
            raise OSError(errno.EPERM, "somebody else can write to this directory")
        return os.open(".", os.O_RDONLY | os.O_DIRECTORY | _OPEN, dir_fd=there)
    finally:
        os.close(there)
