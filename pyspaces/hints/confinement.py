"""Hints for limits that the kernel refused to set, and for what they keep a command from.

Runs in the parent, after a failure only.
"""

from __future__ import annotations

import os
import resource
from errno import EACCES, EPERM

from pyspaces.errors import CONFINED, EXECUTE, LANDLOCK, RLIMITS, SCHEDULING, SECCOMP
from pyspaces.hints.case import after
from pyspaces.kernel import constants, nsfs, procfs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from pyspaces.hints.case import Case


def not_to_be_executed(case: Case) -> Iterator[str]:
    """landlock(7): LANDLOCK_ACCESS_FS_EXECUTE, of the program and of its dynamic loader."""
    report = case.report
    if report.code == EXECUTE.code and report.text == CONFINED and case.limits_files:
        yield (
            "Landlock lets only files beneath --allow-exec be executed: name the directories of the"
            " command and of its libraries, such as --allow-exec /usr"
        )


def needs_no_new_privs(case: Case) -> Iterator[str]:
    """seccomp(2), EACCES, and landlock_restrict_self(2), EPERM: without it, CAP_SYS_ADMIN."""
    report = case.report
    refusal = (report.code, report.errno)
    if refusal not in ((SECCOMP.code, EACCES), (LANDLOCK.code, EPERM)):
        return
    if report.call in ("prctl", "seccomp", "landlock_restrict_self"):
        yield (
            "a command that can gain privileges is confined by CAP_SYS_ADMIN only: omit"
            " --allow-new-privs"
        )


@after(EPERM, codes=(RLIMITS.code,))
def hard_limit(case: Case) -> Iterator[str]:
    """getrlimit(2): who may raise a hard limit; capable() of the kernel means the first namespace.

    Not what the caller has, if that is in a user namespace or the command changes its user.
    """
    name = case.report.call.partition(" ")[2].partition("=")[0]
    if name and (case.namespaces or not procfs.has_capability(constants.CAP_SYS_RESOURCE)):
        yield (
            "only a process with CAP_SYS_RESOURCE"
            f" outside of every user namespace may raise the hard limit of {name}: raise it for"
            " pyspaces itself, with prlimit(1)"
        )


def _has_on_host(case: Case, capability: int) -> bool:
    """Return whether the command had a capability in the first user namespace: capable()."""
    if "user" in case.namespaces or "user" in case.joined:
        return False
    first = nsfs.inode_or_none("/proc/self/ns/user") == constants.PROC_USER_INIT_INO
    return first and procfs.has_capability(capability)


@after(EACCES, EPERM, codes=(SCHEDULING.code,))
def priority(case: Case) -> Iterator[str]:
    """setpriority(2), RLIMIT_NICE; ioprio_set(2). The capability counts in the first namespace."""
    if _has_on_host(case, constants.CAP_SYS_NICE):
        return
    holder = "only a process with CAP_SYS_NICE outside of every user namespace"
    if case.report.call.startswith("setpriority"):
        allowed = 20 - resource.getrlimit(resource.RLIMIT_NICE)[0]
        lowest = min(os.getpriority(os.PRIO_PROCESS, 0), max(allowed, -20))
        yield f"{holder} may set a nice value below {lowest}, which the limit `nice` allows"
    elif case.report.call == "ioprio_set":
        yield f"{holder} may use the class realtime: --ionice best-effort:0 is the next one"


@after(EACCES, codes=("",))
def oom_score(case: Case) -> Iterator[str]:
    """proc_pid_oom_score_adj(5): CAP_SYS_RESOURCE, in the first namespace."""
    if not case.report.path.endswith("/oom_score_adj"):
        return
    if not _has_on_host(case, constants.CAP_SYS_RESOURCE):
        yield (
            "only a process with CAP_SYS_RESOURCE outside of every user namespace may lower it:"
            f" here it is {(procfs.read_or_none('/proc/self/oom_score_adj') or '?').strip()}"
        )
