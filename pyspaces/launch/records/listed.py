"""A list of changes, as people and programs read it.

Pure. Must not know how the changes were found.
"""

from __future__ import annotations

import json
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    Change = tuple[str, str]  # what has happened, and the path

KINDS = ("added", "changed", "deleted")
VERSION = 1  # of the JSON
MOST = 1 << 26  # bytes of paths


def limited(changes: Iterable[Change], before: Iterable[Change] = ()) -> Iterator[Change]:
    """Yield changes; raise ValueError once their paths, with those of `before`, are too long."""
    size = sum(len(path) for _, path in before)
    for change in changes:
        size += len(change[1])
        if size > MOST:
            raise ValueError(f"the paths have more than {MOST >> 20} MiB")
        yield change


def in_order(changes: Iterable[Change]) -> list[Change]:
    """Return changes sorted by their paths."""
    return sorted(changes, key=lambda change: change[1])


def as_json(changes: Iterable[Change]) -> str:
    """Return changes as a JSON object with a list for each kind."""
    found = list(changes)
    rows = {kind: [path for each, path in found if each == kind] for kind in KINDS}
    return json.dumps({"version": VERSION, **rows}, indent=2) + "\n"


def as_text(changes: Iterable[Change]) -> str:
    """Return changes as lines."""
    return "".join(f"{kind:<7} {shown(path)}\n" for kind, path in changes)


def shown(path: str) -> str:
    """Return a path in one line: what cannot be shown, and a backslash, as \\xNN for each byte."""
    return "".join(
        char
        if char.isprintable() and char != "\\"
        else "".join(f"\\x{byte:02x}" for byte in os.fsencode(char))
        for char in path
    )
