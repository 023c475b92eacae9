"""The ids of the new process: the mapped user, as soon as the maps are written.

Runs in the new process only.
"""

from __future__ import annotations

import errno
import os

from pyspaces.feature import Step
from pyspaces.kernel.constants import KEYCTL_JOIN_SESSION_KEYRING, SYS_keyctl
from pyspaces.kernel.libc import (
    KernelError,
    call,
    is_dumpable,
    keep_capabilities,
    number_of,
    set_dumpable,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from pyspaces.launch.inner.steps import Context
    from pyspaces.plan import Plan


def take_mapped(uid: int | None, gid: int | None, *, may_set_groups: bool) -> None:
    """Take the mapped ids; without them exec would drop every capability: user_namespaces(7).

    The caller's supplementary groups, which usually are not mapped, are dropped if that is allowed.
    """
    leave_session_keyring()
    take_ids(uid, gid, () if may_set_groups else None)


def take_ids(uid: int | None, gid: int | None, groups: Sequence[int] | None) -> None:
    """Take ids and supplementary groups; None leaves each as it is. Raises KernelError."""
    dumpable = is_dumpable()
    name = "setgroups"
    try:
        if groups is not None:
            os.setgroups(groups)
        name = "setresgid"
        if gid is not None:
            os.setresgid(gid, gid, gid)
        name = "setresuid"
        if uid is not None:
            os.setresuid(uid, uid, uid)
    except OSError as error:
        raise KernelError(error.errno or 0, name) from error
    # The change of ids gave our files in /proc to the host's root, and if that is not us any
    # more, timens_offsets could not be opened (seen as root with 0 mapped to 1000). A process that
    # was closed to others stays so: with fs.suid_dumpable=1 the change of ids has opened it.
    set_dumpable(dumpable=dumpable)


def drop_groups() -> None:
    """Drop the supplementary groups, if this process may: setgroups(2).

    Before it is in a user namespace where nobody may, with `deny` in /proc/PID/setgroups or without
    a map: there the groups of root would stay, and with them what they may read.
    """
    try:
        os.setgroups(())
    except PermissionError:
        # An ordinary user cannot: that its groups are of no more use inside is the kernel's word.
        return


# ENOSYS: a kernel without keys, or an unknown machine; EPERM, EACCES: a filter; EDQUOT: this user
# has 200 already. systemd goes on in the same cases.
_NO_KEYRING = (errno.ENOSYS, errno.EPERM, errno.EACCES, errno.EDQUOT)


def leave_session_keyring() -> None:
    """Begin an empty session keyring, if that is possible: keyctl(2), session-keyring(7).

    A process possesses the keys of its keyring in every user namespace. Raises KernelError.
    """
    try:
        number = number_of(SYS_keyctl, "keyctl")
        call("keyctl", number, KEYCTL_JOIN_SESSION_KEYRING, None)
    except KernelError as error:
        if error.errno not in _NO_KEYRING:
            raise


def _take_ids(context: Context) -> None:
    plan = context.plan
    me = plan.identity
    keeps = plan.holds("privileges") and (plan.privileges.keep_caps or plan.privileges.cap_add)
    if keeps:
        keep_capabilities(keep=True)
    take_ids(me.uid, me.gid, me.groups)
    if keeps:  # a function that is called instead of a command would keep its own by surprise
        keep_capabilities(keep=False)


def _text_of(plan: Plan) -> str:
    """Return the ids in one line, for people."""
    me = plan.identity
    groups = None if me.groups is None else ",".join(map(str, me.groups)) or "none"
    rows = (("user", me.uid), ("group", me.gid), ("groups", groups))
    return ", ".join(f"{name} {number}" for name, number in rows if number is not None)


TAKE_IDS = Step(
    title="take the ids of the command",
    applies=lambda plan: plan.identity.changes,
    act=_take_ids,
    detail=_text_of,
    for_command=True,
)
