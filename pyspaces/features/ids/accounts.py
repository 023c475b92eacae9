"""The host's databases of users: names, ids, and subordinate ranges of ids.

Runs in the parent, before anything is created. Loaded only if a setting needs it: a name
service may be slow. Sources: getpwuid(3), subuid(5), getsubids(1).
"""

from __future__ import annotations

import os

from pyspaces.errors import Hint, SpaceError
from pyspaces.features.ids import program
from pyspaces.kernel import procfs
from pyspaces.kernel.libc import KernelError
from pyspaces.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

UID, GID = "uid", "gid"
_FILES = {UID: "/etc/subuid", GID: "/etc/subgid"}
_SMALLEST_RANGE = 65536


class NoSuchName(ValueError):
    """A name of no user or group."""


class User(Record):
    """A user as the host's databases know it; without an entry there the name is empty."""

    uid: int
    name: str = ""
    gid: int | None = None

    def __str__(self) -> str:
        return f"{self.name} ({self.uid})" if self.name else str(self.uid)


def caller() -> User:
    """Return the user that this process acts as: its effective user id, and its entry."""
    import pwd

    uid = os.geteuid()
    try:
        entry = pwd.getpwuid(uid)
    except KeyError:
        return User(uid=uid)
    return User(uid=uid, name=entry.pw_name, gid=entry.pw_gid)


def user_id(text: str) -> int:
    """Return the user id that `text`, a number or a name, stands for. Raises NoSuchName."""
    import pwd

    return _id_of(text, "user", lambda: pwd.getpwnam(text).pw_uid)


def group_id(text: str) -> int:
    """Return the group id that `text`, a number or a name, stands for. Raises NoSuchName."""
    import grp

    return _id_of(text, "group", lambda: grp.getgrnam(text).gr_gid)


def _id_of(text: str, kind: str, look_up: Callable[[], int]) -> int:
    try:
        return _number(text) if _is_number(text) else look_up()
    except (KeyError, ValueError):
        raise NoSuchName(f"{text!r}: no such {kind}") from None


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdecimal()


def _number(text: str) -> int:
    # An id has ten digits at most; int() has an error of its own for thousands of them.
    return int(text.lstrip("0")[:11] or "0")


def subordinate_ranges(kind: str, user: User) -> list[tuple[int, int]]:
    """Return the (first, count) ranges of subordinate ids of `user`, in the database's order.

    kind: UID or GID; group ids too are looked up by user, as newgidmap(1) does. getsubids(1) is
    used if it is installed, which includes ranges of a name service; otherwise the files are read.
    """
    names = [name for name in (user.name, str(user.uid)) if name]
    found = _ask_getsubids(kind, names)
    if found is None:
        found = _rows(fields for fields in _lines(_FILES[kind]) if fields[1] in names)
    return list(dict.fromkeys(found))


def _ask_getsubids(kind: str, names: list[str]) -> list[tuple[int, int]] | None:
    """Return the ranges that getsubids(1) prints, or None if it is not installed."""
    path = program.find("getsubids")
    if path is None:
        return None
    group = ["-g"] if kind == GID else []
    found = []
    for name in names:
        done = program.run(path, *group, name)
        if done.status.ok:
            found.extend(_rows(line.split() for line in done.output.splitlines()))
    return found


def _lines(path: str) -> list[list[str]]:
    """Return the OWNER:FIRST:COUNT lines of a file as rows such as getsubids(1) prints."""
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            return [["", *line.strip().split(":")] for line in file]
    except OSError:
        return []


def _rows(lines: Iterable[list[str]]) -> list[tuple[int, int]]:
    """Read (_, owner, first, count) rows, leaving out those that are damaged or empty."""
    found = []
    for fields in lines:
        if len(fields) == 4 and _is_number(fields[2]) and _is_number(fields[3]):
            first, count = _number(fields[2]), _number(fields[3])
            if count:
                found.append((first, count))
    return found


def no_ranges(kind: str, user: User) -> SpaceError:
    """Return the error for a user without subordinate ids, with a remedy as its hint."""
    whose = f"cannot map subordinate {kind}s: user {user} has no range of them in {_FILES[kind]}"
    if _is_alone(kind):
        # A range in the file would be of no use: its ids do not exist here.
        return SpaceError(
            whose,
            hint=Hint(
                f"this user namespace has one {kind}, and so none to pass on: make it with more,"
                " by --map-auto",
                "subordinate-ids",
            ),
        )
    first = _first_free()
    last = first + _SMALLEST_RANGE - 1
    ranges = f"--add-subuids {first}-{last} --add-subgids {first}-{last}"
    name = user.name or f"USER (no user has the id {user.uid})"
    return SpaceError(
        whose,
        hint=Hint(
            f"no subordinate ids are given to this user; run: sudo usermod {ranges} {name}",
            "subordinate-ids",
        ),
    )


def _is_alone(kind: str) -> bool:
    """Return whether the caller's user namespace has one id only."""
    try:
        return sum(count for _, _, count in procfs.id_map(f"{kind}_map")) == 1
    except KernelError:
        return False


def _first_free() -> int:
    """Return the first id, at least 100000, above every range in the files."""
    ends = [100000]
    for path in _FILES.values():
        ends.extend(first + count for first, count in _rows(_lines(path)))
    return max(ends)
