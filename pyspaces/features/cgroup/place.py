"""Where a launch may create a cgroup: in our own cgroup, or in the next one above it that serves.

Runs in the parent. A cgroup serves if it has the controllers, is writable, and has no processes of
its own: one that gives controllers to those beneath it cannot have any (cgroups(7), "no internal
processes"). If none serves, our own one does if this process is alone in it: it then moves one
level down.

What systemd manages is left to it: it may take controllers away from there at any time, and limits
would vanish. Beneath a unit that is delegated it changes nothing.
"""

from __future__ import annotations

import errno
import os

from pyspaces.errors import Refusal
from pyspaces.features.cgroup import older, systemd
from pyspaces.kernel import cgroupfs, procfs
from pyspaces.kernel.libc import KernelError
from pyspaces.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection

_UNITS = (".slice", ".scope", ".service")
_DELEGATED = ("user.delegate", "trusted.delegate")  # systemd's mark; the first since version 251
_MOST_SHOWN = 3


class Place(Record):
    """A cgroup in which others can be created.

    path: its directory. lacking: the controllers that it does not give to those beneath it yet.
    alone: whether this process is in it, and has to move one level down.
    """

    path: str
    lacking: tuple[str, ...] = ()
    alone: bool = False


class NoPlace(Refusal):
    """No cgroup can serve. reasons: why, with the path of each. hint: the cure; else None."""

    def __init__(self, needed: Collection[str], reasons: list[str], hint: str | None) -> None:
        names = ", ".join(sorted(needed))
        what = f"controllers {names}" if len(needed) > 1 else f"controller {names}"
        super().__init__(f"no cgroup can be used here that has the {what}")
        self.reasons = reasons
        self.hint = hint

    def also(self, reason: str, hint: str | None = None) -> NoPlace:
        """Return this with one more reason, and the hint for it."""
        self.reasons.append(reason)
        self.hint = hint
        return self


def find(needed: Collection[str]) -> Place:
    """Return where to create a cgroup with these controllers. Raises NoPlace, KernelError.

    Changes nothing.
    """
    try:
        own = cgroupfs.own()
    except KernelError as error:
        if error.errno != errno.ENOENT:
            raise
        reasons = [
            "no mount of version 2 has the cgroup of this process",
            *older.faults(sorted(needed)),
        ]
        raise NoPlace(needed, reasons, _hint(needed)) from None
    reasons, alone = [], None
    for path in cgroupfs.up_from(own):
        found = _place(path, needed, is_own=path == own)
        if isinstance(found, Place):
            if not found.alone:
                return found
            alone = found
        else:
            reasons.append(f"{path}: {found}")
    if alone:
        return alone
    raise NoPlace(needed, [*reasons, *older.faults(sorted(needed))], _hint(needed))


def _place(path: str, needed: Collection[str], *, is_own: bool) -> str | Place:
    """Return the place that a cgroup is, or why it is none."""
    has = cgroupfs.words_of(path, "cgroup.controllers")
    if missing := sorted(set(needed).difference(has)):
        only = f"only {' '.join(has)}" if has else "none"
        return f"no controller {', '.join(missing)}: cgroup.controllers has {only}"
    if fault := _access_fault(path) or _kind_fault(path):
        return fault
    lacking = set(needed).difference(cgroupfs.words_of(path, "cgroup.subtree_control"))
    # The root of all cgroups is exempt; it alone has no cgroup.type.
    is_root = cgroupfs.read_or_none(path, "cgroup.type") is None
    # 0 stands for a process of a pid namespace that is not beneath ours.
    others = [] if is_root or not lacking else cgroupfs.words_of(path, "cgroup.procs")
    alone = is_own and others == [str(os.getpid())]
    if others and not alone:
        return f"has processes of its own: {', '.join(map(_named, others[:_MOST_SHOWN]))}"
    return Place(path=path, lacking=tuple(sorted(lacking)), alone=alone)


def _named(pid: str) -> str:
    name = procfs.read_or_none(f"/proc/{pid}/comm")
    return f"{pid} ({name})" if name else "one of another PID namespace"


def _access_fault(path: str) -> str | None:
    if os.statvfs(path).f_flag & os.ST_RDONLY:
        return "is mounted read-only"
    for name in ("", "cgroup.procs", "cgroup.subtree_control"):
        if not os.access(os.path.join(path, name), os.W_OK, effective_ids=True):
            return f"{name or 'the directory'} is not writable for this user"
    return None


def _kind_fault(path: str) -> str | None:
    kind = cgroupfs.read_or_none(path, "cgroup.type") or "domain"
    if kind != "domain":
        return f"is threaded: cgroup.type is {kind}"
    return "is managed by systemd, which does not delegate it" if _is_systemds(path) else None


def _is_systemds(path: str) -> bool:
    """Return whether systemd manages what is in a cgroup."""
    if not os.path.isdir(systemd.BOOTED):
        return False
    # Where a systemd has its cgroups, of the host, a user or a container, it is in this one itself.
    if os.path.isdir(os.path.join(path, "init.scope")):
        return True
    for unit in cgroupfs.up_from(path):
        if unit.endswith(_UNITS):
            return unit.endswith(".slice") or not _is_delegated(unit)
    return False


def _is_delegated(unit: str) -> bool:
    for name in _DELEGATED:
        try:
            if os.getxattr(unit, name) == b"1":
                return True
        except OSError:
            continue
    # The mark is not there if the kernel, or the user, could not set it. What is delegated to a
    # user by the manager of the system belongs to that user, and the cgroup above does not.
    own = os.geteuid()
    if own and os.stat(unit).st_uid == own != os.stat(os.path.dirname(unit)).st_uid:
        return True
    return systemd.may_be_asked() and systemd.is_delegated(unit)


# --- why not, and what to do ---------------------------------------------------------------------


def _hint(needed: Collection[str]) -> str | None:
    """Return the cure, if the state of the host shows it."""
    if list(older.faults(needed)):
        first = "--rlimit as=SIZE limits each process by itself, on any host; for all together, "
        return (
            f"{first if 'memory' in needed else ''}boot with version 2 of cgroups alone:"
            " systemd.unified_cgroup_hierarchy=1, with systemd"
        )
    user = os.geteuid()
    if user and os.path.isdir(systemd.BOOTED) and not os.path.exists(systemd.socket_of_manager()):
        return f"no systemd runs for this user: as root, loginctl enable-linger {user}"
    return None
