"""The id maps of a plan in the words of unshare(1), and what that cannot do.

Pure; runs in the parent. Loaded only if somebody asks for the words.
"""

from __future__ import annotations

from pyspaces.feature import Missing
from pyspaces.features.ids import idmap

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pyspaces.features.ids.idmap import Extent
    from pyspaces.plan import Plan
    from pyspaces.plan.equivalent import Caller


def is_denied(plan: Plan, caller: Caller) -> bool:
    """Return whether setgroups(2) is denied inside, by the rule of `maps.write_outer`."""
    maps = plan.maps
    if maps.setgroups is not None or not idmap.is_own(maps.gid_map, caller.gid):
        return maps.setgroups == idmap.DENY
    return not caller.privileged


def words(plan: Plan, caller: Caller) -> Iterator[str]:
    """Yield the words for the maps, and a Missing for what unshare(1) cannot do."""
    if plan.has("user"):
        yield from _map_equivalent("user", plan.maps.uid_map, caller.uid, caller)
        yield from _groups_equivalent(plan, caller)


def _map_equivalent(
    kind: str, extents: Sequence[Extent], own: int, caller: Caller
) -> Iterator[str]:
    """Map the own id by one option, and a range by another, which has the outside id first."""
    alone = [row for row in extents if idmap.is_own([row], own)]
    ranges = [row for row in extents if row not in alone]
    # Before 2.40 newuidmap writes ranges, for root too, who has no subordinate ids as a rule.
    if ranges and caller.privileged:
        yield Missing(f"{kind[0]}id_map: unshare(1) before 2.40 writes no range for root")
    elif len(ranges) > 1:
        yield Missing(f"{kind[0]}id_map: unshare(1) before 2.40 takes one range only")
    yield from (f"--map-{kind}={row.inside}" for row in alone)
    yield from (f"--map-{kind}s={row.outside},{row.inside},{row.count}" for row in ranges)


def _groups_equivalent(plan: Plan, caller: Caller) -> Iterator[str]:
    """Map groups: --map-group alone always denies setgroups(2), a range leaves it as it is."""
    maps = plan.maps
    if not maps.gid_map:
        yield from [f"--setgroups={maps.setgroups}"] if maps.setgroups else []
    elif idmap.is_own(maps.gid_map, caller.gid):
        yield f"--map-group={maps.gid_map[0].inside}"
        if not is_denied(plan, caller):
            yield Missing("setgroups: unshare(1) denies it here, as --setgroups deny does")
    else:
        yield from _map_equivalent("group", maps.gid_map, caller.gid, caller)
        if maps.setgroups == idmap.DENY:
            yield Missing(
                "setgroups: unshare(1) denies it after the group map, which the kernel refuses"
            )
