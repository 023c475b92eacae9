"""Hints for mounts that the kernel refused.

Only reads /proc; runs in the parent, after a failure only. Must not know how a hint is shown.
"""

from __future__ import annotations

import errno

from pyspaces.errors import PROC
from pyspaces.kernel import mountinfo

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyspaces.hints.case import Case


def masked_proc(case: Case) -> str | None:
    """fs/namespace.c, mount_too_revealing(): a new procfs may show no more than an old one."""
    if case.report.call != "mount" or case.report.code != PROC.code:
        return None
    if case.report.errno != errno.EPERM:
        return None
    if masked := masked_proc_paths():
        return (
            f"parts of /proc are covered here ({', '.join(masked[:3])}), so the kernel allows no"
            " new one; use --no-mount-proc, or start the outer sandbox with --proc-open, or the"
            " container with --security-opt systempaths=unconfined (podman: unmask=ALL)"
        )
    if not any(row.kind == "proc" for row in mountinfo.mounts()):
        return "no procfs is mounted here, so the kernel allows no new one; use --no-mount-proc"
    return None


def no_proc_directory(case: Case) -> str | None:
    """Ask for the mount point: none is created in a directory of the host."""
    report = case.report
    if report.code != PROC.code or report.errno not in (
        errno.ENOENT,
        errno.ENOTDIR,
    ):
        return None
    return "the new root has no directory proc: create it there, or use --no-mount-proc"


def missing_source(case: Case) -> str | None:
    """Name the options that ignore a missing source."""
    if case.report.call != "source" or case.report.errno not in (errno.ENOENT, errno.ENOTDIR):
        return None
    if case.report.code != "mount-bind":
        return None
    return "to ignore a missing source, use the option with -try (--bind-try, --ro-bind-try)"


def namespace_of_its_own(case: Case) -> str | None:
    """fs/super.c: our user namespace must own the namespace that the file system shows."""
    if case.report.call != "mount" or case.report.errno != errno.EPERM:
        return None
    if case.report.code == PROC.code and "pid" not in case.namespaces:
        # A new user namespace never owns an existing pid namespace.
        if "user" not in case.namespaces:
            return None
        return (
            "in a new user namespace, procfs can be mounted only for a new pid namespace: add"
            " --pid, or use --bind /proc /proc to show the existing one"
        )
    for kind, name in (("sysfs", "net"), ("mqueue", "ipc")):
        if case.report.code == f"mount-{kind}" and name not in case.namespaces:
            return (
                f"in a user namespace, {kind} can be mounted only for a new {name} namespace:"
                f" add --{name}"
            )
    return None


def masked_proc_paths() -> list[str]:
    """Return what is mounted below /proc and hides a part of it."""
    points = [row.point for row in mountinfo.mounts()]
    # An empty file system type for its purpose covers nothing: the kernel allows these too.
    harmless = ("/proc/sys/fs/binfmt_misc",)
    return [p for p in points if p.startswith("/proc/") and p not in harmless]
