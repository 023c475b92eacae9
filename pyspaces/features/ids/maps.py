"""The id maps of a new user namespace, and how they are written: user_namespaces(7).

Pure but for the caller's own ids, and for `write_outer`; runs in the parent. `idmap.py` has their
grammar and arithmetic; `map_settings.py`, which reads them by these, and `map_equivalent.py`, their
words for unshare(1), are loaded only if they are needed.
"""

from __future__ import annotations

import os

from pyspaces.feature import IDENTITY, Feature, Part, Probe, flag, many, value
from pyspaces.kernel import constants, procfs
from pyspaces.kernel.procfs import Extent

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
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
            # The two that need no arithmetic, as nearly all have one.
            if not (procfs.is_own(extents, own) and extents[0].inside in (0, own)):
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
    named = [name for name in given.values if name.startswith("map_")]
    if not named:
        uids, gids = _default_map(os.geteuid()), _default_map(os.getegid())
    elif named == ["map_current"]:
        # As --sandbox has it: nothing to read, so without its grammar.
        uids, gids = _own_map(os.geteuid()), _own_map(os.getegid())
    else:
        from pyspaces.features.ids import map_settings

        uids, gids = map_settings.read(given)
    return Maps(uid_map=uids, gid_map=gids, setgroups=given.text("setgroups"))


def _equivalent(plan: Plan, caller: Caller) -> Iterator[str]:
    from pyspaces.features.ids import map_equivalent

    return map_equivalent.words(plan, caller)


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
    asks = setgroups is None and gids and write_gids is None
    if asks and not procfs.has_capability(constants.CAP_SETGID):
        setgroups = DENY
    if setgroups is not None:
        _write_setgroups(f"{base}/setgroups", setgroups)
    if gids:
        (write_gids or _write_outer)(f"{base}/gid_map", gids)
    if setgroups == DENY or not gids:
        return False
    return procfs.read_or_none(f"{base}/setgroups") == ALLOW


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
