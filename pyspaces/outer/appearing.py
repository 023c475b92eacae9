"""Files that appear whole or not at all, for what is told to machines at the end.

Runs in the parent. Must not know what is in them.
"""

from __future__ import annotations

import os
import stat


def target(path: str | None) -> str | None:
    """Return where a file is to appear: behind a symbolic link, what it names."""
    return None if path is None else os.path.realpath(path)


def path_fault(path: str) -> str | None:
    """Try the directory by making a file in it; say what is wrong."""
    try:
        if not stat.S_ISREG(os.lstat(path).st_mode):
            return "is no regular file, and would be replaced by one"
    except FileNotFoundError:
        pass
    except OSError as error:
        return error.strerror
    trial = _beside(path)
    try:
        os.close(os.open(trial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        os.unlink(trial)
    except OSError as error:
        return error.strerror
    return None


def replace(path: str, text: str) -> None:
    """Write a file that appears whole or not at all. Raises OSError."""
    new = _beside(path)
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    try:
        try:
            data = text.encode()
            while data:
                data = data[os.write(descriptor, data) :]
        finally:
            os.close(descriptor)
        os.rename(new, path)
    except OSError:
        os.unlink(new)
        raise


def told(error: OSError) -> str:
    """Return an error in one line, with its path."""
    where = f"{error.filename}: " if error.filename else ""
    return f"{where}{error.strerror}"


def _beside(path: str) -> str:
    folder, name = os.path.split(path)
    return os.path.join(folder, f".{name[:200]}.{os.getpid()}")
