"""Hints for namespaces that the kernel refused to create: rules, filters, limits.

Runs in the parent, after a failure only.
"""

from __future__ import annotations

import os
from errno import (
    EACCES,
    EAGAIN,
    EINVAL,
    EMFILE,
    ENOENT,
    ENOMEM,
    ENOSPC,
    ENOSYS,
    EPERM,
    ERANGE,
    EROFS,
)

from pyspaces.errors import DESCRIPTOR_LIMIT, EXECUTE
from pyspaces.hints.case import CREATION, after
from pyspaces.kernel import constants, filtered, mountinfo, namespaces, procfs
from pyspaces.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from pyspaces.hints.case import Case

APPARMOR = "kernel.apparmor_restrict_unprivileged_userns"
DEBIAN = "kernel.unprivileged_userns_clone"


@after(EPERM, calls=CREATION)
def needs_user_namespace(case: Case) -> Iterator[str]:
    """clone(2): EPERM for a namespace without CAP_SYS_ADMIN."""
    privileged = procfs.has_capability(constants.CAP_SYS_ADMIN)
    # Container runtimes have filters that refuse user namespaces, too: --user would not help.
    if filtered.refusal(case.report.call, constants.CLONE_NEWUSER) is not None:
        return
    if case.namespaces and "user" not in case.namespaces and not privileged:
        yield (
            f"without CAP_SYS_ADMIN, a new namespace ({', '.join(case.namespaces)}) needs"
            " a new user namespace around it: add --user"
        )


@after(EPERM, calls=CREATION)
def user_namespaces_disabled(case: Case) -> Iterator[str]:
    """Debian's kernels have a sysctl that reserves user namespaces for root."""
    if os.geteuid() != 0 and procfs.sysctl(DEBIAN) == "0":
        yield f"{DEBIAN} is 0, so only root can create user namespaces; run: sudo sysctl {DEBIAN}=1"


@after(EPERM, calls=CREATION)
def own_ids_unmapped(case: Case) -> Iterator[str]:
    """clone(2): EPERM if the caller's own ids have no mapping in its user namespace."""
    if "user" not in case.namespaces:
        return
    for kind, own in (("uid", os.geteuid()), ("gid", os.getegid())):
        rows = procfs.id_map(f"{kind}_map")
        if not any(first <= own < first + count for first, _, count in rows):
            yield (
                f"this process's own {kind} is not mapped in its user namespace,"
                " so it cannot create another one"
            )


@after(EPERM, calls=CREATION)
def chrooted(case: Case) -> Iterator[str]:
    """clone(2): EPERM for a user namespace if the caller's root is not that of its mounts."""
    # mountinfo omits mounts outside of the root: without a row for "/", it is a chroot.
    if "user" in case.namespaces and all(row.point != "/" for row in mountinfo.mounts()):
        yield "this process is in a chroot, where user namespaces cannot be created"


@after(EPERM, EACCES, ENOSYS)
def seccomp(case: Case) -> Iterator[str]:
    """seccomp(2): a filter answers instead of the kernel."""
    call = case.report.call
    if filtered.refusal(call, namespaces.flags_of(case.namespaces)) is not None:
        # Docker's filter lets through with that capability what takes it; the others, since 2020.
        more = "" if call in ("pidfd_open", "openat2") else " or --cap-add SYS_ADMIN"
        yield (
            f"a seccomp filter refuses {call} for this process, as in containers:"
            f" start the container with --security-opt seccomp=unconfined{more}"
        )


class Confinement(Record):
    """How AppArmor confines this process: the sysctl and the label, or None if absent."""

    restricts: str | None
    label: str | None

    @classmethod
    def of_this_process(cls) -> Confinement:
        """Read both from /proc."""
        return cls(
            restricts=procfs.sysctl(APPARMOR),
            label=procfs.read_or_none("/proc/self/attr/current"),
        )

    def holds(self) -> bool:
        """Return whether an unprivileged user namespace would be useless to this process."""
        return self.restricts == "1" and self.label == "unconfined"


