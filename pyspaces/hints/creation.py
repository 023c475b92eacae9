"""Hints for namespaces that the kernel refused to create: rules, filters, limits.

Runs in the parent, after a failure only.
"""

from __future__ import annotations

import errno
import os

from pyspaces.errors import EXECUTE
from pyspaces.kernel import constants, filtered, mountinfo, namespaces, procfs
from pyspaces.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyspaces.hints.case import Case


_APPARMOR = "kernel.apparmor_restrict_unprivileged_userns"


_DEBIAN = "kernel.unprivileged_userns_clone"


_SYSCTL_KINDS = {"mount": "mnt"}


def needs_user_namespace(case: Case) -> str | None:
    """clone(2): EPERM for a namespace without CAP_SYS_ADMIN."""
    if not case.is_creation() or case.report.errno != errno.EPERM or "user" in case.namespaces:
        return None
    if not case.namespaces or procfs.has_capability(constants.CAP_SYS_ADMIN):
        return None
    return (
        f"without CAP_SYS_ADMIN, a new namespace ({', '.join(case.namespaces)}) needs"
        " a new user namespace around it: add --user"
    )


def user_namespaces_disabled(case: Case) -> str | None:
    """Debian's kernels have a sysctl that reserves user namespaces for root."""
    if not case.is_creation() or case.report.errno != errno.EPERM or os.geteuid() == 0:
        return None
    if procfs.sysctl(_DEBIAN) != "0":
        return None
    return f"{_DEBIAN} is 0, so only root can create user namespaces; run: sudo sysctl {_DEBIAN}=1"


def own_ids_unmapped(case: Case) -> str | None:
    """clone(2): EPERM if the caller's own ids have no mapping in its user namespace."""
    if not case.is_creation() or case.report.errno != errno.EPERM or "user" not in case.namespaces:
        return None
    for kind, own in (("uid", os.geteuid()), ("gid", os.getegid())):
        rows = procfs.id_map(f"{kind}_map")
        if not any(first <= own < first + count for first, _, count in rows):
            return (
                f"this process's own {kind} is not mapped in its user namespace,"
                " so it cannot create another one"
            )
    return None


def chrooted(case: Case) -> str | None:
    """clone(2): EPERM for a user namespace if the caller's root is not that of its mounts."""
    if not case.is_creation() or case.report.errno != errno.EPERM or "user" not in case.namespaces:
        return None
    # mountinfo leaves out what lies outside the root: no row for "/" is the mark of a chroot.
    if any(row.point == "/" for row in mountinfo.mounts()):
        return None
    return "this process is in a chroot, where user namespaces cannot be created"


def seccomp(case: Case) -> str | None:
    """seccomp(2): a filter answers in place of the kernel."""
    if case.report.errno not in (errno.EPERM, errno.EACCES, errno.ENOSYS):
        return None
    flags = namespaces.flags_of(case.namespaces)
    if filtered.refusal(case.report.call, flags) is None:
        return None
    return (
        f"a seccomp filter refuses {case.report.call} for this process, as in containers:"
        " start the container with --security-opt seccomp=unconfined or --cap-add SYS_ADMIN"
    )


class Confinement(Record):
    """How AppArmor confines this process: the sysctl and the label, or None if absent."""

    restricts: str | None
    label: str | None

    @classmethod
    def of_this_process(cls) -> Confinement:
        """Read both from /proc."""
        return cls(
            restricts=procfs.sysctl(_APPARMOR),
            label=procfs.read_or_none("/proc/self/attr/current"),
        )

    def holds(self) -> bool:
        """Return whether an unprivileged user namespace would be useless to this process."""
        return self.restricts == "1" and self.label == "unconfined"


def explain_apparmor(case: Case, confinement: Confinement) -> str | None:
    """AppArmor allows the namespace, but then refuses what capabilities inside would permit.

    A process with a profile gets no hint: its profile may be what refuses, and whether that
    profile allows user namespaces cannot be read from inside.
    """
    if "user" not in case.namespaces or case.report.errno not in (errno.EPERM, errno.EACCES):
        return None
    if case.report.code == EXECUTE.code or not confinement.holds():
        return None
    if procfs.has_capability(constants.CAP_SYS_ADMIN):
        return None
    return (
        f"{_APPARMOR} is 1, and this interpreter has no AppArmor profile that allows user"
        f" namespaces; `pyspaces check` prints one to install, or run: sudo sysctl {_APPARMOR}=0"
    )


