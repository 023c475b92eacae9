"""Why the kernel refused a mount, where the host's state proves it.

Pure but for /proc; runs in the parent. Must not know how hints are shown.
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
            " fresh one; use --no-mount-proc, or start what is around this with --proc-open, a"
            " container with --security-opt systempaths=unconfined (podman: unmask=ALL)"
        )
    if not any(row.kind == "proc" for row in mountinfo.mounts()):
        return "no procfs is mounted here, so the kernel allows no fresh one; use --no-mount-proc"
    return None


def no_proc_folder(case: Case) -> str | None:
    """Say that a mount point has to be there: in somebody else's root none is made."""
    report = case.report
    if report.code != PROC.code or report.errno not in (
        errno.ENOENT,
        errno.ENOTDIR,
    ):
        return None
    return "the new root has no directory proc: create it there, or use --no-mount-proc"


def missing_source(case: Case) -> str | None:
    """Say that what is to be bound has to be there, and how it may be missing."""
    if case.report.call != "source" or case.report.errno not in (errno.ENOENT, errno.ENOTDIR):
        return None
    if case.report.code != "mount-bind":
        return None
    return "the -try form of the option (--bind-try, --ro-bind-try) leaves out what does not exist"


def namespace_of_its_own(case: Case) -> str | None:
    """Say that the namespace that is shown has to be owned by our user namespace: fs/super.c."""
    if case.report.call != "mount" or case.report.errno != errno.EPERM:
        return None
    if case.report.code == PROC.code and "pid" not in case.namespaces:
        # The owner of a pid namespace that is not new is never a user namespace that is.
        if "user" not in case.namespaces:
            return None
        return (
            "a procfs shows a pid namespace, and a user namespace gets one of its own only: add"
            " --pid, or show the existing one with --bind /proc /proc"
        )
    for kind, name in (("sysfs", "net"), ("mqueue", "ipc")):
        if case.report.code == f"mount-{kind}" and name not in case.namespaces:
            return (
                f"a {kind} shows a {name} namespace, and a user namespace gets one of its own"
                f" only: add --{name}"
            )
    return None


def masked_proc_paths() -> list[str]:
    """Return what is mounted below /proc and hides a part of it."""
    points = [row.point for row in mountinfo.mounts()]
    # An empty file system type for its purpose covers nothing: the kernel allows these too.
    harmless = ("/proc/sys/fs/binfmt_misc",)
    return [p for p in points if p.startswith("/proc/") and p not in harmless]
