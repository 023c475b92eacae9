"""Maps of ids as unshare(1) has them, in the words of --map-uid and --map-gid. Pure."""

from __future__ import annotations

from pyspaces.features.ids import accounts

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    Range = tuple[int, int]

_ALL, _AUTO, _SUBIDS = "all", "auto", "subids"


class NoSubordinate(ValueError):
    """The caller has no subordinate ids."""


class Map:
    """A map that is being put together: one id for the caller, and ranges of others.

    kind: `uid` or `gid`. outside: the effective id of the caller.
    """

    def __init__(self, kind: str, outside: int) -> None:
        self.kind = kind
        self.outside = outside
        self.single: int | None = None
        self.ranges: list[str] = []

    def spec(self, subordinate: Callable[[str], Range | None]) -> str:
        """Return the value of --map-uid or --map-gid. Raises ValueError for an invalid range."""
        if _ALL in self.ranges:
            return _ALL
        records = self._records(subordinate)
        return ",".join(f"{a}:{b}:{n}" for a, b, n in records) or "none"

    def becomes(self, subordinate: Callable[[str], Range | None]) -> int | None:
        """Return the id that the command gets: 0 if it is mapped, else the first one, if any."""
        if _ALL in self.ranges:
            return 0
        inside = [row[0] for row in self._records(subordinate)]
        return 0 if 0 in inside else next(iter(inside), None)

    def _records(self, subordinate: Callable[[str], Range | None]) -> list[tuple[int, int, int]]:
        records = []
        for text in self.ranges:
            records += self._pieces(*self._record(text, subordinate))
        # The first one is whom the command becomes, if 0 is not mapped.
        return [*([] if self.single is None else [(self.single, self.outside, 1)]), *records]

    def _record(
        self, text: str, subordinate: Callable[[str], Range | None]
    ) -> tuple[int, int, int]:
        if text in (_AUTO, _SUBIDS):
            found = subordinate(self.kind)
            if found is None:
                raise NoSubordinate("no subordinate ids belong to this user")
            return (0 if text == _AUTO else found[0], *found)
        # Before util-linux 2.39, with commas: outside first.
        mark = "," if "," in text else ":"
        fields = text.split(mark)
        if len(fields) != 3 or not all(field.isascii() and field.isdecimal() for field in fields):
            raise ValueError(f"{text!r} is not INSIDE:OUTSIDE:COUNT")
        one, other, count = (int(field[:10]) for field in fields)
        return (other, one, count) if mark == "," else (one, other, count)

    def _pieces(self, inside: int, outside: int, count: int) -> list[tuple[int, int, int]]:
        """Return a range without the id that the caller has inside, for which it is shifted."""
        if self.single is None or not inside <= self.single < inside + count:
            return [(inside, outside, count)]
        before = self.single - inside
        rows = [
            (inside, outside, before),
            (self.single + 1, outside + before, count - before - 1),
        ]
        return [row for row in rows if row[2]]


def take(option: str, values: tuple[str, ...], user: Map, group: Map) -> None:
    """Take an option of unshare(1) into the maps. Raises ValueError for an unknown name."""
    if option == "--map-root-user":
        user.single = group.single = 0
    elif option == "--map-current-user":
        user.single, group.single = user.outside, group.outside
    elif option in ("--map-auto", "--map-subids"):
        user.ranges = [option[6:]]
        group.ranges = [option[6:]]
    elif option == "--map-user":
        user.single = accounts.user_id(values[0])
    elif option == "--map-group":
        group.single = accounts.group_id(values[0])
    else:
        kept = user if option == "--map-users" else group
        kept.ranges.append(values[0])


def subordinate(kind: str) -> Range | None:
    """Return the first range of subordinate ids of the caller, or None."""
    ranges = accounts.subordinate_ranges(kind, accounts.caller())
    return ranges[0] if ranges else None
