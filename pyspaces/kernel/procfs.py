"""/proc: parse its files, and write those that take exactly one write.

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

    directory: a descriptor of where a relative path begins; None for the working directory.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC, dir_fd=directory)
    except OSError as error:
        raise KernelError(error.errno or 0, "open", [], path) from None
    try:
        chunks = []
        while chunk := os.read(descriptor, 65536):
            chunks.append(chunk)
        return os.fsdecode(b"".join(chunks))
    except OSError as error:
        raise KernelError(error.errno or 0, "read", [], path) from None
    finally:
        os.close(descriptor)


def write_once(path: str, text: str) -> None:
    """Write `text` with a single write(2), as id maps and sysctls require. Raises KernelError."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    except OSError as error:
        raise KernelError(error.errno or 0, "open", [], path) from None
    try:
        os.write(descriptor, os.fsencode(text))
    except OSError as error:
        raise KernelError(error.errno or 0, "write", [text], path) from None
    finally:
        os.close(descriptor)


def read_or_none(path: str) -> str | None:
    """Return a /proc file stripped of white space, or None where it cannot be read."""
    try:
        return read(path).strip()
    except KernelError:
        return None


def sysctl(name: str) -> str | None:
    """Return the sysctl `name` (written with dots), or None where this kernel has none."""
    return read_or_none("/proc/sys/" + name.replace(".", "/"))


def pid_of_pidfd(pidfd: int) -> int:
    """Return the process behind `pidfd` as this /proc numbers it.

    The procfs mounted on /proc may belong to another pid namespace than ours (a pid namespace
    without a fresh /proc); the number that clone(2) returned would name a stranger there.
    fdinfo counts in the namespace of the procfs instance that is read: proc_pid_fdinfo(5).
    """
    path = f"/proc/self/fdinfo/{pidfd}"
    for line in read(path).splitlines():
        if line.startswith("Pid:"):
            return int(line.split()[1])
    raise KernelError(3, "read", ["Pid"], path)


def status_field(process: int | str, name: str) -> str | None:
    """Return the field `name` of /proc/PROCESS/status, or None where it cannot be read."""
    return status_fields(process, (name,))[0]


def status_fields(process: int | str, names: Sequence[str]) -> tuple[str | None, ...]:
    """Return several fields of one reading, each None where it cannot be read."""
    text = read_or_none(f"/proc/{process}/status") or ""
    found: dict[str, str] = {}
    # Not splitlines(): the name of a process may hold a form feed, and forge a field with it.
    for line in text.split("\n"):
        key, _, value = line.partition(":")
        found.setdefault(key, value.strip())
    return tuple(found.get(name) for name in names)


def has_signalfd(process: int, number: int) -> bool:
    """Tell whether a process reads signal `number` from a signalfd; False where that is hidden."""
    for name in names_in(f"/proc/{process}/fdinfo"):
        for line in (read_or_none(f"/proc/{process}/fdinfo/{name}") or "").split("\n"):
            if line.startswith("sigmask:") and int(line.split()[1], 16) >> (number - 1) & 1:
                return True
    return False


def is_in_sigwait(process: int, number: int) -> bool:
    """Tell whether a thread of a process is in sigwait(3) or its kin for signal `number`.

    Where the set of signals cannot be read, any wait is taken for one.
    """
    for thread in names_in(f"/proc/{process}/task"):
        base = f"/proc/{process}/task/{thread}"
        if "sigtimedwait" in (read_or_none(f"{base}/wchan") or ""):
            waited = _set_of_sigwait(base)
            if waited is None or waited >> (number - 1) & 1:
                return True
    return False


def _set_of_sigwait(base: str) -> int | None:
    """Return the set, the first argument of the call, as a mask; None where it is hidden."""
    fields = (read_or_none(f"{base}/syscall") or "").split()
    if len(fields) < 2:  # "running": it is not in the call any more
        return None
    try:
        with open(f"{base}/mem", "rb", buffering=0) as memory:
            return int.from_bytes(os.pread(memory.fileno(), 8, int(fields[1], 16)), sys.byteorder)
    except (OSError, OverflowError):
        return None


def names_in(directory: str) -> list[str]:
    """Return what a directory holds; nothing where it cannot be read."""
    try:
        return os.listdir(directory)
    except OSError:
        return []


def parent_of(process: int) -> int:
    """Return the pid of the parent of `process`; 0 where it is out of sight."""
    return int(status_field(process, "PPid") or "0")


