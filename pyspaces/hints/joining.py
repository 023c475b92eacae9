"""Hints for namespaces that could not be joined, or bound to a file.

Runs in the parent, after a failure only.
"""

from __future__ import annotations

import os
from errno import EACCES, EINVAL, ENOMEM, EPERM

from pyspaces.errors import JOIN, KEEP, MAP, PREPARE
from pyspaces.hints.case import CREATION, after
from pyspaces.kernel import constants, ioctl_ns, libc, mountinfo, nsfs, procfs
from pyspaces.kernel.libc import KernelError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from pyspaces.hints.case import Case


@after(EACCES, EPERM, codes=(JOIN.code,))
def foreign_process(case: Case) -> Iterator[str]:
    """ptrace(2), "Ptrace access mode checking": who may access a process."""
    parts = case.report.path.split("/")
    if parts[:2] != ["", "proc"] or len(parts) < 4 or not parts[2].isdecimal():
        return
    try:
        user = os.stat(f"/proc/{parts[2]}").st_uid
    except OSError:
        return
    if user != os.geteuid():
        yield f"process {parts[2]} belongs to user {user}: only that user or root may enter it"


@after(EACCES, codes=(PREPARE.code, MAP.code))
def not_dumpable(case: Case) -> Iterator[str]:
    """ptrace(2), "Ptrace access mode checking", and proc(5): a fork is no more dumpable than we."""
    if case.report.path.startswith("/proc/") and not libc.is_dumpable():
        yield (
            "this process is not dumpable, as no function is that Sandbox.call has called, so it"
            " may not look into its children: a program that is executed there can do this"
        )


@after(EPERM, calls=("setns",))
def foreign_namespace(case: Case) -> Iterator[str]:
    """setns(2): CAP_SYS_ADMIN in the user namespace that owns the one to join."""
    try:
        descriptor = nsfs.open_file(case.report.path)
    except KernelError:
        return
    is_user = ioctl_ns.clone_flag(descriptor) == constants.CLONE_NEWUSER
    above = descriptor if is_user else ioctl_ns.owner(descriptor)
    user = ioctl_ns.owner_uid(above) if above is not None else None
    for opened in {descriptor, above}.difference([None]):
        os.close(opened or 0)
    if above is None:
        yield "its owner is a user namespace outside this process's own: join it from there"
    elif user not in (None, os.geteuid()) and not procfs.has_capability(constants.CAP_SYS_ADMIN):
        yield f"its user namespace belongs to user {user}: only that user or root may join it"


@after(ENOMEM, calls=(*CREATION, "fork"))
def pid_namespace_over(case: Case) -> Iterator[str]:
    """pid_namespaces(7), "The namespace init process": ENOMEM for every later fork."""
    if "pid" in case.joined:
        yield "process 1 of the pid namespace has ended, so no more processes can be started in it"


@after(EINVAL, calls=("setns",))
def pid_namespace_above(case: Case) -> Iterator[str]:
    """pid_namespaces(7), "setns(2) and unshare(2) semantics": descendants only."""
    try:
        descriptor = nsfs.open_file(case.report.path)
    except KernelError:
        return
    flag = ioctl_ns.clone_flag(descriptor)
    os.close(descriptor)
    if flag == constants.CLONE_NEWPID:
        yield "a process can join only pid namespaces that are nested in its own"


@after(EPERM, EACCES)
def map_below_joined(case: Case) -> Iterator[str]:
    """user_namespaces(7): a map is written from inside the namespace or from its parent."""
    if not case.report.path.endswith("_map") or procfs.has_capability(constants.CAP_SETUID):
        return
    if case.joined and "user" in case.namespaces:
        yield (
            "the new user namespace is nested in the one that owns the joined namespaces, and its"
            " ids can be mapped only from there: omit --user to use the existing user namespace"
        )


@after(EINVAL, calls=("mount",), codes=(KEEP.code,))
def keep_on_shared_mount(case: Case) -> Iterator[str]:
    """fs/namespace.c, do_loopback(): a mount namespace must not appear inside itself."""
    place = os.path.realpath(case.report.path)
    if case.report.path and "mount" in case.namespaces and mountinfo.is_on_shared(place):
        directory = os.path.dirname(place)
        yield (
            "the file of a mount namespace must be on a private mount, and this one is shared; run:"
            f" mount --bind {directory} {directory} && mount --make-private {directory}"
        )
