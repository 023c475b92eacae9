"""Id maps of user namespaces: their syntax and arithmetic.

Pure; runs in any process. Ids stand in the order inside, outside, count, as in /proc/PID/uid_map:
user_namespaces(7). Loaded only if somebody writes a map: the default one needs no arithmetic.
"""

from __future__ import annotations

from pyspaces.kernel import constants, procfs
from pyspaces.record import told

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from typing import Any, TypeAlias

    # A map, or an entry of one, as programs write it; `entries` says what each means.
    Entry: TypeAlias = "bool | int | str | tuple[int, int, int] | Extent"
    IdMap: TypeAlias = "Entry | Sequence[Entry] | None"

Extent = procfs.Extent
inside_id, is_own, to_text = procfs.inside_id, procfs.is_own, procfs.to_text

ROOT, CURRENT, AUTO, SUBIDS, ALL, NONE = "root", "current", "auto", "subids", "all", "none"
WORDS = (ROOT, CURRENT, AUTO, SUBIDS, ALL, NONE)
ALLOW, DENY = "allow", "deny"

# 4294967295 is (uid_t) -1, which means "no id"; the kernel takes neither it nor what runs up to it.
LARGEST_ID = 4294967294
_MOST_DIGITS = 10


class MapFault(ValueError):
    """An invalid map; the text names the offending record."""


def parse(spec: str) -> list[Extent | str]:
    """Read a map in any form of the grammar into extents and words.

    spec: `INSIDE,OUTSIDE,COUNT` (commas alone: fields, in threes), `'INSIDE OUTSIDE COUNT,…'`
    (with blanks: commas or newlines delimit records), `INSIDE:OUTSIDE:COUNT,…`, one number N (N
    outside is 0 inside), or one of WORDS. Raises MapFault.
    """
    text = spec.strip()
    if text in WORDS:
        return [text]
    if not text:
        raise MapFault("an id map cannot be empty")
    if text.isdecimal():
        return [_extent(["0", text, "1"], text)]
    return [_extent(record, shown) for record, shown in _records(text)]


def entries(given: object) -> list[Extent | str]:
    """Read a map in any of its Python forms into extents and words.

    given: an IdMap. True is the word `root`; a number is an outside id, which is 0 inside; a tuple
    of numbers is one record (inside, outside, count), as an Extent is; a text has any form of the
    grammar. A list (or a tuple or range of anything else) holds either outside ids, which are 0, 1,
    2 and so on inside, in their order, or any of the others, which add up. None and False are no
    map at all. Raises MapFault.
    """
    if given is None or given is False:
        return []
    if isinstance(given, str):
        return _parse_text(given)
    if isinstance(given, tuple) and given and all(map(_is_number, given)):
        return [_record(given)]
    if not isinstance(given, list | tuple | range):
        return [_record((0, given, 1))] if _is_number(given) else _entry(given)
    if given and all(map(_is_number, given)):
        return [_record((inside, outside, 1)) for inside, outside in enumerate(given)]
    if any(map(_is_number, given)):
        raise MapFault(
            "outside ids and records cannot be mixed in one list: make each a record,"
            " (inside, outside, count)"
        )
    return [item for entry in given for item in _entry(entry)]


def _parse_text(text: str) -> list[Extent | str]:
    try:
        return parse(text)
    except MapFault as fault:
        fields = text.split(",")
        if not 1 < len(fields) < 9 or not all(field.strip().isdecimal() for field in fields):
            raise
        ids = ", ".join(field.strip() for field in fields)
        raise MapFault(f"{fault}; ids that are 0, 1, ... inside are a list: [{ids}]") from None


def _entry(entry: object) -> list[Extent | str]:
    """Read an entry of a list, other than a plain outside id."""
    if entry is True:
        return [ROOT]
    if isinstance(entry, str):
        return list(parse(entry))
    if isinstance(entry, Extent):
        return [_record((entry.inside, entry.outside, entry.count))]
    if isinstance(entry, tuple):
        return [_record(entry)]
    raise MapFault(
        "takes True, an id, a text, a record (inside, outside, count), or a list of these,"
        f" and not what is {told(entry)}"
    )


