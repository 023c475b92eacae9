"""The settings `map_*`, read into the id maps of a new user namespace.

Looks at the ids, the maps and the subordinate ids of the caller; runs in the parent. Loaded only if
there is such a setting: the default map takes none of this.
"""

from __future__ import annotations

import os

from pyspaces.features.ids import idmap
from pyspaces.kernel import procfs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from pyspaces.feature import Given
    from pyspaces.features.ids.idmap import Extent


def read(given: Given) -> tuple[tuple[Extent, ...], tuple[Extent, ...]]:
    """Return the maps of users and of groups that the settings ask for; note what is wrong."""
    words = [word for word in ("root", "current", "auto") if given.flag(f"map_{word}")]
    uids = [*words, *_items(given, "map_uid")]
    gids = [*words, *_items(given, "map_gid")]
    if not gids:
        gids = [item for item in uids if isinstance(item, str)]
    return (
        _extents(given, "uid", uids or ["root"], os.geteuid()),
        _extents(given, "gid", gids or ["root"], os.getegid()),
    )


def _items(given: Given, name: str) -> list[Extent | str]:
    spec = given.values.get(name)
    # A list of texts one by one, as options give them: each can have a fault of its own.
    of_texts = isinstance(spec, list | tuple) and all(isinstance(one, str) for one in spec)
    items: list[Extent | str] = []
    for one in spec if of_texts and spec else [spec]:
        try:
            items.extend(idmap.entries([one] if of_texts else one))
        except idmap.MapFault as fault:
            given.faults.append(f"{name.replace('_', '-')}: {fault}")
    return items


def _extents(
    given: Given, kind: str, items: Iterable[Extent | str], caller: int
) -> tuple[Extent, ...]:
    items = list(items)
    own = procfs.id_map(f"{kind}_map") if idmap.ALL in items else []
    subordinate = idmap.AUTO in items or idmap.SUBIDS in items
    try:
        ranges = _ranges(given, kind) if subordinate else []
        return idmap.build(items, caller=caller, own=own, ranges=ranges)
    except idmap.MapFault as fault:
        given.faults.append(f"map-{kind}: {fault}")
        return ()


def _ranges(given: Given, kind: str) -> list[tuple[int, int]]:
    from pyspaces.features.ids import accounts  # with pwd and grp

    user = accounts.caller()
    ranges = accounts.subordinate_ranges(kind, user)
    if not ranges:
        given.lacking = given.lacking or accounts.no_ranges(kind, user)
    return ranges
