"""`root` and `mounts` of a config, as operations on the command's tree."""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pyspaces.settings.bundle.config import Node

# What our /dev has by itself: its terminals, and the devices of every container.
_DEV = "/dev"
_IN_DEV = (f"{_DEV}/pts",)
_OF_KERNEL = ("proc", "sysfs", "mqueue")
# Options that every mount of ours has, or that change nothing in a mount namespace of its own.
_SILENT = {
    *("nosuid", "nodev", "rw", "exec", "async", "defaults", "rbind", "bind", "private", "rprivate"),
    *("slave", "rslave", "norelatime", "nostrictatime", "noiversion", "nomand", "loud"),
}
_TIMES = {"relatime", "strictatime", "noatime", "nodiratime", "atime", "diratime", "lazytime"}
_TIMES |= {"nolazytime", "sync", "dirsync"}
_UNITS = "kKmMgG"
_CURE = "create what is missing, or add --create-targets, which leaves it on the host"


def settings_of(config: Node, directory: str, *, creates: bool) -> dict[str, Any]:
    """Return the settings of `root` and `mounts`.

    directory: that of the bundle. creates: whether missing mount points are created.
    """
    root = config.node("root")
    path = os.path.join(directory, root.take("path", str, ""))
    read_only = root.take("readonly", bool, False)
    root.end()
    mounts: list[list[str]] = []
    targets: list[str] = []
    for node in config.nodes("mounts"):
        targets.append(_target(node))
        mounts += _mount(node, targets[-1], directory)
    if _DEV not in targets:
        mounts.insert(0, ["dev", _DEV])
        targets.insert(0, _DEV)
    if not creates:
        _check_targets(config, path, targets)
    return {"root": path, "mounts": [*mounts, *([["remount_ro", "/"]] if read_only else [])]}


def _target(node: Node) -> str:
    text = node.take("destination", str, "")
    if not text:
        node.fault("destination", "is missing")
    return os.path.normpath(os.path.join("/", text))


def _check_targets(config: Node, root: str, targets: list[str]) -> None:
    """Find mount points that are missing, which would be created in a directory of the host."""
    missing = []
    for index, target in enumerate(targets):
        inside = any(target.startswith(f"{other}/") for other in targets[:index])
        if not inside and not os.path.lexists(root + target):
            missing.append(target)
    if missing and os.path.isdir(root):
        config.fault("mounts", f"not in {root}: {', '.join(missing)}: {_CURE}")


def _mount(node: Node, target: str, directory: str) -> list[list[str]]:
    kind, source = node.take("type", str, ""), node.take("source", str, "")
    options = node.texts("options")
    node.refuse("uidMappings", "gidMappings")
    node.end()
    if kind == "bind" or {"bind", "rbind"} & {*options}:
        return _bind(node, os.path.join(directory, source), target, options)
    if kind == "overlay":
        return _overlay(node, target, directory, options)
    if kind == "tmpfs" and target != _DEV:
        return _tmpfs(node, target, options)
    if kind in _OF_KERNEL:
        _check(node, [one for one in options if one not in ("noexec", "ro")])
        return [[kind, target], *([["remount_ro", target]] if "ro" in options else [])]
    if kind in ("cgroup", "cgroup2"):
        node.warn("", f"a {kind} on {target} is left out")
    elif kind != "tmpfs" and not (kind == "devpts" and target in _IN_DEV):
        node.fault("type", f"{kind[:40]!r} is not supported")
    return [["dev", _DEV]] if kind == "tmpfs" else []


def _bind(node: Node, source: str, target: str, options: list[str]) -> list[list[str]]:
    said = {*options}
    _check(node, [one for one in options if one not in ("ro", "noexec", "suid", "dev")])
    name = "ro_bind" if "ro" in said else "bind"
    if said & {"suid", "dev"} and len(said & {"ro", "suid", "dev"}) > 1:
        node.fault("options", "only one of ro, suid and dev is supported")
    elif said & {"suid", "dev"}:
        name = "bind_suid" if "suid" in said else "dev_bind"
    return [*([["noexec"]] if "noexec" in said else []), [name, source, target]]


def _tmpfs(node: Node, target: str, options: list[str]) -> list[list[str]]:
    found: list[list[str]] = []
    rest: list[str] = []
    for option in options:
        key, _, value = option.partition("=")
        if key == "size" and value.rstrip(_UNITS).isdecimal():
            found.append(["size", value])
        elif key == "mode" and value.isdecimal():
            found.append(["perms", value])
        elif key == "noexec":
            found.append(["noexec"])
        elif key not in ("ro", "uid", "gid") or value not in ("", "0"):
            rest.append(option)
    _check(node, rest)
    return [*found, ["tmpfs", target], *([["remount_ro", target]] if "ro" in options else [])]


def _overlay(node: Node, target: str, directory: str, options: list[str]) -> list[list[str]]:
    said = dict(one.split("=", 1) for one in options if "=" in one)
    layers = [one for one in said.pop("lowerdir", "").split(":") if one]
    upper, work = said.pop("upperdir", ""), said.pop("workdir", "")
    _check(node, [*said, *(one for one in options if "=" not in one)])
    # The first one of lowerdir is the top, and ours begin with the lowest.
    found = [["overlay_src", os.path.join(directory, one)] for one in reversed(layers)]
    if not upper:
        return [*found, ["ro_overlay", target]]
    paths = (os.path.join(directory, one) for one in (upper, work))
    return [*found, ["overlay", *paths, target]]


def _check(node: Node, options: list[str]) -> None:
    """Tell the options of a mount that are left out, and those that cannot be."""
    rest = [one for one in options if one not in _SILENT]
    if times := [one for one in rest if one in _TIMES]:
        node.warn("options", f"{', '.join(times)}: is left out")
    for one in rest:
        if one not in _TIMES:
            node.fault("options", f"{one[:60]!r} is not supported")
