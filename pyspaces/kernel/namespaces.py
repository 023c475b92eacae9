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


USER = Namespace(
    name="user", flag=constants.CLONE_NEWUSER, link="user", since="3.8", what="user and group ids"
)
# Of one clone3, the kernel makes the user namespace first, and it owns the others. The order of
# the rows is that in which messages and plans name them.
NAMESPACES = (
    USER,
    Namespace(
        name="mount", flag=constants.CLONE_NEWNS, link="mnt", since="2.4.19", what="mount points"
    ),
    Namespace(
        name="pid", flag=constants.CLONE_NEWPID, link="pid", since="2.6.24", what="process ids"
    ),
    Namespace(
        name="net", flag=constants.CLONE_NEWNET, link="net", since="2.6.29", what="network devices"
    ),
    Namespace(
        name="uts",
        flag=constants.CLONE_NEWUTS,
        link="uts",
        since="2.6.19",
        what="host and domain name",
    ),
    Namespace(
        name="ipc",
        flag=constants.CLONE_NEWIPC,
        link="ipc",
        since="2.6.19",
        what="System V IPC and POSIX message queues",
    ),
    Namespace(
        name="cgroup",
        flag=constants.CLONE_NEWCGROUP,
        link="cgroup",
        since="4.6",
        what="the cgroup root directory",
    ),
    Namespace(
        name="time",
        flag=constants.CLONE_NEWTIME,
        link="time",
        since="5.6",
        what="boot and monotonic clocks",
    ),
)
NAMES = tuple(row.name for row in NAMESPACES)


def supported() -> tuple[str, ...]:
    """Return the names of the types that the running kernel has."""
    links = nsfs.link_names()
    return tuple(row.name for row in NAMESPACES if row.link in links)


def told(links: str) -> tuple[tuple[str, int], ...]:
    """Return (name, inode) of each of `links`, such as `mnt:[4026531832] net:[4026531833]`."""
    names = {row.link: row.name for row in NAMESPACES}
    found = []
    for word in links.split():
        link, _, rest = word.partition(":")
        if link in names and rest[1:-1].isdecimal() and len(rest) < 16:
            found.append((names[link], int(rest[1:-1])))
    return tuple(found)


def flags_of(names: Iterable[str]) -> int:
    """Return the CLONE_NEW* bits of `names`, for one clone3(2)."""
    wanted = frozenset(names)
    return sum(row.flag for row in NAMESPACES if row.name in wanted)
