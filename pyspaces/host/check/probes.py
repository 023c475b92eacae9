"""The features that a launch can use, each tried in a child process.

Runs in the parent; a function `_do_...` runs in the child, and only there.
"""

from __future__ import annotations

import errno
import os
import struct

from pyspaces.features.ids import newidmap, program
from pyspaces.host.check.row import DEGRADED, NO, YES, Row
from pyspaces.host.check.trial import attempt, finding
from pyspaces.kernel import constants, filtered, libc, namespaces, nsfs, procfs, spawn
from pyspaces.kernel.libc import KernelError
from pyspaces.kernel.libseccomp import Library, Missing
from pyspaces.plan.features import FEATURES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pyspaces.feature import Probe

_TRY = "try it"
# A mount point that always exists; the mount namespace is discarded.
_PLACE = "/proc"
# include/uapi/asm-generic/unistd.h: from 424 on, numbers are the same on all machines.
_MOVE_MOUNT, _FSOPEN, _FSCONFIG, _FSMOUNT, _MOUNT_SETATTR = 429, 430, 431, 432, 442
_LANDLOCK_CREATE_RULESET = 444
_AT_FDCWD, _CLOEXEC, _CMD_CREATE, _F_EMPTY_PATH, _RDONLY = -100, 1, 6, 4, 1
_ALLOW_ALL = struct.pack("HBBI", 0x06, 0, 0, 0x7FFF0000)


def new_namespace(name: str, *, user: bool) -> Row:
    """Create a namespace, in a new user namespace or without one."""
    words = ("user", name) if user and name != "user" else (name,)
    label = "namespace-" + "-".join(words)
    mapping: dict[str, object] = dict.fromkeys(words, True)
    mapping |= {"mount_proc": False} if name == "pid" else {}
    mapping |= {"loopback": False} if name == "net" else {}
    return finding(label, attempt(mapping), works="created and entered")


def _around(*names: str) -> Mapping[str, object]:
    """Return new namespaces to try a thing in: with a user namespace, where that can be made."""
    return _with_user(dict.fromkeys(names, True))


def _with_user(mapping: Mapping[str, object]) -> Mapping[str, object]:
    if procfs.has_capability(constants.CAP_SYS_ADMIN) and attempt({"user": True}):
        return mapping
    return {"user": True, **mapping}


def of_feature(probe: Probe) -> Row:
    """Launch what a feature has declared."""
    return finding(probe.name, attempt(_with_user(probe.settings)), works=probe.works)


def map_many() -> Row:
    """Map more ids: all of them with the capabilities, or else the subordinate ids."""
    if sum(count for _, _, count in procfs.id_map("uid_map")) == 1:
        return Row(
            name="map-many",
            answer=NO,
            evidence="only one user id is mapped in this user namespace",
            remedy="create it with more, for example with pyspaces run --map-auto",
        )
    word, what = _many()
    error = attempt({"map_uid": (word,), "map_gid": (word,)})
    return finding("map-many", error, works=what)


def _many() -> tuple[str, str]:
    if all(procfs.has_capability(n) for n in (constants.CAP_SETUID, constants.CAP_SETGID)):
        return "all", "all ids of this user namespace were mapped directly"
    return "auto", "this user and its subordinate ids were mapped by newuidmap and newgidmap"


def helper(kind: str) -> Row:
    """Write a map with newuidmap or newgidmap, if this user needs that."""
    name = f"new{kind}map"
    path = program.find(name)
    number = constants.CAP_SETUID if kind == "uid" else constants.CAP_SETGID
    if procfs.has_capability(number):
        found = path or "not installed"
        return Row(name=name, answer=YES, evidence=f"not needed: CAP_SET{kind.upper()}; {found}")
    if path is None:
        return Row(name=name, answer=NO, evidence="not installed", remedy=newidmap.PACKAGE)
    return finding(name, attempt({f"map_{kind}": ("auto",)}), works=f"{path} wrote a map")


def mount_tmpfs() -> Row:
    """Mount a tmpfs, and use it."""
    error = attempt(_around("mount"), _do_mount_tmpfs, stage=_TRY)
    return finding("mount-tmpfs", error, works="mounted")


def _do_mount_tmpfs() -> None:
    libc.mount("tmpfs", _PLACE, "tmpfs", 0)
    os.mkdir(f"{_PLACE}/made")


def mount_overlay() -> Row:
    """Mount an overlay of directories in a tmpfs, and write to it."""
    error = attempt(_around("mount"), _do_mount_overlay, stage=_TRY)
    return finding("mount-overlay", error, works="mounted, and its upper layer written to")


def _do_mount_overlay() -> None:
    _do_mount_tmpfs()
    for name in ("lower", "upper", "work", "merged"):
        os.mkdir(f"{_PLACE}/{name}")
    layers = {"lowerdir": "lower", "upperdir": "upper", "workdir": "work"}
    options = ",".join(f"{key}={_PLACE}/{name}" for key, name in layers.items())
    libc.mount("overlay", f"{_PLACE}/merged", "overlay", 0, options)
    os.mkdir(f"{_PLACE}/merged/new")
    os.stat(f"{_PLACE}/upper/new")


def mount_sysfs() -> Row:
    """Mount sysfs, which belongs to a network namespace."""
    error = attempt(_around("mount", "net"), _do_mount_sysfs, stage=_TRY)
    return finding("mount-sysfs", error, works="mounted for a new network namespace")


def _do_mount_sysfs() -> None:
    libc.mount("sysfs", _PLACE, "sysfs", 0)


