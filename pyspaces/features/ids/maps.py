"""The id maps of a new user namespace, and how they are written: user_namespaces(7).

Pure but for the caller's own ids, and for `write_outer`; runs in the parent. `idmap.py` has their
grammar and arithmetic.
"""

from __future__ import annotations

import os

from pyspaces.feature import IDENTITY, Feature, Missing, Part, Probe, flag, many, value
from pyspaces.kernel import constants, procfs
from pyspaces.kernel.procfs import Extent, is_own

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from typing import ClassVar

    from pyspaces.feature import Given
    from pyspaces.plan import Plan
    from pyspaces.plan.equivalent import Caller

    Writer = Callable[[str, Sequence[Extent]], None]

ALLOW, DENY = "allow", "deny"
WORDS = ("root", "current", "auto", "subids", "all", "none")


class Maps(Part):
    """The maps of a new user namespace.

    uid_map, gid_map: extents; empty leaves the map unwritten. setgroups: allow, deny, or None for
    the kernel's rule.
    """

    uid_map: tuple[Extent, ...] = ()
    gid_map: tuple[Extent, ...] = ()
    setgroups: str | None = None

    _nested: ClassVar = {"uid_map": Extent, "gid_map": Extent}

    def faults(self, plan: Plan) -> Iterator[str]:
        del plan
        for setting, extents, own in (
            ("map-uid", self.uid_map, os.geteuid()),
            ("map-gid", self.gid_map, os.getegid()),
        ):
            if extents not in (_default_map(own), _own_map(own)):
                from pyspaces.features.ids import idmap

                try:
                    idmap.check(extents)
                except idmap.MapFault as fault:
                    yield f"{setting}: {fault}"
        if self.setgroups not in (None, ALLOW, DENY):
            yield f"setgroups: {self.setgroups}: is neither {ALLOW} nor {DENY}"


def _default_map(caller: int) -> tuple[Extent, ...]:
    """Return the map of a caller to root inside."""
    return (Extent(inside=0, outside=caller, count=1),)


def _own_map(caller: int) -> tuple[Extent, ...]:
    """Return the map of a caller to the same id inside."""
    return (Extent(inside=caller, outside=caller, count=1),)


def _read(given: Given, plan: Plan) -> Maps:
    if not plan.has("user") or given.has("userns_block_fd"):
        return Maps(setgroups=given.text("setgroups"))
    if any(name.startswith("map_") for name in given.values):
        uids, gids = _maps(given)
    else:
        uids, gids = _default_map(os.geteuid()), _default_map(os.getegid())
    return Maps(uid_map=uids, gid_map=gids, setgroups=given.text("setgroups"))


def _maps(given: Given) -> tuple[tuple[Extent, ...], tuple[Extent, ...]]:
    if [name for name in given.values if name.startswith("map_")] == ["map_current"]:
        # As --sandbox has it: nothing to read, so without its grammar.
        uid, gid = os.geteuid(), os.getegid()
        return _own_map(uid), _own_map(gid)
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
    from pyspaces.features.ids import idmap

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
    from pyspaces.features.ids import idmap

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
    from pyspaces.features.ids import accounts

    user = accounts.caller()
    ranges = accounts.subordinate_ranges(kind, user)
    if not ranges:
        given.lacking = given.lacking or accounts.no_ranges(kind, user)
    return ranges


def is_denied(plan: Plan, caller: Caller) -> bool:
    """Return whether setgroups(2) is denied inside, by the rule of `write_outer`."""
    maps = plan.maps
    if maps.setgroups is not None or not is_own(maps.gid_map, caller.gid):
        return maps.setgroups == DENY
    return not caller.privileged


def _equivalent(plan: Plan, caller: Caller) -> Iterator[str]:
    if plan.has("user"):
        yield from _map_equivalent("user", plan.maps.uid_map, caller.uid, caller)
        yield from _groups_equivalent(plan, caller)


