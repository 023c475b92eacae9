"""The mounts of this process's mount namespace: proc_pid_mountinfo(5).

Runs in any process. Off the launch path: loaded only if needed.
"""

from __future__ import annotations

from pyspaces.kernel import mountapi, procfs
from pyspaces.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


class Mount(Record):
    """A mount.

    number: its id; above: the id of the mount it is on. root: the directory of its file system that
    is mounted. point: the mount point. kind: the type of the file system; options: its options.
    shared: whether it is in a peer group: mount_namespaces(7).
    """

    number: int
    above: int
    root: str
    point: str
    kind: str
    options: frozenset[str]
    shared: bool


def mounts() -> Iterator[Mount]:
    """Yield the mounts, oldest first. Raises KernelError."""
    for line in procfs.read("/proc/self/mountinfo").removesuffix("\n").split("\n"):
        before, _, after = line.partition(" - ")
        number, above, _, root, point, _, *tags = before.split(" ")
        kind, _, options = after.split(" ", 2)
        yield Mount(
            number=int(number),
            above=int(above),
            root=_unescape(root),
            point=_unescape(point),
            kind=kind,
            options=frozenset(options.split(",")),
            shared=any(tag.startswith("shared:") for tag in tags),
        )


def _unescape(field: str) -> str:
    """Decode octal escapes such as \\040, which the kernel writes for blanks and backslashes."""
    if "\\" not in field:
        return field
    parts = field.split("\\")
    return parts[0] + "".join(chr(int(part[:3], 8)) + part[3:] for part in parts[1:])


def kind_of(descriptor: int) -> str | None:
    """Return the type of the file system that a descriptor is on; None if it is detached."""
    number = mountapi.mount_number(descriptor)
    return next((mount.kind for mount in mounts() if mount.number == number), None)


def line_of(rows: Mapping[int, Mount], number: int) -> list[int]:
    """Return the ids of a mount and of those it is on, upwards. rows: all mounts by their ids."""
    line = [number]
    while line[-1] in rows and rows[line[-1]].above not in line:
        line.append(rows[line[-1]].above)
    return line


def is_on_shared(path: str) -> bool:
    """Return whether the mount that `path` (absolute, without links) is on is a shared one."""
    rows = [row for row in mounts() if f"{path}/".startswith(row.point.rstrip("/") + "/")]
    # The last one on a mount point covers those before it.
    return bool(rows) and max(reversed(rows), key=lambda row: len(row.point)).shared


def namespace_files() -> Iterator[tuple[str, int, str]]:
    """Yield (link name, inode, mount point) of each namespace that is bound to a file here."""
    for mount in mounts():
        # The root of such a mount is the text of its link: `net:[4026532281]`.
        link, _, inode = mount.root.partition(":")
        if mount.kind == "nsfs" and inode[1:-1].isdecimal():
            yield link, int(inode[1:-1]), mount.point
