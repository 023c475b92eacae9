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
        help=f"map {ids} IDs: INSIDE,OUTSIDE,COUNT (in this order), N, or one of"
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
        help="create every type of namespace that the kernel supports",
    ),
    Setting(
        name="share",
        kind=MANY,
        group=NAMESPACES,
        metavar="NS[,NS...]",
        words=namespaces.NAMES,
        listed=True,
        help="do not create these with --all",
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
        help="map the caller to root inside (the default with --user)",
    ),
    Setting(
        name="map_current",
        short="-c",
        kind=FLAG,
        group=IDENTITY,
        implies=("user",),
        help="map the caller to its own IDs inside",
    ),
    Setting(
        name="map_auto",
        kind=FLAG,
        group=IDENTITY,
        implies=("user",),
        help="map the caller to root inside, followed by its subordinate IDs",
    ),
    _setup(
        "setgroups",
        "allow|deny",
        "allow or deny setgroups(2) inside (default: deny for an ordinary user)",
        ("user",),
        words=(idmap.ALLOW, idmap.DENY),
        group=IDENTITY,
    ),
    _setup("setuid", "USER", "run the command as this user: an ID or a name", (), group=IDENTITY),
    _setup(
        "setgid", "GROUP", "run the command with this group: an ID or a name", (), group=IDENTITY
    ),
    Setting(
        name="groups",
        kind=MANY,
        group=IDENTITY,
        metavar="GROUP[,GROUP...]",
        words=("none", "keep"),
        listed=True,
        help="supplementary groups of the command: IDs or names, none, or keep",
    ),
    Setting(
        name="keep_caps",
        kind=FLAG,
        group=IDENTITY,
        help="let a user other than root retain its capabilities",
    ),
    _capabilities("cap_drop", "drop these capabilities from the command, or all of them", "all"),
    _capabilities("cap_add", "give these capabilities to the command, whichever user it runs as"),
    Setting(
        name="no_new_privs",
        kind=FLAG,
        group=IDENTITY,
        help="do not let programs such as set-user-ID ones gain privileges",
    ),
    Setting(
        name="allow_new_privs",
        kind=FLAG,
        group=IDENTITY,
        help="do not imply --no-new-privs with --setuid and --cap-drop all",
    ),
    Setting(
        name="no_nested_users",
        kind=FLAG,
        group=IDENTITY,
        help="prevent the creation of user namespaces inside; requires --user",
    ),
    _setup("hostname", "NAME", "set the host name", ("uts",)),
    _setup("domainname", "NAME", "set the NIS domain name", ("uts",)),
    _setup("boottime", "SECONDS", "offset of the boot-time clock", ("time",)),
    _setup("monotonic", "SECONDS", "offset of the monotonic clock", ("time",)),
    Setting(
        name="mount_proc",
        kind=TOGGLE,
        group=SETUP,
        implies=("pid", "mount"),
        help="mount a new /proc for the new PID namespace (default with --pid and --mount)",
    ),
    Setting(
        name="proc_open",
        kind=FLAG,
        group=SETUP,
        help="do not protect the host's settings in /proc",
    ),
    _setup(
        "propagation",
        "|".join(propagation.WORDS),
        "propagation of mounts between inside and outside (private)",
        ("mount",),
        words=propagation.WORDS,
    ),
    Setting(
        name="loopback",
        kind=TOGGLE,
        group=SETUP,
        help="bring up lo in the new network namespace (default), or leave it down",
    ),
    _setup("workdir", "DIR", "run the command in DIR", (), short="-w", directory=True),
    *ROWS,
    Setting(
        name="setenv",
        kind=PAIRS,
        group=ENVIRONMENT,
        metavar="VAR VALUE",
        help="set a variable; repeatable, takes precedence over the other three",
    ),
    Setting(
        name="unsetenv",
        kind=MANY,
        group=ENVIRONMENT,
        metavar="VAR",
        help="unset a variable; repeatable",
    ),
    Setting(name="clearenv", kind=FLAG, group=ENVIRONMENT, help="start with an empty environment"),
    Setting(
        name="keep_env",
        kind=MANY,
        group=ENVIRONMENT,
        metavar="VAR[,VAR...]",
        listed=True,
        help="clear the environment except for these variables; patterns such as LC_* match",
    ),
    *LIFE_ROWS,
)
BY_NAME = {setting.name: setting for setting in SETTINGS}
