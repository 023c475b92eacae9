"""The files of profiles: opened with care, and decoded from TOML.

Runs in the parent. A file may come with somebody's checkout, or lie where others may write: its
type, its owner, its size and its nesting are looked at before anything in it is used.
"""

from __future__ import annotations

import os
import stat

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

LARGEST = 256 << 10
# tomllib takes time that grows with the square of the parts of a dotted key: 20,000 parts took
# more than a minute.
_MOST_PARTS = 100
# Possessive, and only from the beginning of a word: the time must not grow with the square either.
_PART = rb"""(?:(?<![\w-])[\w-]++|"[^"\n]*+"|'[^'\n]*+')"""


class Unfit(ValueError):
    """What is wrong with a file, in words."""


class Untrusted(Unfit):
    """Why a file that nobody has named by its path is left out."""


def decoded(path: str, *, named: bool) -> dict[str, Any]:
    """Return the data of a TOML file.

    named: whether the user has given the path. Otherwise it has to be a regular file, and no link
    to one, that nobody but the caller and root can change. Raises FileNotFoundError, Untrusted, and
    Unfit for all other faults.
    """
    try:
        content = _content(path, named=named)
    except (FileNotFoundError, NotADirectoryError):
        raise FileNotFoundError(path) from None
    except (OSError, ValueError) as error:
        if isinstance(error, Unfit):
            raise
        raise Unfit(error.strerror if isinstance(error, OSError) else str(error)) from None
    return decode(content)


def decode(content: bytes) -> dict[str, Any]:
    """Return the data of a TOML text. Raises Unfit."""
    import re  # noqa: TID251 - as tomllib itself, which only a profile needs
    import tomllib

    if len(content) > LARGEST:
        raise Unfit(f"is larger than {LARGEST >> 10} KiB")
    if re.search(rb"%b(?:[ \t]*+\.[ \t]*+%b){%d}" % (_PART, _PART, _MOST_PARTS), content):
        raise Unfit(f"has a key of more than {_MOST_PARTS} parts")
    try:
        return tomllib.loads(content.decode())
    except RecursionError:
        raise Unfit("is nested too deeply") from None
    except UnicodeDecodeError as error:
        raise Unfit(f"is not UTF-8 at byte {error.start}") from None
    except ValueError as error:
        raise Unfit(f"is not TOML: {str(error)[:200]}") from None


def _content(path: str, *, named: bool) -> bytes:
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOCTTY
    # Opening a device can have effects, and opening a FIFO can wait for ever: look first.
    kind = os.stat(path, follow_symlinks=named).st_mode
    if stat.S_ISLNK(kind):
        raise Untrusted("is a symbolic link")
    if not (stat.S_ISREG(kind) or (named and stat.S_ISFIFO(kind))):
        raise Unfit("is not a regular file") if named else Untrusted("is not a regular file")
    flags |= os.O_NONBLOCK if stat.S_ISREG(kind) else 0
    descriptor = os.open(path, flags | (0 if named else os.O_NOFOLLOW))
    try:
        if not named:
            _check_owner(os.fstat(descriptor), os.stat(os.path.dirname(path) or "."))
        content = b""
        while len(content) <= LARGEST and (piece := os.read(descriptor, LARGEST + 1)):
            content += piece
        return content
    finally:
        os.close(descriptor)


def _check_owner(status: os.stat_result, directory: os.stat_result) -> None:
    """Raise Untrusted if anybody but the caller and root can change or replace a file."""
    if not stat.S_ISREG(status.st_mode):
        raise Untrusted("is not a regular file")
    if status.st_uid not in (os.geteuid(), 0):
        raise Untrusted("belongs to another user")
    if _is_open_to_others(status):
        raise Untrusted("can be written by others")
    if directory.st_uid not in (os.geteuid(), 0):
        raise Untrusted("is in a directory of another user")
    if _is_open_to_others(directory) and not directory.st_mode & stat.S_ISVTX:
        raise Untrusted("is in a directory that others can write")


def _is_open_to_others(status: os.stat_result) -> bool:
    # The caller's own group is, on most distributions, one that nobody else is in.
    groups = 0 if status.st_gid in (os.getegid(), 0) else stat.S_IWGRP
    return bool(status.st_mode & (stat.S_IWOTH | groups))
