"""Hints for ids, id maps and capabilities that the kernel refused.

Runs in the parent, after a failure only.
"""

from __future__ import annotations

import errno
import os

from pyspaces.errors import BOUNDING, CAPABILITIES
from pyspaces.kernel import constants, procfs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from pyspaces.features.ids.idmap import Extent
    from pyspaces.hints.case import Case


def map_rule(case: Case) -> str | None:
    """user_namespaces(7), "Defining user and group ID mappings": which maps may be written."""
    kind = case.report.path.rpartition("/")[2]
    if kind not in ("uid_map", "gid_map") or case.report.errno != errno.EPERM:
        return None
    uid = kind == "uid_map"
    extents, own = (case.uids, os.geteuid()) if uid else (case.gids, os.getegid())
    capability, name = (
        (constants.CAP_SETUID, "CAP_SETUID") if uid else (constants.CAP_SETGID, "CAP_SETGID")
    )
    if not procfs.has_capability(capability):
        if len(extents) == 1 and extents[0].outside == own and extents[0].count == 1:
            return None if uid else "without CAP_SETGID, setgroups must be denied: --setgroups deny"
        return (
            f"without {name}, a user can map only its own id: --map-{kind[:3]} 0,{own},1"
            f" (or {own},{own},1)"
        )
    return _outside_unmapped(kind, extents) or _needs_setfcap(extents, uid=uid)


def _outside_unmapped(kind: str, extents: Sequence[Extent]) -> str | None:
    rows = procfs.id_map(kind)
    for extent in extents:
        last = extent.outside + extent.count - 1
        if not any(row[0] <= extent.outside and last < row[0] + row[2] for row in rows):
            have = "; ".join(f"{row[0]} to {row[0] + row[2] - 1}" for row in rows) or "none"
            return (
                f"{extent}: not all of these outside ids exist in this user namespace"
                f" (it has {have})"
            )
    return None


def _needs_setfcap(extents: Sequence[Extent], *, uid: bool) -> str | None:
    """verify_root_map() of kernel/user_namespace.c, since Linux 5.12."""
    if not uid or procfs.has_capability(constants.CAP_SETFCAP):
        return None
    if any(extent.outside == 0 for extent in extents):
        return "mapping outside user 0 requires CAP_SETFCAP, which this process lacks"
    return None


def setgroups_rule(case: Case) -> str | None:
    """user_namespaces(7): who may call setgroups(2)."""
    if case.report.errno != errno.EPERM:
        return None
    if case.report.call == "setgroups" and "user" in case.namespaces:
        return "setgroups(2) is denied in the new user namespace: add --map-auto, or omit --groups"
    if not case.report.path.endswith("/setgroups"):
        return None
    return "setgroups(2) is denied in this user namespace, and nested ones inherit that"


def ids_need_capability(case: Case) -> str | None:
    """credentials(7): changing ids requires CAP_SETUID or CAP_SETGID."""
    if case.report.errno != errno.EPERM or "user" in case.namespaces:
        return None
    user = case.report.call == "setresuid"
    if not user and case.report.call not in ("setresgid", "setgroups"):
        return None
    name = "CAP_SETUID" if user else "CAP_SETGID"
    if procfs.has_capability(constants.CAP_SETUID if user else constants.CAP_SETGID):
        return None
    return f"without {name}, a process cannot change its ids: add --user, and map the ids needed"


def lacks_capability(case: Case) -> str | None:
    """capabilities(7): CAP_SETPCAP for the bounding set; only permitted ones can be passed on."""
    if case.report.errno != errno.EPERM or "user" in case.namespaces:
        return None
    if case.report.code == BOUNDING.code:
        if procfs.has_capability(constants.CAP_SETPCAP):
            return None
        return "without CAP_SETPCAP, capabilities cannot be dropped permanently: add --user"
    if case.report.code == CAPABILITIES.code and case.report.path:
        return f"this process has no {case.report.path} to pass on to the command: add --user"
    return None
