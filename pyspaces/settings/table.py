"""The table of settings: each once, with its name, shape, help and meaning.

Pure; runs in any process. The options of the command line and their completion are made of it.
"""

from __future__ import annotations

from pyspaces.features.ids import capabilities, idmap
from pyspaces.kernel import namespaces
from pyspaces.mounts import propagation
from pyspaces.settings.joining import JOINING
from pyspaces.settings.life import LIFE_ROWS
from pyspaces.settings.mounts import ROWS
from pyspaces.settings.shape import (
    ENVIRONMENT,
    FLAG,
    IDENTITY,
    MANY,
    NAMESPACES,
    PAIRS,
    SETUP,
    TOGGLE,
    VALUE,
    Setting,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def _namespace(name: str, short: str) -> Setting:
    row = next(row for row in namespaces.NAMESPACES if row.name == name)
    text = f"new {name} namespace: {row.what}"
    return Setting(name=name, short=short, kind=FLAG, group=NAMESPACES, help=text, implies=(name,))


def _map(name: str, short: str, ids: str) -> Setting:
    return Setting(
        name=name,
        short=short,
        kind=MANY,
        group=IDENTITY,
        metavar="SPEC",
        words=idmap.WORDS,
        implies=("user",),
        help=f"{ids} ids inside: INSIDE,OUTSIDE,COUNT (in this order) or N or one of"
        f" {', '.join(idmap.WORDS)}; repeatable, records add up",
    )


def _setup(name: str, metavar: str, text: str, implies: tuple[str, ...], **more: Any) -> Setting:
    return Setting(
        name=name,
        kind=VALUE,
        group=more.pop("group", SETUP),
        metavar=metavar,
        help=text,
        implies=implies,
        **more,
    )


def _capabilities(name: str, text: str, *words: str) -> Setting:
    return Setting(
        name=name,
        kind=MANY,
        group=IDENTITY,
        metavar="CAP[,CAP...]",
        words=(*words, *(cap.removeprefix("CAP_").lower() for cap in capabilities.NAMES)),
        listed=True,
        help=text,
    )


SETTINGS = (
    _namespace("user", "-U"),
    _namespace("pid", "-p"),
    _namespace("net", "-n"),
    _namespace("mount", "-m"),
    _namespace("uts", "-u"),
    _namespace("ipc", "-i"),
    _namespace("cgroup", "-C"),
    _namespace("time", "-T"),
    Setting(
        name="all",
        short="-a",
        kind=FLAG,
        group=NAMESPACES,
        help="every namespace that this kernel has",
    ),
    Setting(
        name="share",
        kind=MANY,
        group=NAMESPACES,
        metavar="NS[,NS...]",
        words=namespaces.NAMES,
        listed=True,
        help="take these out of --all again: the command shares them with the caller",
    ),
    *JOINING,
    _map("map_uid", "-M", "user"),
    _map("map_gid", "-G", "group"),
    Setting(
        name="map_root",
        short="-r",
        kind=FLAG,
        group=IDENTITY,
        implies=("user",),
        help="the caller is root inside (what --user alone does)",
    ),
    Setting(
        name="map_current",
        short="-c",
        kind=FLAG,
        group=IDENTITY,
        implies=("user",),
        help="the caller keeps its ids inside",
    ),
    Setting(
        name="map_auto",
        kind=FLAG,
        group=IDENTITY,
        implies=("user",),
        help="the caller is root inside, and has its subordinate ids behind that",
    ),
    _setup(
        "setgroups",
        "allow|deny",
        "whether setgroups(2) works inside (the kernel's rule: deny for an ordinary user)",
        ("user",),
        words=(idmap.ALLOW, idmap.DENY),
        group=IDENTITY,
    ),
    _setup("setuid", "USER", "the command's user inside: an id or a name", (), group=IDENTITY),
    _setup("setgid", "GROUP", "the command's group inside: an id or a name", (), group=IDENTITY),
    Setting(
        name="groups",
        kind=MANY,
        group=IDENTITY,
        metavar="GROUP[,GROUP...]",
        words=("none", "keep"),
        listed=True,
        help="the command's supplementary groups inside: ids or names, none, or keep the caller's",
    ),
    Setting(
        name="keep_caps",
        kind=FLAG,
        group=IDENTITY,
        help="a user other than root keeps its capabilities when the command is executed",
    ),
    _capabilities("cap_drop", "capabilities that the command cannot have, or all", "all"),
    _capabilities("cap_add", "capabilities that the command has, whoever it is"),
    Setting(
        name="no_new_privs",
        kind=FLAG,
        group=IDENTITY,
        help="no program gives the command more than it has, not even a set-user-ID one",
    ),
    Setting(
        name="allow_new_privs",
        kind=FLAG,
        group=IDENTITY,
        help="leave that out where --setuid or --cap-drop all would bring it",
    ),
    Setting(
        name="no_nested_users",
        kind=FLAG,
        group=IDENTITY,
        help="no user namespace can be made inside; needs --user",
    ),
    _setup("hostname", "NAME", "host name inside", ("uts",)),
    _setup("domainname", "NAME", "NIS domain name inside", ("uts",)),
    _setup("boottime", "SECONDS", "how far the boot-time clock is ahead inside", ("time",)),
    _setup("monotonic", "SECONDS", "how far the monotonic clock is ahead inside", ("time",)),
    Setting(
        name="mount_proc",
        kind=TOGGLE,
        group=SETUP,
        implies=("pid", "mount"),
        help="a fresh /proc for the new pid namespace (comes with --pid and --mount together)",
    ),
    Setting(
        name="proc_open",
        kind=FLAG,
        group=SETUP,
        help="leave what is the host's in /proc open to its root, where a sandbox would close it",
    ),
    _setup(
        "propagation",
        "|".join(propagation.WORDS),
        "whether mounts pass between inside and outside (private)",
        ("mount",),
        words=propagation.WORDS,
    ),
    Setting(
        name="loopback",
        kind=TOGGLE,
        group=SETUP,
        help="bring lo up in a new network namespace (the default), or leave it down",
    ),
    _setup(
        "workdir", "DIR", "directory in which the command starts", (), short="-w", directory=True
    ),
    *ROWS,
    Setting(
        name="setenv",
        kind=PAIRS,
        group=ENVIRONMENT,
        metavar="VAR VALUE",
        help="set a variable; repeatable, stronger than the other three",
    ),
    Setting(
        name="unsetenv",
        kind=MANY,
        group=ENVIRONMENT,
        metavar="VAR",
        help="unset a variable; repeatable",
    ),
    Setting(name="clearenv", kind=FLAG, group=ENVIRONMENT, help="start from an empty environment"),
    Setting(
        name="keep_env",
        kind=MANY,
        group=ENVIRONMENT,
        metavar="VAR[,VAR...]",
        listed=True,
        help="clear the environment but for these; patterns such as LC_* allowed",
    ),
    *LIFE_ROWS,
)
BY_NAME = {setting.name: setting for setting in SETTINGS}