def explain_apparmor(case: Case, confinement: Confinement) -> str | None:
    """Return a hint if AppArmor refuses what the capabilities in a user namespace would permit.

    A process with a profile gets no hint: its profile may be what refuses, and whether that
    profile allows user namespaces cannot be read from inside.
    """
    if "user" not in case.namespaces or case.report.errno not in (EPERM, EACCES):
        return None
    if case.report.code == EXECUTE.code or not confinement.holds():
        return None
    if procfs.has_capability(constants.CAP_SYS_ADMIN):
        return None
    return (
        f"{APPARMOR} is 1, and this interpreter has no AppArmor profile that allows user"
        f" namespaces; `pyspaces check` prints one to install, or run: sudo sysctl {APPARMOR}=0"
    )


@after(EPERM, EACCES)
def apparmor(case: Case) -> Iterator[str]:
    """Blame AppArmor if no other rule applies and the host restricts user namespaces with it."""
    if case.report.path.endswith("_map") and not _maps_own_ids(case):
        return
    if hint := explain_apparmor(case, Confinement.of_this_process()):
        yield hint


def _maps_own_ids(case: Case) -> bool:
    """Return whether the maps are among those that every user may write."""
    rows = ((case.uids, os.geteuid()), (case.gids, os.getegid()))
    return all(len(r) == 1 and (r[0].outside, r[0].count) == (own, 1) for r, own in rows if r)


@after(ENOENT)
def no_procfs(case: Case) -> Iterator[str]:
    """Ask for /proc, which a launch needs to read."""
    asked = case.report.path.startswith("/proc/") and case.report.code != EXECUTE.code
    if asked and not os.path.lexists("/proc/self"):
        yield "/proc is not mounted here, and a launch needs it; run: mount -t proc proc /proc"


@after(ENOMEM, calls=("clone3", "clone", "fork"))
def pid_namespace_ended(case: Case) -> Iterator[str]:
    """pid_namespaces(7): once process 1 is gone, a fork into the namespace fails with ENOMEM."""
    try:
        own, next_ = (os.readlink(f"/proc/self/ns/{n}") for n in ("pid", "pid_for_children"))
    except OSError:
        return
    if own != next_:
        yield (
            "process 1 of the pid namespace for this process's children has ended, as after"
            " unshare --pid without --fork: no more processes can be started in it"
        )


@after(ENOSPC, calls=CREATION)
def limit_reached(case: Case) -> Iterator[str]:
    """namespaces(7): ENOSPC at a limit of /proc/sys/user, or at 32 nested levels."""
    links = [row.link for row in namespaces.NAMESPACES if row.name in case.namespaces]
    limits = {name: procfs.sysctl(name) for name in (f"user.max_{k}_namespaces" for k in links)}
    for name, value in limits.items():
        if value == "0":
            yield f"{name} is 0, so none can be created; run as root: sysctl {name}=10000"
    shown = ", ".join(f"{name}={value}" for name, value in limits.items() if value)
    yield f"too many namespaces for this user, or more than 32 nested levels ({shown})"


@after(EINVAL, calls=CREATION)
def not_in_kernel(case: Case) -> Iterator[str]:
    """clone(2): EINVAL for a type of namespace that the kernel was built without."""
    missing = set(case.namespaces).difference(namespaces.supported())
    if rows := [row for row in namespaces.NAMESPACES if row.name in missing]:
        yield "; ".join(
            f"this kernel does not support {row.name} namespaces (Linux {row.since}, if enabled)"
            for row in rows
        )


@after(EAGAIN, calls=(*CREATION, "fork"))
def process_limit(case: Case) -> Iterator[str]:
    """clone(2): EAGAIN at RLIMIT_NPROC or pids.max."""
    yield "a limit on processes is reached: see `ulimit -u` and pids.max of this cgroup"


@after(EMFILE)
def descriptor_limit(case: Case) -> Iterator[str]:
    """open(2): EMFILE at RLIMIT_NOFILE."""
    yield DESCRIPTOR_LIMIT


@after(EROFS)
def read_only_sysctls(case: Case) -> Iterator[str]:
    """Container runtimes mount /proc/sys read-only."""
    if case.report.path.startswith("/proc/sys/"):
        yield (
            "/proc/sys is mounted read-only here, as in containers: start the container with"
            " --security-opt systempaths=unconfined (podman: unmask=ALL)"
        )


@after(ERANGE)
def clock_range(case: Case) -> Iterator[str]:
    """time_namespaces(7): the range of an offset."""
    if case.report.path.endswith("timens_offsets"):
        now = (procfs.read_or_none("/proc/uptime") or "?").split()[0]
        yield f"inside, a clock cannot be negative or exceed 146 years; outside, it is at {now} s"
