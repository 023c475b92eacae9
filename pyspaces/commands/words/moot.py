"""A warning: binds that change nothing, since the command sees the host's files anyway.

Who takes the options of bwrap(1) over, word for word, leaves out what that begins with: an empty
root. Loaded only if there are operations on mounts and standard error is a terminal.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

# With one of these, the root is not the host's tree as it is.
_ROOTS = ("root", "empty_root", "sandbox")
_FROM_EMPTY = ("host_ro", "throwaway")
_BINDS = ("bind", "bind_try", "dev_bind", "dev_bind_try")
_READ_ONLY = ("ro_bind", "ro_bind_try")
# What every new root needs, and nobody protects alone.
_PROGRAMS = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/nix/store")
_HINT = "for an empty root as in bwrap, add --empty-root, or write `pyspaces as bwrap ...`"


def warning(mapping: Mapping[str, Any]) -> str | None:
    """Return what to say about the binds of a launch, or None.

    A bind of a path on itself has an effect only over what an earlier operation has put there or
    made read-only; a read-only one, if the caller could write there at all.
    """
    mounts = [one for one in mapping.get("mounts") or () if isinstance(one, list | tuple) and one]
    names = {one[0] for one in mounts}
    if any(mapping.get(name) for name in _ROOTS) or names & {*_FROM_EMPTY}:
        return None
    built = bool(names & {"proc", "dev", "symlink"})
    for place, (name, *words) in enumerate(mounts):
        if name not in (*_BINDS, *_READ_ONLY) or len(words) != 2 or _is_used(mounts[:place], words):
            continue
        source, target = (_clean(word) for word in words)
        if source != target or source == "/":
            continue
        option = f"--{name.replace('_', '-')} {words[0]} {words[1]}"
        if name in _BINDS:
            return f"{option} changes nothing: the command sees all files of the host: {_HINT}"
        if not os.access(source, os.W_OK) or (built and source in _PROGRAMS):
            return f"{option} hides nothing: the command sees all files of the host: {_HINT}"
    return None


def _is_used(earlier: Sequence[Sequence[str]], words: Sequence[str]) -> bool:
    """Return whether an earlier operation has changed what is at the target of a bind."""
    target = _clean(words[1])
    for name, *others in earlier:
        if name in ("read_only", "mount"):
            return True
        above = _clean(others[-1]) if others and name not in ("size", "perms") else ""
        if above and (above == "/" or f"{target}/".startswith(f"{above}/")):
            return True
    return False


def _clean(path: str) -> str:
    return os.path.normpath(os.path.join(os.getcwd(), path))
