"""Why the kernel refused: the rule behind a failure, and what would be allowed.

Runs in the parent, on the failure path only. Must not know how a hint is shown. A hint is given
only where the state of the host proves the cause: a hint for another cause is worse than none.
"""

from __future__ import annotations

import errno
import os

from pyspaces.hints import mounts
from pyspaces.kernel import constants, namespaces, procfs
from pyspaces.kernel.libc import KernelError
from pyspaces.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pyspaces.errors import Report
    from pyspaces.features.ids.idmap import Extent

_APPARMOR = "kernel.apparmor_restrict_unprivileged_userns"
_DEBIAN = "kernel.unprivileged_userns_clone"
_SYSCTL_KINDS = {"mount": "mnt"}


class Case(Record):
    """A failure and the launch it belongs to."""

    report: Report
    namespaces: tuple[str, ...]
    uids: tuple[Extent, ...]
    gids: tuple[Extent, ...]

    def is_creation(self) -> bool:
        """Tell whether the kernel refused to make the namespaces themselves."""
        return self.report.call in ("clone3", "clone", "unshare")


def explain(
    report: Report,
    *,
    namespaces: Sequence[str],
    uids: Sequence[Extent],
    gids: Sequence[Extent],
) -> str | None:
    """Return the cure for a failure in one line, or None where the cause is not known."""
    case = Case(report=report, namespaces=tuple(namespaces), uids=tuple(uids), gids=tuple(gids))
    for rule in _RULES:
        try:
            hint = rule(case)
        except KernelError:  # /proc does not tell: then nothing is proved
            continue
        if hint:
            return hint
    return None


def _needs_user_namespace(case: Case) -> str | None:
    if not case.is_creation() or case.report.errno != errno.EPERM or "user" in case.namespaces:
        return None
    if not case.namespaces or procfs.has_capability(constants.CAP_SYS_ADMIN):
        return None
    return (
        f"without CAP_SYS_ADMIN, a new namespace ({', '.join(case.namespaces)}) needs"
        " a new user namespace around it: add --user"
    )


def _user_namespaces_disabled(case: Case) -> str | None:
    if not case.is_creation() or case.report.errno != errno.EPERM or os.geteuid() == 0:
        return None
    if procfs.sysctl(_DEBIAN) != "0":
        return None
    return f"{_DEBIAN} is 0: only root makes user namespaces here; run: sudo sysctl {_DEBIAN}=1"


def _own_ids_unmapped(case: Case) -> str | None:
    """clone(2): EPERM where the caller's own ids have no mapping in its user namespace."""
    if not case.is_creation() or case.report.errno != errno.EPERM or "user" not in case.namespaces:
        return None
    for kind, own in (("uid", os.geteuid()), ("gid", os.getegid())):
        rows = procfs.id_map(f"{kind}_map")
        if not any(first <= own < first + count for first, _, count in rows):
            return (
                f"this process's own {kind} is not mapped in its user namespace,"
                " and the kernel then lets it make no other"
            )
    return None


def _chrooted(case: Case) -> str | None:
    """clone(2): EPERM for a user namespace where the caller's root is not that of its mounts."""
    if not case.is_creation() or case.report.errno != errno.EPERM or "user" not in case.namespaces:
        return None
    # mountinfo leaves out what lies outside the root: no row for "/" is the mark of a chroot.
    if any(point == "/" for point, _ in procfs.mount_points()):
        return None
    return "this process is in a chroot, where the kernel lets nobody make user namespaces"


def filtered(call: str, names: Sequence[str] = ()) -> int | None:
    """Return the errno with which a seccomp filter refuses `call` for new namespaces `names`.

    None where it does not, or where there is no filter. The call is made so that the kernel
    itself refuses it as wrong: another answer than that is the filter's.
    """
    if procfs.status_field("self", "Seccomp") != "2":
        return None
    # Only where something was refused: not on the launch path.
    from pyspaces.kernel import filtered  # noqa: PLC0415

    told = filtered.answer(call, namespaces.flags_of(names))
    return None if told in (None, filtered.own_answer(call)) else told


def _seccomp(case: Case) -> str | None:
    if case.report.errno not in (errno.EPERM, errno.EACCES, errno.ENOSYS):
        return None
    if filtered(case.report.call, case.namespaces) is None:
        return None
    return (
        f"a seccomp filter is on this process and refuses {case.report.call}, as those of container"
        " runtimes do: if it is a container, start it with --security-opt seccomp=unconfined, or"
        " with --cap-add SYS_ADMIN"
    )


