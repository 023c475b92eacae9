"""Read files in /proc, and write those that require a single write.

Runs in any process. Must not know what the values are used for.
"""

from __future__ import annotations

import os

from pyspaces.kernel.libc import KernelError, capabilities
from pyspaces.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


def read(path: str, directory: int | None = None) -> str:
    """Return a whole /proc file as text. Raises KernelError.

    directory: a descriptor of the directory that a relative path is in; None for the working
    directory.
    """
    descriptor = _open(path, os.O_RDONLY, directory)
    try:
        chunks = []
        while chunk := os.read(descriptor, 65536):
            chunks.append(chunk)
        return os.fsdecode(b"".join(chunks))
    except OSError as error:
        raise KernelError(error.errno or 0, "read", [], path) from None
    finally:
        os.close(descriptor)


def _open(path: str, flags: int, directory: int | None = None) -> int:
    try:
        return os.open(path, flags | os.O_CLOEXEC, dir_fd=directory)
    except OSError as error:
        raise KernelError(error.errno or 0, "open", [], path) from None


def write_once(path: str, text: str) -> None:
    """Write `text` with a single write(2), as id maps and sysctls require. Raises KernelError."""
    descriptor = _open(path, os.O_WRONLY)
    try:
        os.write(descriptor, os.fsencode(text))
    except OSError as error:
        raise KernelError(error.errno or 0, "write", [text], path) from None
    finally:
        os.close(descriptor)


def read_or_none(path: str) -> str | None:
    """Return a /proc file without surrounding white space, or None if it cannot be read."""
    try:
        return read(path).strip()
    except KernelError:
        return None


def sysctl(name: str) -> str | None:
    """Return the sysctl `name` (with dots), or None if this kernel does not have it."""
    return read_or_none("/proc/sys/" + name.replace(".", "/"))


def pid_of_pidfd(pidfd: int) -> int:
    """Return the id of the process of `pidfd` in this /proc. Raises KernelError.

    The procfs mounted on /proc may belong to another pid namespace (in a pid namespace without a
    new /proc), in which the number that clone(2) returned is that of another process. fdinfo has
    the number in the pid namespace of the procfs: proc_pid_fdinfo(5).
    """
    return fdinfo_field("Pid", f"/proc/self/fdinfo/{pidfd}")


def fdinfo_field(name: str, path: str, directory: int | None = None) -> int:
    """Return the number `name` of a file in /proc/PID/fdinfo. directory: as for `read`."""
    for line in read(path, directory).splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1])
    raise KernelError(3, "read", [name], path)


def status_field(process: int | str, name: str) -> str | None:
    """Return the field `name` of /proc/PROCESS/status, or None if it cannot be read."""
    return status_fields(process, (name,))[0]


def status_fields(process: int | str, names: Sequence[str]) -> tuple[str | None, ...]:
    """Return several fields of /proc/PROCESS/status, read at once; None for those missing."""
    text = read_or_none(f"/proc/{process}/status") or ""
    found: dict[str, str] = {}
    # Not splitlines(): with a form feed in its name, a process could forge a field.
    for line in text.split("\n"):
        key, _, value = line.partition(":")
        found.setdefault(key, value.strip())
    return tuple(found.get(name) for name in names)


def names_in(directory: str) -> list[str]:
    """Return the names in a directory; none if it cannot be read."""
    try:
        return os.listdir(directory)
    except OSError:
        return []


def parent_of(process: int) -> int:
    """Return the pid of the parent of `process`; 0 if it is not in this pid namespace."""
    return int(status_field(process, "PPid") or "0")


def has_capability(number: int) -> bool:
    """Return whether capability `number` is effective in this process: capabilities(7)."""
    return bool(capabilities()[0] >> number & 1)


def thread_count() -> int | None:
    """Return the number of threads of this process, including those of C libraries, or None."""
    try:
        return os.stat("/proc/self/task").st_nlink - 2
    except OSError:
        return None


class Extent(Record):
    """`count` ids from `inside` on, which are those from `outside` on in the parent namespace."""

    inside: int
    outside: int
    count: int

    def __str__(self) -> str:
        return f"{self.inside} {self.outside} {self.count}"


def to_text(extents: Iterable[Extent]) -> str:
    """Return what is written to /proc/PID/uid_map."""
    return "".join([f"{extent}\n" for extent in extents])


def inside_id(extents: Sequence[Extent]) -> int | None:
    """Return the mapped user's id inside: 0 where that is mapped, else the first; None if bare."""
    if any(extent.inside == 0 for extent in extents):
        return 0
    return extents[0].inside if extents else None


def is_own(extents: Sequence[Extent], own: int) -> bool:
    """Tell whether a map is the one record that an unprivileged writer may write: its own id."""
    return len(extents) == 1 and extents[0].outside == own and extents[0].count == 1


def id_map(kind: str, process: int | str = "self") -> list[tuple[int, int, int]]:
    """Return the (inside, outside, count) rows of a process's uid_map or gid_map.

    kind: `uid_map` or `gid_map`. Raises KernelError.
    """
    rows = []
    for line in read(f"/proc/{process}/{kind}").splitlines():
        inside, outside, count = (int(field) for field in line.split())
        rows.append((inside, outside, count))
    return rows


def stat_fields(process: int | str) -> list[str] | None:
    """Return the fields of /proc/PROCESS/stat after the name, from the state: proc_pid_stat(5).

    None if the process has ended, or cannot be seen.
    """
    text = read_or_none(f"/proc/{process}/stat")
    return text.rpartition(")")[2].split() if text else None


def initial_environment(process: int | str = "self") -> dict[bytes, bytes]:
    """Return the environment with which a process was executed. Raises KernelError."""
    block = os.fsencode(read(f"/proc/{process}/environ"))
    pairs = (entry.partition(b"=") for entry in block.split(b"\0") if b"=" in entry)
    return {name: value for name, _, value in pairs}
