"""Hints for ids, id maps and capabilities that the kernel refused.

Runs in the parent, after a failure only.
"""

from __future__ import annotations

import os
from errno import EPERM, EROFS

from pyspaces.errors import BOUNDING, CAN_NEST, CAPABILITIES, MAP
from pyspaces.hints.case import after
from pyspaces.kernel import constants, procfs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from pyspaces.hints.case import Case


@after(EPERM)
def map_rule(case: Case) -> Iterator[str]:
    """user_namespaces(7), "Defining user and group ID mappings": which maps may be written."""
    kind = case.report.path.rpartition("/")[2]
    if kind == "uid_map":
        extents, own, number = case.uids, os.geteuid(), constants.CAP_SETUID
    elif kind == "gid_map":
        extents, own, number = case.gids, os.getegid(), constants.CAP_SETGID
    else:
        return
    name = f"CAP_SET{kind[:3].upper()}"
    if procfs.has_capability(number):
        rows = procfs.id_map(kind)
        have = "; ".join(f"{first} to {first + count - 1}" for first, _, count in rows) or "none"
        for extent in extents:
            end = extent.outside + extent.count
            if not any(row[0] <= extent.outside and end <= row[0] + row[2] for row in rows):
                yield (
                    f"{extent}: not all of these outside ids exist in this user namespace"
                    f" (it has {have})"
                )
        # verify_root_map() of kernel/user_namespace.c, since Linux 5.12.
        maps_root = kind == "uid_map" and any(extent.outside == 0 for extent in extents)
        if maps_root and not procfs.has_capability(constants.CAP_SETFCAP):
            yield "mapping outside user 0 requires CAP_SETFCAP, which this process lacks"
    elif [(extent.outside, extent.count) for extent in extents] != [(own, 1)]:
        yield (
            f"without {name}, a user can map only its own id: --map-{kind[:3]} 0,{own},1"
            f" (or {own},{own},1)"
        )
    elif kind == "gid_map":
        yield "without CAP_SETGID, setgroups must be denied: --setgroups deny"


@after(EROFS, calls=("open",), codes=(MAP.code,))
def read_only_proc(case: Case) -> Iterator[str]:
    """user_namespaces(7): the maps are written to files in /proc."""
    del case
    yield (
        "/proc is mounted read-only here, and id maps are written there: add --proc /proc to the"
        " options of the sandbox around this one, after those that make / read-only"
    )


@after(EPERM)
def setgroups_rule(case: Case) -> Iterator[str]:
    """user_namespaces(7): who may call setgroups(2)."""
    if case.report.call == "setgroups" and "user" in case.namespaces:
        yield "setgroups(2) is denied in the new user namespace: add --map-auto, or omit --groups"
    if case.report.path.endswith("/setgroups"):
        yield "setgroups(2) is denied in this user namespace, and nested ones inherit that"


@after(EPERM, calls=("setresuid", "setresgid", "setgroups"))
def ids_need_capability(case: Case) -> Iterator[str]:
    """credentials(7): changing ids requires CAP_SETUID or CAP_SETGID."""
    user = case.report.call == "setresuid"
    number = constants.CAP_SETUID if user else constants.CAP_SETGID
    if "user" not in case.namespaces and not procfs.has_capability(number):
        name = "CAP_SETUID" if user else "CAP_SETGID"
        yield f"without {name}, a process cannot change its ids: add --user, and map the ids needed"


def nested_users(case: Case) -> Iterator[str]:
    """user_namespaces(7): the limit on those that are made in a user namespace."""
    if case.report.text == CAN_NEST and "user" in case.namespaces:
        yield "add --no-nested-users, which prevents it"


@after(EPERM, codes=(BOUNDING.code, CAPABILITIES.code))
def lacks_capability(case: Case) -> Iterator[str]:
    """capabilities(7): CAP_SETPCAP for the bounding set; only permitted ones can be passed on."""
    if "user" in case.namespaces:
        return
    if case.report.code == BOUNDING.code:
        if not procfs.has_capability(constants.CAP_SETPCAP):
            yield "without CAP_SETPCAP, capabilities cannot be dropped permanently: add --user"
    elif case.report.path:
        yield f"this process has no {case.report.path} to pass on to the command: add --user"