class Confinement(Record):
    """What AppArmor says of this process: the sysctl, and its label. None where it is absent."""

    restricts: str | None
    label: str | None

    @classmethod
    def of_this_process(cls) -> Confinement:
        """Read both."""
        return cls(
            restricts=procfs.sysctl(_APPARMOR),
            label=procfs.read_or_none("/proc/self/attr/current"),
        )

    def holds(self) -> bool:
        """Tell whether an unprivileged user namespace of this process is of no use."""
        return self.restricts == "1" and self.label == "unconfined"


def explain_apparmor(case: Case, confinement: Confinement) -> str | None:
    """AppArmor lets the namespace be made, then refuses what capabilities inside would allow.

    A process that has a profile is not told of this: its profile may be what refuses, and whether
    that allows user namespaces cannot be read from inside.
    """
    if "user" not in case.namespaces or case.report.errno not in (errno.EPERM, errno.EACCES):
        return None
    if case.report.stage == "execute the command" or not confinement.holds():
        return None
    if procfs.has_capability(constants.CAP_SYS_ADMIN):
        return None
    return (
        f"{_APPARMOR} is 1, and this interpreter has no AppArmor profile that allows user"
        f" namespaces; `pyspaces check` has one to install, or run: sudo sysctl {_APPARMOR}=0"
    )


def _apparmor(case: Case) -> str | None:
    if case.report.path.endswith("_map") and not _maps_own_ids(case):
        return None
    return explain_apparmor(case, Confinement.of_this_process())


def _maps_own_ids(case: Case) -> bool:
    """Tell whether the maps are those that the kernel takes of anybody."""
    rows = ((case.uids, os.geteuid()), (case.gids, os.getegid()))
    return all(len(r) == 1 and (r[0].outside, r[0].count) == (own, 1) for r, own in rows if r)


def _no_procfs(case: Case) -> str | None:
    """Everything that a launch asks of itself, it asks /proc."""
    if case.report.errno != errno.ENOENT or not case.report.path.startswith("/proc/"):
        return None
    if case.report.stage == "execute the command" or os.path.lexists("/proc/self"):
        return None
    return "/proc is not mounted here, and a launch needs it; run: mount -t proc proc /proc"


def _pid_namespace_ended(case: Case) -> str | None:
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
        "the pid namespace in which this process's children would be has lost its process 1, as"
        " after unshare --pid without --fork: nothing can be started in it any more"
    )


def _limit_reached(case: Case) -> str | None:
    """namespaces(7): ENOSPC is a count of /proc/sys/user, or more than 32 levels."""
    if not case.is_creation() or case.report.errno != errno.ENOSPC:
        return None
    names = [f"user.max_{_SYSCTL_KINDS.get(name, name)}_namespaces" for name in case.namespaces]
    limits = {name: procfs.sysctl(name) for name in names}
    zero = [name for name, value in limits.items() if value == "0"]
    if zero:
        return f"{zero[0]} is 0, which allows none; run as root: sysctl {zero[0]}=10000"
    shown = ", ".join(f"{name}={value}" for name, value in limits.items() if value)
    return f"too many namespaces for this user, or more than 32 levels of them ({shown})"


def _not_in_kernel(case: Case) -> str | None:
    if not case.is_creation() or case.report.errno != errno.EINVAL:
        return None
    missing = set(case.namespaces).difference(namespaces.supported())
    rows = [row for row in namespaces.NAMESPACES if row.name in missing]
    return "; ".join(
        f"this kernel has no {row.name} namespaces (Linux {row.since} with them built in)"
        for row in rows
    )


def _process_limit(case: Case) -> str | None:
    if case.report.errno != errno.EAGAIN or not case.is_creation():
        return None
    return "a limit on processes is reached: see `ulimit -u`, and pids.max of this cgroup"


def _descriptor_limit(case: Case) -> str | None:
    if case.report.errno != errno.EMFILE:
        return None
    return "this process may not open more files: see `ulimit -n`"


