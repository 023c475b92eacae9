"""Hints for mounts that the kernel refused.

Only reads /proc; runs in the parent, after a failure only.
"""

from __future__ import annotations

import os
import stat
from errno import EACCES, ENOENT, ENOTDIR, EPERM

from pyspaces.errors import (
    EXECUTE,
    LANDLOCK,
    NO_PERMISSION,
    NOT_CREATED,
    PROC,
    TILDE,
    WORKDIR,
    visible,
)
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
    if case.report.path[:1] != "~":  # tilde() says what is wrong
        yield "to ignore a missing source, use the option with -try (--bind-try, --ro-bind-try)"


@after(ENOENT)
def target_of_host(case: Case) -> Iterator[str]:
    """Name the option by which a missing target is created in a directory of the host."""
    if NOT_CREATED in case.report.text:
        yield "create it first, or add --create-targets, which leaves it on the host"


@after(ENOENT, codes=(EXECUTE.code, LANDLOCK.code, WORKDIR.code))
def hidden_outside(case: Case) -> Iterator[str]:
    """Name what is on the host, but in no directory that a root that began empty shows."""
    if not case.from_empty:
        return
    path = _outside(case.report.path, case.report.code)
    if path is None or any(_is_below(path, top) for top in case.shown):
        return
    text = visible(path)
    yield f"{text} is not shown inside: add --ro-bind {text} {text}, or --bind to write to it"


@after(EACCES, codes=(EXECUTE.code,))
def no_permission(case: Case) -> Iterator[str]:
    """chmod(2): the owner of a file, or root, changes its mode. Inside, it may be another file.

    Not of a file of data, such as /etc/passwd.
    """
    if case.report.text != NO_PERMISSION:
        return
    path = case.report.path
    try:
        found = os.stat(path)
        if not stat.S_ISREG(found.st_mode):  # outside, it may be a device
            return
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            is_program = os.read(descriptor, 4).startswith((b"#!", b"\x7fELF"))
        finally:
            os.close(descriptor)
    except OSError:
        return
    if is_program and not found.st_mode & 0o111 and os.geteuid() in (0, found.st_uid):
        yield f"to allow it: chmod +x {visible(path)}"


@after(ENOENT)
def tilde(case: Case) -> Iterator[str]:
    """bash(1), tilde expansion: only at the beginning of a word."""
    if case.report.path[:1] == "~":
        yield TILDE


def _outside(text: str, code: str) -> str | None:
    """Return where a path, or a command in PATH, is for this process; None if there is none."""
    in_path = code == EXECUTE.code and "/" not in text
    places = os.environ.get("PATH", os.defpath).split(os.pathsep) if in_path else [os.getcwd()]
    # A file that was named may lack the permission to be executed: that is told next.
    kinds = {EXECUTE.code: os.path.isfile, WORKDIR.code: os.path.isdir}
    for place in places:
        path = os.path.abspath(os.path.join(place or ".", text))
        is_found = os.access(path, os.X_OK) if in_path else kinds.get(code, os.path.exists)(path)
        if is_found:
            return path
    return None


def _is_below(path: str, top: str) -> bool:
    """Return whether a path, or where links have its directory lead to, is `top` or below it."""
    prefix = f"{os.path.normpath(top).rstrip('/')}/"
    # Not what the path itself leads to: python of a virtual environment is a link to one in /usr.
    place = os.path.join(os.path.realpath(os.path.dirname(path)), os.path.basename(path))
    return f"{path}/".startswith(prefix) or f"{place}/".startswith(prefix)


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
