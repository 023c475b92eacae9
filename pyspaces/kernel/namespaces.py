"""One row per namespace type: its option, clone flag and /proc name.

Runs in any process. Must not know what an option means beyond its name.
"""

from __future__ import annotations

from pyspaces.kernel import constants, nsfs
from pyspaces.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable


class Namespace(Record):
    """A type of namespace: namespaces(7).

    name: the word of options and plans. flag: its CLONE_NEW* bit. link: its name in
    /proc/PID/ns. since: the first kernel that has it. what: what it isolates, in a few words.
    """

    name: str
    flag: int
    link: str
    since: str
    what: str


def _row(name: str, flag: int, since: str, what: str, link: str = "") -> Namespace:
    return Namespace(name=name, flag=flag, link=link or name, since=since, what=what)


USER = _row("user", constants.CLONE_NEWUSER, "3.8", "user and group ids")
# Of one clone3, the kernel makes the user namespace first, and it owns the others. Messages and
# plans name the types in the order of the rows.
NAMESPACES = (
    USER,
    _row("mount", constants.CLONE_NEWNS, "2.4.19", "mount points", link="mnt"),
    _row("pid", constants.CLONE_NEWPID, "2.6.24", "process ids"),
    _row("net", constants.CLONE_NEWNET, "2.6.29", "network devices"),
    _row("uts", constants.CLONE_NEWUTS, "2.6.19", "host and domain name"),
    _row("ipc", constants.CLONE_NEWIPC, "2.6.19", "System V IPC and POSIX message queues"),
    _row("cgroup", constants.CLONE_NEWCGROUP, "4.6", "the cgroup root directory"),
    _row("time", constants.CLONE_NEWTIME, "5.6", "boot and monotonic clocks"),
)
NAMES = tuple(row.name for row in NAMESPACES)
_FLAGS = {row.name: row.flag for row in NAMESPACES}


def supported() -> tuple[str, ...]:
    """Return the names of the types that the running kernel has."""
    links = nsfs.link_names()
    return tuple(row.name for row in NAMESPACES if row.link in links)


def told(links: str) -> tuple[tuple[str, int], ...]:
    """Return the (name, inode) pairs of a text such as `mnt:[4026531832] net:[4026531833]`."""
    names = {row.link: row.name for row in NAMESPACES}
    found = []
    for word in links.split():
        link, _, rest = word.partition(":")
        if link in names and rest[1:-1].isdecimal() and len(rest) < 16:
            found.append((names[link], int(rest[1:-1])))
    return tuple(found)


def flags_of(names: Iterable[str]) -> int:
    """Return the CLONE_NEW* bits of `names`, for one clone3(2)."""
    flags = 0
    for name in names:
        flags |= _FLAGS[name]
    return flags
