"""Read files in /proc, and write those that require a single write.

Runs in any process. Must not know what the values are used for.
"""

from __future__ import annotations

import os
import sys

from pyspaces.kernel.libc import KernelError, capabilities, mount_id, overwrite
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
    return _fdinfo("Pid", f"/proc/self/fdinfo/{pidfd}")


def _fdinfo(name: str, path: str, directory: int | None = None) -> int:
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


def has_signalfd(process: int, number: int) -> bool:
    """Return whether a process has a signalfd for signal `number`; False if it cannot be read."""
    for name in names_in(f"/proc/{process}/fdinfo"):
        for line in (read_or_none(f"/proc/{process}/fdinfo/{name}") or "").split("\n"):
            if line.startswith("sigmask:") and int(line.split()[1], 16) >> (number - 1) & 1:
                return True
    return False


def is_in_sigwait(process: int, number: int) -> bool:
    """Return whether a thread of a process waits for signal `number` in sigwait(3) or the like.

    If the set of signals cannot be read, any such wait counts.
    """
    for thread in names_in(f"/proc/{process}/task"):
        base = f"/proc/{process}/task/{thread}"
        if "sigtimedwait" in (read_or_none(f"{base}/wchan") or ""):
            waited = _set_of_sigwait(base)
            if waited is None or waited >> (number - 1) & 1:
                return True
    return False


def _set_of_sigwait(base: str) -> int | None:
    """Return the set, the first argument of the call, as a mask; None if it cannot be read."""
    fields = (read_or_none(f"{base}/syscall") or "").split()
    if len(fields) < 2:  # "running": the call has returned
        return None
    try:
        with open(f"{base}/mem", "rb", buffering=0) as memory:
            return int.from_bytes(os.pread(memory.fileno(), 8, int(fields[1], 16)), sys.byteorder)
    except (OSError, OverflowError):
        return None


def names_in(directory: str) -> list[str]:
    """Return the names in a directory; none if it cannot be read."""
    try:
        return os.listdir(directory)
    except OSError:
        return []


def parent_of(process: int) -> int:
    """Return the pid of the parent of `process`; 0 if it is not in this pid namespace."""
    return int(status_field(process, "PPid") or "0")


def children_of(process: int) -> list[int]:
    """Return the ids of the children of a process in this /proc."""
    lists = [
        read_or_none(f"/proc/{process}/task/{thread}/children")
        for thread in names_in(f"/proc/{process}/task")
    ]
    if None not in lists:
        return [int(child) for text in lists for child in (text or "").split()]
    # A kernel without CONFIG_PROC_CHILDREN, or a thread that has just ended.
    return [child for child in processes() if parent_of(child) == process]


def peak_memory(process: int) -> int:
    """Return the maximum resident memory of `process` in bytes; 0 if unknown."""
    return int((status_field(process, "VmHWM") or "0").split()[0]) * 1024


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


def mount_number(descriptor: int, fdinfo: int | None = None) -> int:
    """Return the id of the mount that a descriptor of this process is on. Raises KernelError.

    fdinfo: a descriptor of /proc/self/fdinfo, if that cannot be reached by its path any more. It is
    used only if statx(2) has no mount id, before Linux 5.8.
    """
    if (number := mount_id(descriptor)) is not None:
        return number
    path = str(descriptor) if fdinfo is not None else f"/proc/self/fdinfo/{descriptor}"
    return _fdinfo("mnt_id", path, fdinfo)


def processes() -> list[int]:
    """Return the ids of all processes in this /proc, in ascending order."""
    return sorted(int(name) for name in os.listdir("/proc") if name.isdecimal())


def stat_fields(process: int | str) -> list[str] | None:
    """Return the fields of /proc/PROCESS/stat after the name, from the state: proc_pid_stat(5).

    None if the process has ended, or cannot be seen.
    """
    text = read_or_none(f"/proc/{process}/stat")
    return text.rpartition(")")[2].split() if text else None


def start_time(process: int | str) -> int | None:
    """Return the start time of a process in clock ticks since boot; None if it has ended.

    Together with the pid, it identifies a process. It depends on the reader's time namespace.
    """
    fields = stat_fields(process)
    return int(fields[19]) if fields else None


def has_ended(process: int | str) -> bool:
    """Return whether a process has ended, even if nobody has reaped it, or cannot be seen."""
    fields = stat_fields(process)
    return fields is None or fields[0] in "ZX"


def image_of(process: int | str) -> object:
    """Return what is another value after each execve(2) of a process; None if it has ended."""
    fields = stat_fields(process)
    # The address of its stack; 0 for whoever may not trace it, who has to do with the words.
    return fields and (fields[25] if fields[25] != "0" else words_of(process))


def words_of(process: int | str) -> list[str]:
    """Return the command line of a process; empty for kernel threads and zombies."""
    text = read_or_none(f"/proc/{process}/cmdline")
    return text.rstrip("\0").split("\0") if text else []


def initial_environment(process: int | str = "self") -> dict[bytes, bytes]:
    """Return the environment with which a process was executed. Raises KernelError."""
    block = os.fsencode(read(f"/proc/{process}/environ"))
    pairs = (entry.partition(b"=") for entry in block.split(b"\0") if b"=" in entry)
    return {name: value for name, _, value in pairs}


def erase_initial_environment() -> None:
    """Zero the memory that /proc/PID/environ of this process shows.

    os.environ is a copy, and does not change. prctl(PR_SET_MM) would require CAP_SYS_RESOURCE.
    """
    for start, end in visible_memory()[1:]:
        overwrite(start, end - start)


def forget_variables() -> None:
    """Zero the values of os.environ in place, in a process that does not need them any more.

    All references to these objects see that. Objects of one byte are left out, because the whole
    interpreter shares them.
    """
    for value in os.environb.values():
        if len(value) > 1:
            overwrite(id(value) + bytes.__basicsize__ - 1, len(value))


def visible_memory() -> tuple[tuple[int, int], ...]:
    """Return the addresses (start, end) of this process's command line and of its environment.

    Fields 48 to 51 of /proc/self/stat: arg_start, arg_end, env_start and env_end, which are what
    /proc/PID/cmdline and environ show, proc_pid_stat(5). Empty if they are hidden.
    """
    fields = read("/proc/self/stat").rpartition(")")[2].split()
    numbers = [int(field) for field in fields[45:49]]
    pairs = ((numbers[0], numbers[1]), (numbers[2], numbers[3]))
    return pairs if all(0 < start <= end for start, end in pairs) else ()
