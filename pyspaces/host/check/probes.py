"""The features that a launch can use, each tried in a child process.

Runs in the parent; functions called `_do_...` run in the child.
"""

from __future__ import annotations

import errno
import os
import struct

from pyspaces.features.cgroup import weight
from pyspaces.features.ids import newidmap, program
from pyspaces.host.check.trial import DEGRADED, NO, YES, Row, attempt, finding, of_trial
from pyspaces.kernel import (
    cgroupfs,
    constants,
    filtered,
    libc,
    mountapi,
    namespaces,
    nsfs,
    procfs,
    rtnetlink,
    spawn,
)
from pyspaces.kernel.libc import KernelError
from pyspaces.kernel.libseccomp import Library, Missing
from pyspaces.launch.network import bridges, uplink
from pyspaces.plan.features import FEATURES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    Test = Callable[[], Row]

# A mount point that always exists; the mount namespace is discarded.
_PLACE = "/proc"
# include/uapi/asm-generic/unistd.h: from 424 on, numbers are the same on all machines.
_LANDLOCK_CREATE_RULESET = 444
_MAC = bytes((2, 0, 0, 0, 0, 1))
_AS_ROOT = "run this as root; without root, see --net=user and pyspaces network"
_ALLOW_ALL = struct.pack("HBBI", 0x06, 0, 0, 0x7FFF0000)


def _new_namespace(*names: str) -> Test:
    mapping: dict[str, object] = dict.fromkeys(names, True)
    mapping |= {"pid": {"mount_proc": False}, "net": {"loopback": False}}.get(names[-1], {})
    return lambda: of_trial(attempt(mapping), "created and entered")


def _launch(
    settings: Mapping[str, object], works: str, act: Callable[[], object] | None = None
) -> Test:
    """Return a test that launches `settings`, with a user namespace if possible, and calls `act`.

    works: the evidence of a success.
    """

    def test() -> Row:
        direct = procfs.has_capability(constants.CAP_SYS_ADMIN) and attempt({"user": True})
        return of_trial(attempt(settings if direct else {"user": True, **settings}, act), works)

    return test


def map_many() -> Row:
    """Map more ids: all of them with the capabilities, or else the subordinate ids."""
    if sum(count for _, _, count in procfs.id_map("uid_map")) == 1:
        remedy = "create it with more, for example with pyspaces run --map-auto"
        return finding(NO, "only one user id is mapped in this user namespace", remedy)
    word, works = "auto", "this user and its subordinate ids were mapped by newuidmap and newgidmap"
    if all(procfs.has_capability(n) for n in (constants.CAP_SETUID, constants.CAP_SETGID)):
        word, works = "all", "all ids of this user namespace were mapped directly"
    return of_trial(attempt({"map_uid": (word,), "map_gid": (word,)}), works)


def _helper(kind: str, capability: int) -> Row:
    """Write a map with newuidmap or newgidmap, if this user needs that."""
    path = program.find(f"new{kind}map")
    if procfs.has_capability(capability):
        found = path or "not installed"
        return finding(YES, f"not needed: CAP_SET{kind.upper()}; {found}")
    if path is None:
        return finding(NO, "not installed", newidmap.PACKAGE)
    return of_trial(attempt({f"map_{kind}": ("auto",)}), f"{path} wrote a map")


def _do_mount_tmpfs() -> None:
    mountapi.mount("tmpfs", _PLACE, "tmpfs", 0)
    os.mkdir(f"{_PLACE}/made")


def _do_mount_overlay() -> None:
    _do_mount_tmpfs()
    for name in ("lower", "upper", "work", "merged"):
        os.mkdir(f"{_PLACE}/{name}")
    layers = {"lowerdir": "lower", "upperdir": "upper", "workdir": "work"}
    options = ",".join(f"{key}={_PLACE}/{name}" for key, name in layers.items())
    mountapi.mount("overlay", f"{_PLACE}/merged", "overlay", 0, options)
    os.mkdir(f"{_PLACE}/merged/new")
    os.stat(f"{_PLACE}/upper/new")


def _do_mount_setattr() -> None:
    _do_mount_tmpfs()
    place = os.open(_PLACE, os.O_PATH)
    mountapi.mount_setattr(place, constants.MOUNT_ATTR_RDONLY, recursive=False)
    try:
        os.mkdir(f"{_PLACE}/more")
    except OSError as error:
        if error.errno == errno.EROFS:
            return
        raise
    raise KernelError(errno.EOPNOTSUPP, "mount_setattr")


def _do_new_mount() -> None:
    mountapi.move_mount(mountapi.fresh("tmpfs", 0, ""), os.open(_PLACE, os.O_PATH))


def _do_bridge() -> None:
    network = os.open("/proc/self/ns/net", os.O_RDONLY)
    links = rtnetlink.Interfaces(rtnetlink.socket())
    links.create_bridge("bridge")
    master = links.index("bridge")
    links.create_veth("port", master=master, network=network, peer="eth0", peer_mac=_MAC)
    links.close()


def shared_network() -> Row:
    """Connect an interface with a bridge, as `pyspaces network` does for several commands."""
    row = _launch({"net": True}, "an interface was connected with a bridge", _do_bridge)()
    if row.answer == NO and os.strerror(errno.EOPNOTSUPP) in row.evidence:
        return row.replace(remedy="as root: modprobe -a bridge veth")
    return row