def _map_equivalent(
    kind: str, extents: Sequence[Extent], own: int, caller: Caller
) -> Iterator[str]:
    """Map the own id by one option, and a range by another, which has the outside id first."""
    alone = [row for row in extents if is_own([row], own)]
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
    elif is_own(maps.gid_map, caller.gid):
        yield f"--map-group={maps.gid_map[0].inside}"
        if not is_denied(plan, caller):
            yield Missing("setgroups: unshare(1) denies it here, as --setgroups deny does")
    else:
        yield from _map_equivalent("group", maps.gid_map, caller.gid, caller)
        if maps.setgroups == DENY:
            yield Missing(
                "setgroups: unshare(1) denies it after the group map, which the kernel refuses"
            )


def write_outer(
    process: int,
    *,
    uids: Sequence[Extent],
    gids: Sequence[Extent],
    setgroups: str | None,
    write_uids: Writer | None = None,
    write_gids: Writer | None = None,
) -> bool:
    """Write the maps of `process`, a child of ours that waits in a new user namespace.

    process: its number in /proc. setgroups: allow, deny, or None for the kernel's rule (deny
    if this writer is not privileged in its own user namespace). write_uids, write_gids: a
    helper with more rights, called with the file and the extents; None if this process writes.
    Returns whether setgroups(2) is allowed inside. Raises KernelError naming the file, and what a
    helper raises.
    """
    base = f"/proc/{process}"
    if uids:
        (write_uids or _write_outer)(f"{base}/uid_map", uids)
    # Since Linux 3.19 an unprivileged writer must deny setgroups(2) before it writes gid_map, or a
    # process could drop a group that keeps it out of a file; afterwards the word cannot change.
    alone = write_gids is None and not procfs.has_capability(constants.CAP_SETGID)
    if setgroups is None and gids and alone:
        setgroups = DENY
    if setgroups is not None:
        _write_setgroups(f"{base}/setgroups", setgroups)
    if gids:
        (write_gids or _write_outer)(f"{base}/gid_map", gids)
    return bool(gids) and procfs.read_or_none(f"{base}/setgroups") == ALLOW


def _write_outer(path: str, extents: Sequence[Extent]) -> None:
    procfs.write_once(path, procfs.to_text(extents))


def _write_setgroups(path: str, word: str) -> None:
    """Write the word, unless the file has it already: a namespace inherits deny for good."""
    if procfs.read_or_none(path) != word:
        procfs.write_once(path, word)


_HELP = (
    f"INSIDE,OUTSIDE,COUNT (in this order), N, or one of {', '.join(WORDS)}; repeatable,"
    " records add up"
)
_USER = ("user",)

FEATURE = Feature(
    name="maps",
    part=Maps,
    settings=(
        many(
            *("map_uid", IDENTITY, "SPEC", f"map user IDs: {_HELP}"),
            short="-M",
            words=WORDS,
            implies=_USER,
        ),
        many(
            *("map_gid", IDENTITY, "SPEC", f"map group IDs: {_HELP}"),
            short="-G",
            words=WORDS,
            implies=_USER,
        ),
        flag(
            *("map_root", IDENTITY, "map the caller to root inside (the default with --user)"),
            short="-r",
            implies=_USER,
        ),
        flag(
            *("map_current", IDENTITY, "map the caller to its own IDs inside"),
            short="-c",
            implies=_USER,
        ),
        flag(
            "map_auto",
            IDENTITY,
            "map the caller to root inside, with subordinate IDs",
            implies=_USER,
            everyday=True,
        ),
        value(
            "setgroups",
            IDENTITY,
            "allow|deny",
            "allow or deny setgroups(2) inside (default: deny for an ordinary user)",
            words=(ALLOW, DENY),
            implies=_USER,
        ),
    ),
    read=_read,
    needs={"uid_map": _USER, "gid_map": _USER, "setgroups": _USER},
    options={"uid_map": "map-uid", "gid_map": "map-gid"},
    quiet=Maps._fields,
    probes=(Probe(name="map-one", settings={"user": True}, works="0 inside is this user outside"),),
    equivalent=_equivalent,
    translated=Maps._fields,
)