def children_of(process: int) -> list[int]:
    """Return the children of a process, as this /proc numbers them."""
    lists = [
        read_or_none(f"/proc/{process}/task/{thread}/children")
        for thread in names_in(f"/proc/{process}/task")
    ]
    if None not in lists:
        return [int(child) for text in lists for child in (text or "").split()]
    # A kernel without CONFIG_PROC_CHILDREN, or a thread that has just ended.
    return [child for child in processes() if parent_of(child) == process]


def peak_memory(process: int) -> int:
    """Return the most memory, in bytes, that `process` has had resident; 0 if unknown."""
    return int((status_field(process, "VmHWM") or "0").split()[0]) * 1024


def has_capability(number: int) -> bool:
    """Tell whether capability `number` is effective in this process: capabilities(7)."""
    return bool(capabilities()[0] >> number & 1)


def thread_count() -> int | None:
    """Return how many threads this process has, those of C libraries included; None if unknown."""
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
    """Return the (inside, outside, count) rows of a process's uid_map or gid_map."""
    rows = []
    for line in read(f"/proc/{process}/{kind}").splitlines():
        inside, outside, count = (int(field) for field in line.split())
        rows.append((inside, outside, count))
    return rows


def mount_number(descriptor: int, fdinfo: int | None = None) -> int:
    """Return the id of the mount that a descriptor of this process is on. Raises KernelError.

    fdinfo: a descriptor of /proc/self/fdinfo where the path may not lead there any more. Only
    kernels whose statx(2) does not know are asked there.
    """
    if (number := mount_id(descriptor)) is not None:
        return number
    path = str(descriptor) if fdinfo is not None else f"/proc/self/fdinfo/{descriptor}"
    for line in read(path, fdinfo).splitlines():
        if line.startswith("mnt_id:"):
            return int(line.split()[1])
    raise KernelError(3, "read", ["mnt_id"], path)


def processes() -> list[int]:
    """Return the ids of all processes that this /proc shows, in their order."""
    return sorted(int(name) for name in os.listdir("/proc") if name.isdecimal())


def stat_fields(process: int | str) -> list[str] | None:
    """Return the fields of /proc/PROCESS/stat behind the name, the state first: proc_pid_stat(5).

    None where the process has gone, or cannot be seen.
    """
    text = read_or_none(f"/proc/{process}/stat")
    return text.rpartition(")")[2].split() if text else None


def start_time(process: int | str) -> int | None:
    """Return when a process started, in clock ticks since boot; None where it has gone.

    Together with the pid it names a process for good. The reader's time namespace shifts it.
    """
    fields = stat_fields(process)
    return int(fields[19]) if fields else None


def words_of(process: int | str) -> list[str]:
    """Return the command line of a process; a kernel thread or a zombie has none."""
    text = read_or_none(f"/proc/{process}/cmdline")
    return text.rstrip("\0").split("\0") if text else []


def initial_environment(process: int | str = "self") -> dict[bytes, bytes]:
    """Return the environment that a process was executed with. Raises KernelError."""
    block = os.fsencode(read(f"/proc/{process}/environ"))
    pairs = (entry.partition(b"=") for entry in block.split(b"\0") if b"=" in entry)
    return {name: value for name, _, value in pairs}


def erase_initial_environment() -> None:
    """Zero the memory that /proc/PID/environ of this process shows.

    os.environ is a copy and stays. Forgetting the block by prctl(PR_SET_MM) would need
    CAP_SYS_RESOURCE.
    """
    for start, end in visible_memory()[1:]:
        overwrite(start, end - start)


def forget_variables() -> None:
    """Zero the environment that this interpreter has read, in a process that needs it no more.

    The values are the same objects wherever they have been handed on to. An object of one byte is
    shared with everything.
    """
    for value in os.environb.values():
        if len(value) > 1:
            overwrite(id(value) + bytes.__basicsize__ - 1, len(value))


def visible_memory() -> tuple[tuple[int, int], ...]:
    """Return where (start, end) this process's command line and its environment are in memory.

    Fields 48 to 51 of /proc/self/stat are arg_start, arg_end, env_start and env_end: they are what
    /proc/PID/cmdline and environ show, proc_pid_stat(5). Empty where they are not shown.
    """
    fields = read("/proc/self/stat").rpartition(")")[2].split()
    numbers = [int(field) for field in fields[45:49]]
    pairs = ((numbers[0], numbers[1]), (numbers[2], numbers[3]))
    return pairs if all(0 < start <= end for start, end in pairs) else ()
