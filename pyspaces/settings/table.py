"""The table of settings: those of the launch itself, and those that the features declare.

Pure; runs in any process. The options of the command line and their completion are made from it.
"""

from __future__ import annotations

from pyspaces.feature import (
    CONFINEMENT,
    NAMESPACES,
    OPERATION,
    OPTIONAL,
    SETUP,
    Setting,
    flag,
    many,
    value,
)
from pyspaces.features.network.uplink import WORDS
from pyspaces.kernel import namespaces
from pyspaces.mounts.grammar import TYPES
from pyspaces.plan.features import FEATURES


def _namespace(name: str, short: str) -> Setting:
    row = next(row for row in namespaces.NAMESPACES if row.name == name)
    text = f"new {name} namespace: {row.what}"
    everyday = name in ("user", "pid", "net", "mount")
    return flag(name, NAMESPACES, text, short=short, implies=(name,), everyday=everyday)


SETTINGS: tuple[Setting, ...] = (
    _namespace("user", "-U"),
    _namespace("pid", "-p"),
    _namespace("net", "-n").replace(
        kind=OPTIONAL,
        metavar="MODE|NAME",
        words=WORDS,
        help="new net namespace: network devices; MODE is none (default), or user for a way out;"
        " NAME is a network, or a command, PID or path whose network is shared",
    ),
    _namespace("mount", "-m").replace(
        kind=OPERATION,
        metavar="type=TYPE,...",
        words=tuple(f"type={name}," for name in TYPES),
        help="new mount namespace: mount points; with a value, mount this in it; repeatable",
    ),
    _namespace("uts", "-u"),
    _namespace("ipc", "-i"),
    _namespace("cgroup", "-C"),
    _namespace("time", "-T"),
    flag(
        *("all", NAMESPACES, "create every type of namespace that the kernel has"),
        short="-a",
        everyday=True,
    ),
    many(
        *("share", NAMESPACES, "NS[,NS...]", "do not create these with --all"),
        words=namespaces.NAMES,
        listed=True,
    ),
    flag(
        *("sandbox", CONFINEMENT),
        "confine the command as far as one option can; what it needs is added",
        everyday=True,
    ),
    *(setting for feature in FEATURES for setting in feature.settings),
    many(
        *("profile", SETUP, "NAME|FILE"),
        "begin with the settings of a profile; repeatable, and what is given besides counts more",
        everyday=True,
    ),
    value(
        *("bundle", SETUP, "DIR"),
        "run the OCI bundle in DIR; what is given besides counts more than its config.json",
        directory=True,
    ),
    value(
        "workdir", SETUP, "DIR", "run the command in DIR", short="-w", directory=True, everyday=True
    ),
)
BY_NAME: dict[str, Setting] = {setting.name: setting for setting in SETTINGS}