def pidfd() -> Row:
    """End a child through its pidfd, and wait for it."""
    child = spawn.spawn(_do_wait)
    try:
        nsfs.pidfd_send_signal(child.pidfd, 9, 0)
        ended = nsfs.has_ended(child.pidfd, timeout=10)
    except KernelError as error:
        os.kill(child.pid, 9)
        return Row(name="pidfd", answer=NO, evidence=f"{error.call}: {error.strerror}")
    finally:
        spawn.reap(child.pid)
        os.close(child.pidfd)
    answer = YES if ended else NO
    return Row(
        name="pidfd", answer=answer, evidence="a child was ended and waited for with a pidfd"
    )


def _do_wait() -> None:
    os.read(os.pipe()[0], 1)


def newest_clone() -> Row:
    """Make an invalid call, which clone3 refuses as invalid if it is available."""
    number = filtered.answer("clone3", 0)
    if number == filtered.own_answer("clone3"):
        return Row(name="clone3", answer=YES, evidence="an invalid call was refused as invalid")
    answer = DEGRADED if number == errno.ENOSYS else NO
    way = "; clone is used instead" if answer == DEGRADED else ""
    return Row(name="clone3", answer=answer, evidence=f"clone3: {os.strerror(number or 0)}{way}")


def mount_setattr() -> Row:
    """Make a mount read-only with mount_setattr(2), and check that it is."""
    error = attempt(_around("mount"), _do_mount_setattr, stage=_TRY)
    return finding("mount-setattr", error, works="a mount was made read-only")


def _do_mount_setattr() -> None:
    _do_mount_tmpfs()
    attributes = struct.pack("QQQQ", _RDONLY, 0, 0, 0)
    place = _PLACE.encode()
    libc.call("mount_setattr", _MOUNT_SETATTR, _AT_FDCWD, place, 0, attributes, len(attributes))
    try:
        os.mkdir(f"{_PLACE}/more")
    except OSError as error:
        if error.errno == errno.EROFS:
            return
        raise
    raise KernelError(errno.EOPNOTSUPP, "mount_setattr")


def new_mount_api() -> Row:
    """Create and mount a file system with fsopen(2) and related calls."""
    error = attempt(_around("mount"), _do_new_mount, stage=_TRY)
    return finding("new-mount-api", error, works="fsopen, fsconfig, fsmount and move_mount work")


def _do_new_mount() -> None:
    made = libc.call("fsopen", _FSOPEN, b"tmpfs", _CLOEXEC)
    libc.call("fsconfig", _FSCONFIG, made, _CMD_CREATE, None, None, 0)
    mount = libc.call("fsmount", _FSMOUNT, made, _CLOEXEC, 0)
    place = _PLACE.encode()
    libc.call("move_mount", _MOVE_MOUNT, mount, b"", _AT_FDCWD, place, _F_EMPTY_PATH)


def landlock() -> Row:
    """Get the version of Landlock: landlock_create_ruleset(2)."""
    try:
        version = libc.call("landlock_create_ruleset", _LANDLOCK_CREATE_RULESET, None, 0, 1)
    except KernelError as error:
        known = {errno.ENOSYS: "not in this kernel", errno.EOPNOTSUPP: "disabled at boot"}
        why = known.get(error.errno or 0, error.strerror)
        remedy = "boot with landlock in lsm=" if error.errno == errno.EOPNOTSUPP else None
        return Row(name="landlock", answer=NO, evidence=f"{why}", remedy=remedy)
    return Row(name="landlock", answer=YES, evidence=f"ABI {version}")


def seccomp() -> Row:
    """Install a filter that allows everything on a child process."""
    error = attempt({}, _do_seccomp, stage=_TRY)
    return finding("seccomp-filter", error, works="a filter was installed")


def _do_seccomp() -> None:
    libc.set_no_new_privs()
    libc.set_seccomp_filter(_ALLOW_ALL)


def library_of_filters() -> Row:
    """Load the library that compiles filters of system calls by names."""
    try:
        version = Library().version()
    except Missing as error:
        remedy = "install libseccomp2 (Debian, Ubuntu) or libseccomp (Fedora, Alpine, Arch)"
        return Row(name="libseccomp", answer=NO, evidence=str(error), remedy=remedy)
    return Row(name="libseccomp", answer=YES, evidence=f"version {version}")


def _namespace_probes() -> dict[str, Callable[[], Row]]:
    found: dict[str, Callable[[], Row]] = {}
    for name in namespaces.NAMES:
        for user in (False, True):
            label = f"namespace-user-{name}" if user and name != "user" else f"namespace-{name}"
            found[label] = lambda name=name, user=user: new_namespace(name, user=user)  # type: ignore[misc]
    return found


def _feature_probes() -> dict[str, Callable[[], Row]]:
    return {
        probe.name: lambda probe=probe: of_feature(probe)  # type: ignore[misc]
        for feature in FEATURES
        for probe in feature.probes
    }


_DECLARED = _feature_probes()

PROBES: dict[str, Callable[[], Row]] = {
    **_namespace_probes(),
    "map-one": _DECLARED["map-one"],
    "map-many": map_many,
    "newuidmap": lambda: helper("uid"),
    "newgidmap": lambda: helper("gid"),
    "mount-proc": _DECLARED["mount-proc"],
    "mount-tmpfs": mount_tmpfs,
    "mount-overlay": mount_overlay,
    "mount-sysfs": mount_sysfs,
    "loopback": _DECLARED["loopback"],
    "time-offsets": _DECLARED["time-offsets"],
    "pidfd": pidfd,
    "clone3": newest_clone,
    "mount-setattr": mount_setattr,
    "new-mount-api": new_mount_api,
    "landlock": landlock,
    "seccomp-filter": seccomp,
    "libseccomp": library_of_filters,
    **_DECLARED,  # a name that is there already stays in its place
}
