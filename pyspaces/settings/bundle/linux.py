"""`linux` of a config: namespaces, id maps, limits, system calls, and paths that are closed."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pyspaces.settings.bundle.config import Node

_NAMES = {"pid": "pid", "network": "net", "mount": "mount", "ipc": "ipc", "uts": "uts"}
_NAMES |= {"user": "user", "cgroup": "cgroup", "time": "time"}
_PROPAGATIONS = {"rprivate": "private", "rslave": "slave", "private": "private", "slave": "slave"}
# The launch protects these by itself.
_GUARDED = "/proc/"
_DEVICES = ("null", "zero", "full", "random", "urandom", "tty", "console", "ptmx")
# Without these, the command would have more than the bundle gives it, or would not be what it is.
_REFUSED = ("sysctl", "intelRdt", "personality", "mountLabel", "netDevices", "memoryPolicy")


def settings_of(node: Node, config: str) -> dict[str, Any]:
    """Return the settings of `linux`. config: the path of the file, for its profile of calls."""
    found: dict[str, Any] = _namespaces(node)
    found |= _maps(node, is_user=bool(found.get("user")) or "user=" in "".join(found["join"]))
    found |= _resources(node.node("resources"))
    found |= _clocks(node.node("timeOffsets"))
    found |= _propagation(node)
    if node.take("seccomp", dict):
        found["seccomp"] = config  # the reader of profiles finds it there
    found["mounts"] = [["mask", path] for path in node.texts("maskedPaths")]
    for path in node.texts("readonlyPaths"):
        if not path.startswith(_GUARDED):
            node.fault("readonlyPaths", f"{path[:60]}: only paths in /proc are supported")
    _leave_devices(node)
    if node.take("cgroupsPath", str, ""):
        node.warn("cgroupsPath", "is left out: a cgroup is made where limits need one")
    node.refuse(*_REFUSED)
    node.end()
    return found


def _maps(node: Node, *, is_user: bool) -> dict[str, Any]:
    found = {}
    for name, setting in (("uidMappings", "map_uid"), ("gidMappings", "map_gid")):
        if rows := [_extent(one) for one in node.nodes(name)]:
            found[setting] = rows
            if not is_user:
                node.fault(name, "requires a user namespace")
    return found


def _propagation(node: Node) -> dict[str, Any]:
    word = node.take("rootfsPropagation", str, "")
    if word and word not in _PROPAGATIONS:
        node.fault("rootfsPropagation", f"{word[:40]!r} is not supported")
    return {"propagation": _PROPAGATIONS[word]} if word in _PROPAGATIONS else {}


def _leave_devices(node: Node) -> None:
    for device in node.nodes("devices"):
        path = device.take("path", str, "")
        if path.removeprefix("/dev/") not in _DEVICES:
            device.warn("", f"{path[:60]} is left out: --dev-bind shows a device of the host")


def _namespaces(node: Node) -> dict[str, Any]:
    found: dict[str, Any] = {"join": []}
    for one in node.nodes("namespaces"):
        kind, path = one.take("type", str, ""), one.take("path", str, "")
        if kind not in _NAMES:
            one.fault("type", f"{kind[:40]!r} is not a namespace")
        elif path:
            found["join"].append(f"{_NAMES[kind]}={path}")
        else:
            found[_NAMES[kind]] = True
        one.end()
    return found


def _extent(node: Node) -> str:
    numbers = (node.take(key, int, 0) for key in ("containerID", "hostID", "size"))
    return ":".join(map(str, numbers))


def _resources(node: Node) -> dict[str, Any]:
    found: dict[str, Any] = {}
    memory, pids, cpu = node.node("memory"), node.node("pids"), node.node("cpu")
    limit, swap = memory.take("limit", int, -1), memory.take("swap", int, None)
    if limit > 0:
        found["memory"] = str(limit)
    if swap is not None:
        # There, it is memory and swap together.
        found["swap"] = "unlimited" if swap < 0 else str(max(swap - max(limit, 0), 0))
    if (most := pids.take("limit", int, 0)) > 0:
        found["pids"] = str(most)
    quota, period = cpu.take("quota", int, 0), cpu.take("period", int, 0) or 100_000
    if quota > 0:
        whole, rest = divmod(quota * 100_000 // period, 100_000)  # of any size, unlike a float
        found["cpus"] = f"{whole}.{rest:05}"
    if cpus := cpu.take("cpus", str, ""):
        found["cpu_list"] = cpus
    for part in (memory, pids, cpu):
        _refuse_rest(part)
    for device in node.nodes("devices"):
        if device.take("allow", bool, False):
            device.warn("", "is left out: a /dev has the devices that are bound to it")
    _refuse_rest(node)
    return found


def _refuse_rest(node: Node) -> None:
    """Refuse other limits: without one, the command has more than the bundle gives it."""
    node.refuse(*node.names(), why="this limit is not supported")


def _clocks(node: Node) -> dict[str, Any]:
    found = {}
    for name in ("boottime", "monotonic"):
        if node.has(name):
            clock = node.node(name)
            seconds, rest = clock.take("secs", int, 0), clock.take("nanosecs", int, 0)
            found[name] = _decimal(seconds * 1_000_000_000 + rest)
    node.end()
    return found


def _decimal(nanoseconds: int) -> str:
    whole, rest = divmod(abs(nanoseconds), 1_000_000_000)
    return f"{'-' if nanoseconds < 0 else ''}{whole}.{rest:09}"
