"""Hints for mounts that the kernel refused.

Only reads /proc; runs in the parent, after a failure only.
"""

from __future__ import annotations

from errno import ENOENT, ENOTDIR, EPERM

from pyspaces.errors import PROC
from pyspaces.hints.case import after
from pyspaces.kernel import mountinfo

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from pyspaces.hints.case import Case


@after(EPERM, calls=("mount",), codes=(PROC.code,))
def masked_proc(case: Case) -> Iterator[str]:
    """fs/namespace.c, mount_too_revealing(): a new procfs may show no more than an old one."""
    if masked := masked_proc_paths():
        yield (
            f"parts of /proc are covered here ({', '.join(masked[:3])}), so the kernel allows no"
            " new one; use --no-mount-proc, or start the outer sandbox with --proc-open, or the"
            " container with --security-opt systempaths=unconfined (podman: unmask=ALL)"
        )
    elif not any(row.kind == "proc" for row in mountinfo.mounts()):
        yield "no procfs is mounted here, so the kernel allows no new one; use --no-mount-proc"


@after(ENOENT, ENOTDIR, codes=(PROC.code,))
def no_proc_directory(case: Case) -> Iterator[str]:
    """Ask for the mount point: none is created in a directory of the host."""
    yield "the new root has no directory proc: create it there, or use --no-mount-proc"


@after(ENOENT, ENOTDIR, calls=("source",), codes=("mount-bind",))
def missing_source(case: Case) -> Iterator[str]:
    """Name the options that ignore a missing source."""
    yield "to ignore a missing source, use the option with -try (--bind-try, --ro-bind-try)"


@after(EPERM, calls=("mount",))
def namespace_of_its_own(case: Case) -> Iterator[str]:
    """fs/super.c: our user namespace must own the namespace that the file system shows."""
    new, code = case.namespaces, case.report.code
    # A new user namespace never owns an existing pid namespace.
    if code == PROC.code and "user" in new and "pid" not in new:
        yield (
            "in a new user namespace, procfs can be mounted only for a new pid namespace: add"
            " --pid, or use --bind /proc /proc to show the existing one"
        )
    for kind, name in (("sysfs", "net"), ("mqueue", "ipc")):
        if code == f"mount-{kind}" and name not in new:
            yield (
                f"in a user namespace, {kind} can be mounted only for a new {name} namespace:"
                f" add --{name}"
            )


def masked_proc_paths() -> list[str]:
    """Return the mount points below /proc that hide a part of it."""
    points = [row.point for row in mountinfo.mounts()]
    # An empty file system made for this place covers nothing: the kernel allows it, too.
    harmless = ("/proc/sys/fs/binfmt_misc",)
    return [p for p in points if p.startswith("/proc/") and p not in harmless]
