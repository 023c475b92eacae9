"""The ids of the command once it is set up: setresuid(2), setgroups(2).

Pure but for the look at names and ids of this host; runs in the parent. What takes the ids is in
`launch/inner/identity.py`.
"""

from __future__ import annotations

from pyspaces.feature import IDENTITY, Feature, Missing, Part, many, value
from pyspaces.features.ids import idmap
from pyspaces.kernel import procfs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pyspaces.feature import Given
    from pyspaces.features.ids.idmap import Extent
    from pyspaces.plan import Plan
    from pyspaces.plan.equivalent import Caller

_MOST_GROUPS = 65536  # NGROUPS_MAX of linux/limits.h


class Identity(Part):
    """Who the command is.

    uid, gid: ids that the command takes inside once it is set up; None for those of the map.
    groups: its supplementary groups; None drops the caller's if the kernel allows that.
    keep_groups: whether the caller's supplementary groups stay.
    """

    uid: int | None = None
    gid: int | None = None
    groups: tuple[int, ...] | None = None
    keep_groups: bool = False

    @property
    def changes(self) -> bool:
        """Whether the command takes other ids than those that the maps give it."""
        return self.uid is not None or self.gid is not None or self.groups is not None

    def faults(self, plan: Plan) -> Iterator[str]:
        uids, gids = plan.maps.uid_map, plan.maps.gid_map
        rows = [("setuid", self.uid, uids), ("setgid", self.gid, gids)]
        rows += [("groups", group, gids) for group in self.groups or ()]
        for setting, number, extents in rows:
            if number is None:
                continue
            if not 0 <= number <= idmap.LARGEST_ID:
                yield f"{setting}: {number}: is not an id; the largest is {idmap.LARGEST_ID}"
            elif plan.has("user") and not (plan.awaits_maps() or idmap.maps(extents, number)):
                yield (
                    f"{setting}: {number}: is not mapped inside"
                    f" (the map is {idmap.arrows(extents) or 'empty'})"
                )
        if self.groups is not None:
            yield from self._group_faults(plan, self.groups)

    def _group_faults(self, plan: Plan, groups: tuple[int, ...]) -> Iterator[str]:
        if self.keep_groups:
            yield "groups: keep cannot be combined with other groups"
        if len(groups) > _MOST_GROUPS:
            yield f"groups: there are {len(groups)}; the kernel takes {_MOST_GROUPS}"
        if plan.maps.setgroups == idmap.DENY:
            yield f"groups: setgroups(2) is needed to set them, and setgroups is {idmap.DENY}"
        elif plan.has("user") and not (plan.maps.gid_map or plan.awaits_maps()):
            yield "groups: setgroups(2) is needed to set them, and works only with a group map"


def _read(given: Given, plan: Plan) -> Identity:
    del plan
    groups, keep_groups = _groups(given)
    return Identity(
        uid=_id(given, "setuid", "uid_map"),
        gid=_id(given, "setgid", "gid_map"),
        groups=groups,
        keep_groups=keep_groups,
    )


def _groups(given: Given) -> tuple[tuple[int, ...] | None, bool]:
    """Return the groups, or None; and whether the caller's are kept."""
    texts = given.words("groups")
    if not given.has("groups") or texts == ["keep"]:
        return None, bool(texts)
    if texts == ["none"]:
        return (), False
    for word in ("none", "keep"):
        if word in texts:
            given.faults.append(f"groups: {word} cannot be combined with other groups")
            return None, False
    found = [_known_id(given, "groups", text, "gid_map") for text in texts]
    return tuple(number for number in found if number is not None), False


def _id(given: Given, name: str, kind: str) -> int | None:
    text = given.text(name)
    return None if text is None else _known_id(given, name, text, kind)


def _known_id(given: Given, name: str, text: str, kind: str) -> int | None:
    """Return the id of a user or group. In the caller's user namespace, it has to exist."""
    from pyspaces.features.ids import accounts

    try:
        number = accounts.user_id(text) if kind == "uid_map" else accounts.group_id(text)
    except accounts.NoSuchName as fault:
        given.faults.append(f"{name}: {fault}")
        return None
    if "user" not in (*given.namespaces, *given.joined) and number <= idmap.LARGEST_ID:
        rows = procfs.id_map(kind)
        if not any(first <= number < first + count for first, _, count in rows):
            given.faults.append(f"{name}: {number}: does not exist in this user namespace")
    return number


def _equivalent(plan: Plan, caller: Caller) -> Iterator[str]:
    from pyspaces.features.ids.map_equivalent import is_denied

    user, me = plan.has("user"), plan.identity
    uids, gids = plan.maps.uid_map, plan.maps.gid_map
    uid = _inside(uids, caller.uid) if user else caller.uid
    gid = _inside(gids, caller.gid) if user else caller.gid
    wanted_uid = me.uid if me.uid is not None else idmap.inside_id(uids)
    wanted_gid = me.gid if me.gid is not None else idmap.inside_id(gids)
    drops = user and bool(gids) and not is_denied(plan, caller) and not me.keep_groups
    if me.groups:
        yield Missing("groups: unshare(1) can drop them, and set none")
    elif me.groups == () or drops:
        yield f"--setgid={gid if wanted_gid is None else wanted_gid}"
    elif wanted_gid not in (None, gid):
        yield Missing("gid: unshare(1) drops the supplementary groups with --setgid")
    if changes := wanted_uid not in (None, uid):
        yield f"--setuid={wanted_uid}"
    yield from _keep_caps(plan, uid if wanted_uid is None else wanted_uid, changes=changes)


def _keep_caps(plan: Plan, uid: int | None, *, changes: bool) -> Iterator[str]:
    """Yield --keep-caps for users other than 0, who keeps capabilities in any case."""
    if not plan.privileges.keep_caps or uid == 0:
        return
    if changes or not plan.has("user"):
        yield Missing("keep_caps: unshare(1) keeps none over a change of the user")
    else:
        yield "--keep-caps"


def _inside(extents: Sequence[Extent], outside: int) -> int | None:
    """Return the inside id of an outside id, or None if it is not mapped."""
    for row in extents:
        if row.outside <= outside < row.outside + row.count:
            return row.inside + outside - row.outside
    return None


FEATURE = Feature(
    name="identity",
    part=Identity,
    settings=(
        value(
            "setuid",
            IDENTITY,
            "USER",
            "run the command as this user: an ID or a name",
            everyday=True,
        ),
        value("setgid", IDENTITY, "GROUP", "run the command with this group: an ID or a name"),
        many(
            "groups",
            IDENTITY,
            "GROUP[,GROUP...]",
            "supplementary groups of the command: IDs or names, none, or keep",
            words=("none", "keep"),
            listed=True,
        ),
    ),
    read=_read,
    options={"uid": "setuid", "gid": "setgid", "keep_groups": "groups"},
    quiet=Identity._fields,
    equivalent=_equivalent,
    translated=Identity._fields,
)