def _map_rule(case: Case) -> str | None:
    """user_namespaces(7), "Defining user and group ID mappings": what this writer may write."""
    kind = case.report.path.rpartition("/")[2]
    if kind not in ("uid_map", "gid_map") or case.report.errno != errno.EPERM:
        return None
    uid = kind == "uid_map"
    extents, own = (case.uids, os.geteuid()) if uid else (case.gids, os.getegid())
    capability, name = (
        (constants.CAP_SETUID, "CAP_SETUID") if uid else (constants.CAP_SETGID, "CAP_SETGID")
    )
    if not procfs.has_capability(capability):
        if len(extents) == 1 and extents[0].outside == own and extents[0].count == 1:
            return (
                None if uid else "without CAP_SETGID this needs setgroups denied: --setgroups deny"
            )
        return (
            f"without {name} a user may map one id, its own: here --map-{kind[:3]} 0,{own},1"
            f" (or {own},{own},1)"
        )
    return _outside_unmapped(kind, extents) or _needs_setfcap(extents, uid=uid)


def _outside_unmapped(kind: str, extents: Sequence[Extent]) -> str | None:
    rows = procfs.id_map(kind)
    for extent in extents:
        last = extent.outside + extent.count - 1
        if not any(row[0] <= extent.outside and last < row[0] + row[2] for row in rows):
            have = "; ".join(f"{row[0]} to {row[0] + row[2] - 1}" for row in rows) or "none"
            return (
                f"{extent}: not all of these outside ids exist in this user namespace"
                f" (it has {have})"
            )
    return None


def _needs_setfcap(extents: Sequence[Extent], *, uid: bool) -> str | None:
    """verify_root_map() of kernel/user_namespace.c, since Linux 5.12."""
    if not uid or procfs.has_capability(constants.CAP_SETFCAP):
        return None
    if any(extent.outside == 0 for extent in extents):
        return "mapping the parent's user 0 needs CAP_SETFCAP, which this process lacks"
    return None


def _setgroups_rule(case: Case) -> str | None:
    if case.report.errno != errno.EPERM:
        return None
    if case.report.call == "setgroups" and "user" in case.namespaces:
        return (
            "setgroups(2) is denied in the new user namespace, as where an ordinary user maps only"
            " its own group: add --map-auto, or leave --groups out"
        )
    if not case.report.path.endswith("/setgroups"):
        return None
    return "setgroups(2) is denied in this user namespace, and what is inside inherits that"


def _ids_need_capability(case: Case) -> str | None:
    if case.report.errno != errno.EPERM or "user" in case.namespaces:
        return None
    user = case.report.call == "setresuid"
    if not user and case.report.call not in ("setresgid", "setgroups"):
        return None
    name = "CAP_SETUID" if user else "CAP_SETGID"
    if procfs.has_capability(constants.CAP_SETUID if user else constants.CAP_SETGID):
        return None
    return f"without {name} a process keeps its ids: add --user, and map the ids that are needed"


def _lacks_capability(case: Case) -> str | None:
    """capabilities(7): the bounding set needs CAP_SETPCAP; what is not permitted cannot be had."""
    if case.report.errno != errno.EPERM or "user" in case.namespaces:
        return None
    if case.report.stage == "limit the bounding set":
        if procfs.has_capability(constants.CAP_SETPCAP):
            return None
        return "without CAP_SETPCAP no capability can be given up for good: add --user"
    if case.report.stage == "set the capabilities" and case.report.path:
        return f"this process has no {case.report.path} to give to the command: add --user"
    return None


def _read_only_sysctls(case: Case) -> str | None:
    if case.report.errno != errno.EROFS or not case.report.path.startswith("/proc/sys/"):
        return None
    return (
        "/proc/sys is mounted read-only here, as container runtimes do: start the container with"
        " --security-opt systempaths=unconfined (podman: unmask=ALL)"
    )


def _clock_range(case: Case) -> str | None:
    if case.report.errno != errno.ERANGE or not case.report.path.endswith("timens_offsets"):
        return None
    uptime = (procfs.read_or_none("/proc/uptime") or "?").split()[0]
    return f"a clock can be neither negative nor past 146 years inside; outside it shows {uptime} s"


_RULES: tuple[Callable[[Case], str | None], ...] = (
    _needs_user_namespace,
    _user_namespaces_disabled,
    _own_ids_unmapped,
    _chrooted,
    _pid_namespace_ended,
    _no_procfs,
    _limit_reached,
    _not_in_kernel,
    _process_limit,
    _descriptor_limit,
    _setgroups_rule,
    _ids_need_capability,
    _lacks_capability,
    _read_only_sysctls,
    mounts.no_proc_folder,
    mounts.missing_source,
    mounts.namespace_of_its_own,
    _clock_range,
    # A filter's answer is proved by asking it again; AppArmor's is only the last that is left.
    _seccomp,
    mounts.masked_proc,
    _apparmor,
    _map_rule,
)