def _is_number(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _record(fields: tuple[Any, ...]) -> Extent:
    """Make an extent of what a program gave. Raises MapFault."""
    if len(fields) != 3 or not all(map(_is_number, fields)):
        shown = ", ".join(str(one) if _is_shown(one) else told(one) for one in fields[:6])
        raise MapFault(
            f"({shown}): a tuple is a record of three numbers (inside, outside, count);"
            " ids that are 0, 1, ... inside are a list"
        )
    for number in fields:
        if not _is_shown(number):
            raise MapFault(f"{told(number)} is larger than {LARGEST_ID}, the largest id")
    inside, outside, count = map(int, fields)
    extent = Extent(inside=inside, outside=outside, count=count)
    _check_range(extent, str(extent))
    return extent


def _is_shown(value: object) -> bool:
    return _is_number(value) and value.bit_length() <= 64  # type: ignore[attr-defined]


def _records(text: str) -> Iterable[tuple[list[str], str]]:
    """Split `text` into records; return the fields of each, and its text."""
    if ":" in text:
        return [(record.split(":"), record.strip()) for record in text.split(",")]
    if len(text.split()) > 1:
        lines = text.replace("\n", ",").split(",")
        return [(line.split(), line.strip()) for line in lines]
    fields = text.split(",")
    if len(fields) % 3:
        raise MapFault(f"{text}: is neither one of {', '.join(WORDS)} nor INSIDE,OUTSIDE,COUNT")
    threes = (fields[start : start + 3] for start in range(0, len(fields), 3))
    return [(three, ",".join(three)) for three in threes]


def _extent(fields: Sequence[str], shown: str) -> Extent:
    if len(fields) != 3:
        raise MapFault(f"{shown!r}: a record has three fields, INSIDE OUTSIDE COUNT")
    inside, outside, count = (_number(field.strip(), shown) for field in fields)
    extent = Extent(inside=inside, outside=outside, count=count)
    _check_range(extent, shown)
    return extent


def _check_range(extent: Extent, shown: str) -> None:
    if extent.count <= 0:
        raise MapFault(f"{shown}: the count is {extent.count}, so nothing would be mapped")
    for first in (extent.inside, extent.outside):
        if first < 0:
            raise MapFault(f"{shown}: {first} is not an id")
        if first > LARGEST_ID:
            raise MapFault(f"{shown}: {first} is larger than {LARGEST_ID}, the largest id")
        if first + extent.count - 1 > LARGEST_ID:
            raise MapFault(f"{shown}: runs past {LARGEST_ID}, the largest id")


def _number(field: str, shown: str) -> int:
    if not (field.isascii() and field.isdecimal()):
        raise MapFault(f"{shown}: {field!r} is not a number")
    digits = field.lstrip("0") or "0"
    # Cut before int(), which refuses more digits than 4,300 with an error of its own.
    if len(digits) > _MOST_DIGITS:
        raise MapFault(
            f"{shown[:60]}: {digits[:20]}... is larger than {LARGEST_ID}, the largest id"
        )
    return int(digits)


def build(
    items: Iterable[Extent | str],
    *,
    caller: int,
    own: Iterable[tuple[int, int, int]],
    ranges: Sequence[tuple[int, int]] = (),
) -> tuple[Extent, ...]:
    """Turn words and extents into the extents of one map, in the order given.

    caller: the effective id of the writer. own: the rows of the writer's own map, for `all`.
    ranges: the writer's subordinate ids, (first, count) each, for `auto` and `subids`: these two
    come last and take what the others leave. An empty result is the bare namespace of `none`.
    Raises MapFault.
    """
    extents: list[Extent] = []
    words = []
    for item in items:
        if isinstance(item, Extent):
            extents.append(item)
            continue
        words.append(item)
        if item == ROOT:
            extents.append(Extent(inside=0, outside=caller, count=1))
        elif item == CURRENT:
            extents.append(Extent(inside=caller, outside=caller, count=1))
        elif item == ALL:
            extents.extend(Extent(inside=row[0], outside=row[0], count=row[2]) for row in own)
    if NONE in words and (extents or len(words) > 1):
        raise MapFault("none: leaves the map unwritten, so nothing can be added to it")
    check(extents)
    for word in words:
        if word == AUTO:
            extents.extend(_consecutive([(caller, 1), *ranges], extents))
        elif word == SUBIDS:
            extents.extend(_same_number(ranges, extents))
    check(extents)
    return tuple(extents)


def _consecutive(spans: Sequence[tuple[int, int]], taken: Sequence[Extent]) -> Iterator[Extent]:
    """Map all outside ids to the free inside ids, lowest first."""
    inside_taken = sorted((row.inside, row.inside + row.count) for row in taken)
    free = 0
    for first, last in _without(spans, [(row.outside, row.count) for row in taken]):
        outside = first
        while outside <= last:
            while inside_taken and inside_taken[0][0] <= free:
                free = max(free, inside_taken.pop(0)[1])
            count = last - outside + 1
            if inside_taken:
                count = min(count, inside_taken[0][0] - free)
            yield Extent(inside=free, outside=outside, count=count)
            free, outside = free + count, outside + count


def _same_number(spans: Sequence[tuple[int, int]], taken: Sequence[Extent]) -> Iterator[Extent]:
    """Map outside ids to the same number inside, except for ids that are taken on either side."""
    both = [(row.outside, row.count) for row in taken] + [(row.inside, row.count) for row in taken]
    for first, last in _without(spans, both):
        yield Extent(inside=first, outside=first, count=last - first + 1)


def _without(
    spans: Iterable[tuple[int, int]], taken: Iterable[tuple[int, int]]
) -> Iterator[tuple[int, int]]:
    """Yield the rest of `spans`, in order, as (first, last); each id once."""
    gone = list(taken)
    for first, count in spans:
        position, end = first, first + count
        for start, length in sorted(gone):
            if start + length <= position or start >= end:
                continue
            if start > position:
                yield position, start - 1
            position = max(position, start + length)
        if position < end:
            yield position, end - 1
        gone.append((first, count))


def check(extents: Sequence[Extent]) -> None:
    """Check a whole map against the kernel's limits. Raises MapFault naming the record."""
    if len(extents) > constants.MAP_MAX_EXTENTS:
        first_extra = extents[constants.MAP_MAX_EXTENTS]
        raise MapFault(
            f"{first_extra}: is record {constants.MAP_MAX_EXTENTS + 1} of {len(extents)};"
            f" the kernel takes {constants.MAP_MAX_EXTENTS}"
        )
    for index, later in enumerate(extents):
        _check_range(later, str(later))
        for earlier in extents[:index]:
            for side in ("inside", "outside"):
                _check_apart(earlier, later, side)
    size = 0
    for extent in extents:
        size += len(str(extent)) + 1
        if size > constants.MAP_MAX_BYTES:
            raise MapFault(
                f"{extent}: ends at byte {size}; the kernel takes {constants.MAP_MAX_BYTES}"
            )


def _check_apart(earlier: Extent, later: Extent, side: str) -> None:
    first, second = getattr(earlier, side), getattr(later, side)
    if first < second + later.count and second < first + earlier.count:
        raise MapFault(f"{later}: overlaps with {earlier} in its {side} ids")


def maps(extents: Iterable[Extent], number: int) -> bool:
    """Return whether the inside id `number` is mapped."""
    return any(extent.inside <= number < extent.inside + extent.count for extent in extents)


def arrows(extents: Iterable[Extent]) -> str:
    """Return a map in readable form: `0 → 1000, count 1; …`."""
    return "; ".join(f"{row.inside} → {row.outside}, count {row.count}" for row in extents)