def apparmor(case: Case) -> str | None:
    """Blame AppArmor if no other rule applies and the host restricts user namespaces with it."""
    if case.report.path.endswith("_map") and not _maps_own_ids(case):
        return None
    return explain_apparmor(case, Confinement.of_this_process())


def _maps_own_ids(case: Case) -> bool:
    """Return whether the maps are among those that every user may write."""
    rows = ((case.uids, os.geteuid()), (case.gids, os.getegid()))
    return all(len(r) == 1 and (r[0].outside, r[0].count) == (own, 1) for r, own in rows if r)


def no_procfs(case: Case) -> str | None:
    """Ask for /proc, from which a launch learns about itself."""
    if case.report.errno != errno.ENOENT or not case.report.path.startswith("/proc/"):
        return None
    if case.report.code == EXECUTE.code or os.path.lexists("/proc/self"):
        return None
    return "/proc is not mounted here, and a launch needs it; run: mount -t proc proc /proc"


def pid_namespace_ended(case: Case) -> str | None:
    """pid_namespaces(7): once process 1 is gone, a fork into the namespace fails with ENOMEM."""
    if case.report.call not in ("clone3", "clone", "fork") or case.report.errno != errno.ENOMEM:
        return None
    try:
        own, next_ = (os.readlink(f"/proc/self/ns/{n}") for n in ("pid", "pid_for_children"))
    except OSError:
        return None
    if own == next_:
        return None
    return (
        "process 1 of the pid namespace for this process's children has ended, as after"
        " unshare --pid without --fork: no more processes can be started in it"
    )


def limit_reached(case: Case) -> str | None:
    """namespaces(7): ENOSPC at a limit of /proc/sys/user, or at 32 nested levels."""
    if not case.is_creation() or case.report.errno != errno.ENOSPC:
        return None
    names = [f"user.max_{_SYSCTL_KINDS.get(name, name)}_namespaces" for name in case.namespaces]
    limits = {name: procfs.sysctl(name) for name in names}
    zero = [name for name, value in limits.items() if value == "0"]
    if zero:
        return f"{zero[0]} is 0, so none can be created; run as root: sysctl {zero[0]}=10000"
    shown = ", ".join(f"{name}={value}" for name, value in limits.items() if value)
    return f"too many namespaces for this user, or more than 32 nested levels ({shown})"


def not_in_kernel(case: Case) -> str | None:
    """clone(2): EINVAL for a type of namespace that the kernel was built without."""
    if not case.is_creation() or case.report.errno != errno.EINVAL:
        return None
    missing = set(case.namespaces).difference(namespaces.supported())
    rows = [row for row in namespaces.NAMESPACES if row.name in missing]
    return "; ".join(
        f"this kernel does not support {row.name} namespaces (Linux {row.since}, if enabled)"
        for row in rows
    )


def process_limit(case: Case) -> str | None:
    """clone(2): EAGAIN at RLIMIT_NPROC or pids.max."""
    if case.report.errno != errno.EAGAIN or not case.is_creation():
        return None
    return "a limit on processes is reached: see `ulimit -u` and pids.max of this cgroup"


def descriptor_limit(case: Case) -> str | None:
    """open(2): EMFILE at RLIMIT_NOFILE."""
    if case.report.errno != errno.EMFILE:
        return None
    return "this process cannot open more files: see `ulimit -n`"


def read_only_sysctls(case: Case) -> str | None:
    """Container runtimes mount /proc/sys read-only."""
    if case.report.errno != errno.EROFS or not case.report.path.startswith("/proc/sys/"):
        return None
    return (
        "/proc/sys is mounted read-only here, as in containers: start the container with"
        " --security-opt systempaths=unconfined (podman: unmask=ALL)"
    )


def clock_range(case: Case) -> str | None:
    """time_namespaces(7): the range of an offset."""
    if case.report.errno != errno.ERANGE or not case.report.path.endswith("timens_offsets"):
        return None
    uptime = (procfs.read_or_none("/proc/uptime") or "?").split()[0]
    return f"inside, a clock cannot be negative or exceed 146 years; outside, it is at {uptime} s"
