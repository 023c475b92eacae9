"""Hints for namespaces that could not be joined, or bound to a file.

Runs in the parent, after a failure only. Must not know how a hint is shown.
"""

from __future__ import annotations

import errno
import os

from pyspaces.errors import JOIN, KEEP
from pyspaces.kernel import constants, mountinfo, nsfs, procfs
from pyspaces.kernel.libc import KernelError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyspaces.hints.case import Case

_CREATIONS = ("clone3", "clone", "fork", "unshare")


def foreign_process(case: Case) -> str | None:
    """ptrace(2), "Ptrace access mode checking": who may access a process."""
    parts = case.report.path.split("/")
    if case.report.errno not in (errno.EACCES, errno.EPERM) or parts[:2] != ["", "proc"]:
        return None
    if len(parts) < 4 or not parts[2].isdecimal() or case.report.code != JOIN.code:
        return None
    try:
        user = os.stat(f"/proc/{parts[2]}").st_uid
    except OSError:
        return None
    if user == os.geteuid():
        return None
    return f"process {parts[2]} belongs to user {user}: only that user or root may enter it"


def foreign_namespace(case: Case) -> str | None:
    """setns(2): CAP_SYS_ADMIN in the user namespace that owns the one to join."""
    if case.report.call != "setns" or case.report.errno != errno.EPERM:
        return None
    try:
        descriptor = nsfs.open_file(case.report.path)
    except KernelError:
        return None
    is_user = nsfs.clone_flag(descriptor) == constants.CLONE_NEWUSER
    above = descriptor if is_user else nsfs.owner(descriptor)
    user = nsfs.owner_uid(above) if above is not None else None
    for opened in {descriptor, above}.difference([None]):
        os.close(opened or 0)
    if above is None:
        return "its owner is a user namespace outside this process's own: join it from there"
    if user is None or user == os.geteuid() or procfs.has_capability(constants.CAP_SYS_ADMIN):
        return None
    return f"its user namespace belongs to user {user}: only that user or root may join it"


def pid_namespace_over(case: Case) -> str | None:
    """pid_namespaces(7), "The namespace init process": ENOMEM for every later fork."""
    if (
        case.report.call not in _CREATIONS
        or case.report.errno != errno.ENOMEM
        or "pid" not in case.joined
    ):
        return None
    return "process 1 of the pid namespace has ended, so no more processes can be started in it"


def pid_namespace_above(case: Case) -> str | None:
    """pid_namespaces(7), "setns(2) and unshare(2) semantics": descendants only."""
    if case.report.call != "setns" or case.report.errno != errno.EINVAL:
        return None
    try:
        descriptor = nsfs.open_file(case.report.path)
    except KernelError:
        return None
    flag = nsfs.clone_flag(descriptor)
    os.close(descriptor)
    if flag != constants.CLONE_NEWPID:
        return None
    return "a process can join only pid namespaces that are nested in its own"


def map_below_joined(case: Case) -> str | None:
    """user_namespaces(7): a map is written from inside the namespace or from its parent."""
    report = case.report
    if not report.path.endswith("_map") or report.errno not in (errno.EPERM, errno.EACCES):
        return None
    if (
        not case.joined
        or "user" not in case.namespaces
        or procfs.has_capability(constants.CAP_SETUID)
    ):
        return None
    return (
        "the new user namespace is nested in the one that owns the joined namespaces, and its ids"
        " can be mapped only from there: omit --user to use the existing user namespace"
    )


def keep_on_shared_mount(case: Case) -> str | None:
    """fs/namespace.c, do_loopback(): a mount namespace must not appear inside itself."""
    report = case.report
    if report.code != KEEP.code or report.errno != errno.EINVAL or not report.path:
        return None
    if report.call != "mount" or "mount" not in case.namespaces:
        return None
    place = os.path.realpath(report.path)
    if not mountinfo.is_on_shared(place):
        return None
    directory = os.path.dirname(place)
    return (
        "the file of a mount namespace must be on a private mount, and this one is shared; run:"
        f" mount --bind {directory} {directory} && mount --make-private {directory}"
    )