def host_bridge() -> Row:
    """Find out whether a command could be connected with a bridge of the host; change nothing."""
    host = rtnetlink.Interfaces(rtnetlink.socket())
    try:
        found = ", ".join(bridges.names(host))
        host.check_rights()
    except KernelError as error:
        if error.errno != errno.EPERM:
            raise
        return finding(NO, "takes CAP_NET_ADMIN in the network namespace of the host", _AS_ROOT)
    finally:
        host.close()
    if not found:
        return finding(NO, "this host has no bridge", "ip link add br0 up type bridge")
    return finding(YES, f"bridges: {found}")


def _do_seccomp() -> None:
    libc.set_no_new_privs()
    libc.set_seccomp_filter(_ALLOW_ALL)


def library_of_filters() -> Row:
    """Load the library that compiles filters of system calls by names."""
    try:
        version = Library().version()
    except Missing as error:
        remedy = "install libseccomp2 (Debian, Ubuntu) or libseccomp (Fedora, Alpine, Arch)"
        return finding(NO, str(error), remedy)
    return finding(YES, f"version {version}")


def tun() -> Row:
    """Open the device by which programs carry the packets of a network."""
    fault = uplink.tun_fault()
    return finding(NO, *fault) if fault else finding(YES, f"{uplink.TUN} can be opened")


def pidfd() -> Row:
    """End a child through its pidfd, and wait for it."""
    child = spawn.spawn(lambda: os.read(os.pipe()[0], 1))
    try:
        nsfs.pidfd_send_signal(child.pidfd, 9, 0)
        ended = nsfs.has_ended(child.pidfd, timeout=10)
    except KernelError as error:
        os.kill(child.pid, 9)
        return finding(NO, f"{error.call}: {error.strerror}")
    finally:
        nsfs.reap(child.pid)
        os.close(child.pidfd)
    return finding(YES if ended else NO, "a child was ended and waited for with a pidfd")


def newest_clone() -> Row:
    """Make an invalid call, which clone3 refuses as invalid if it is available."""
    number = filtered.answer("clone3", 0)
    if number == filtered.own_answer("clone3"):
        return finding(YES, "an invalid call was refused as invalid")
    why = f"clone3: {os.strerror(number or 0)}"
    if number == errno.ENOSYS:
        return finding(DEGRADED, f"{why}; clone is used instead")
    return finding(NO, why)


def landlock() -> Row:
    """Get the version of Landlock: landlock_create_ruleset(2)."""
    try:
        version = libc.call("landlock_create_ruleset", _LANDLOCK_CREATE_RULESET, None, 0, 1)
    except KernelError as error:
        if error.errno == errno.EOPNOTSUPP:
            return finding(NO, "disabled at boot", "boot with landlock in lsm=")
        known = error.errno == errno.ENOSYS
        return finding(NO, "not in this kernel" if known else str(error.strerror))
    return finding(YES, f"ABI {version}")


def cgroup() -> Row:
    """Limit a command by a cgroup of its own, with each controller by itself."""
    limits = {"memory": "1G", "pids": 100, "cpus": 1, "io_weight": 100}
    errors = {name: attempt({name: value}) for name, value in limits.items()}
    works = ", ".join(f"--{n.replace('_', '-')}" for n, error in errors.items() if error is None)
    first = next(filter(None, errors.values()), None)
    if first is None:
        return finding(YES, f"limits were set: {works}{_of_weight()}")
    row = of_trial(first)
    return row.replace(answer=DEGRADED, evidence=f"only {works}; {row.evidence}") if works else row


def _of_weight() -> str:
    """Return what is to know of disks that heed no weight, for the end of the evidence."""
    try:
        names = weight.heedless(cgroupfs.own())
    except KernelError:
        names = weight.heedless("")
    return f"; {weight.warning_of(names)}" if names else ""


_MOUNT = {"mount": True}
_DECLARED = {
    probe.name: _launch(probe.settings, probe.works)
    for feature in FEATURES
    for probe in feature.probes
}
PROBES: dict[str, Test] = {
    f"namespace-{'-'.join(names)}": _new_namespace(*names)
    for name in namespaces.NAMES
    for names in ((name,), ("user", name))
    if names != ("user", "user")
}
PROBES |= {
    "map-one": _DECLARED["map-one"],
    "map-many": map_many,
    "newuidmap": lambda: _helper("uid", constants.CAP_SETUID),
    "newgidmap": lambda: _helper("gid", constants.CAP_SETGID),
    "mount-proc": _DECLARED["mount-proc"],
    "mount-tmpfs": _launch(_MOUNT, "mounted", _do_mount_tmpfs),
    "mount-overlay": _launch(_MOUNT, "mounted, and its upper layer written to", _do_mount_overlay),
    "mount-sysfs": _launch(
        {"mount": True, "net": True},
        "mounted for a new network namespace",
        lambda: mountapi.mount("sysfs", _PLACE, "sysfs", 0),
    ),
    "loopback": _DECLARED["loopback"],
    "ports": _DECLARED["ports"],
    "shared-network": shared_network,
    "veth": host_bridge,
    "tun": tun,
    "pasta": _launch({"net": "pasta"}, "a network was connected"),
    "slirp4netns": _launch({"net": "slirp4netns"}, "a network was connected"),
    "time-offsets": _DECLARED["time-offsets"],
    "pidfd": pidfd,
    "clone3": newest_clone,
    "mount-setattr": _launch(_MOUNT, "a mount was made read-only", _do_mount_setattr),
    "new-mount-api": _launch(
        _MOUNT, "fsopen, fsconfig, fsmount and move_mount work", _do_new_mount
    ),
    "landlock": landlock,
    "seccomp-filter": lambda: of_trial(attempt({}, _do_seccomp), "a filter was installed"),
    "libseccomp": library_of_filters,
    "cgroup": cgroup,
    **_DECLARED,  # a name that is there already stays in its place
}
