"""Cgroups of processes, the files for joining them, and what a cgroup is asked and told.

cgroups(7), and Documentation/admin-guide/cgroup-v2.rst. A cgroup of version 2 is the path of its
directory.

Runs in any process. Must not know limits or policy.
"""

from __future__ import annotations

import errno
import os
import select
import time

from pyspaces.kernel import constants, mountinfo, nsfs, procfs
from pyspaces.kernel.libc import KernelError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

_KILL_ROUND = 0.02  # seconds, for processes that are killed one by one
_LONGEST_EVENTS = 4096
_MOST_SHOWN = 8  # names of a path in an error
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def cgroups_of(process: int | str) -> list[tuple[str, str]]:
    """Return (controllers, path) of a process's cgroup in each hierarchy; "" for version 2.

    Raises KernelError.
    """
    lines = procfs.read(f"/proc/{process}/cgroup").removesuffix("\n").split("\n")
    rows = [line.split(":", 2) for line in lines]
    return [(row[1], row[2]) for row in rows if len(row) == 3]


def procs_file(controllers: str, path: str) -> str:
    """Return the cgroup.procs file of a cgroup, below the mount point of its hierarchy.

    Raises KernelError (ENOENT) if the hierarchy, or this part of it, is not mounted here.
    """
    kind = "cgroup" if controllers else "cgroup2"
    wanted = frozenset(filter(None, controllers.split(",")))
    for mount in mountinfo.mounts():
        if mount.kind == kind and wanted <= mount.options:
            below = "" if mount.root == "/" else mount.root
            if path == below or path.startswith(below + "/"):
                return os.path.join(mount.point, path[len(below) :].lstrip("/"), "cgroup.procs")
    raise KernelError(errno.ENOENT, "find", [], f"cgroup {controllers}:{path}")


def own() -> str:
    """Return the directory of the cgroup of version 2 of this process.

    Raises KernelError (ENOENT) if version 2 is not mounted here, or not this part of it.
    """
    path = dict(cgroups_of("self")).get("")
    if path is None:
        raise KernelError(errno.ENOENT, "find", [], "a cgroup of version 2")
    file = procs_file("", path)
    if not os.path.exists(file):  # something else is mounted above it
        raise KernelError(errno.ENOENT, "find", [], file)
    return os.path.dirname(file)


def up_from(directory: str) -> Iterator[str]:
    """Yield a directory and those above it, up to the mount point of its hierarchy."""
    points = {mount.point for mount in mountinfo.mounts() if mount.kind == "cgroup2"}
    while True:
        yield directory
        if directory in points or directory == "/":
            return
        directory = os.path.dirname(directory)


def read_or_none(cgroup: str, name: str) -> str | None:
    """Return the text of a file of a cgroup; None if it cannot be read."""
    return procfs.read_or_none(f"{cgroup}/{name}")


def words_of(cgroup: str, name: str) -> list[str]:
    """Return the words of a file of a cgroup; none if it cannot be read."""
    return (read_or_none(cgroup, name) or "").split()


def rows_of(cgroup: str, name: str) -> dict[str, str]:
    """Return a file of lines `KEY VALUE` as a dict; empty if it cannot be read."""
    lines = (read_or_none(cgroup, name) or "").splitlines()
    return {key: value for key, _, value in (line.partition(" ") for line in lines)}


def write(cgroup: str, name: str, text: str) -> None:
    """Write to a file of a cgroup, in one write(2). Raises KernelError naming the file."""
    procfs.write_once(f"{cgroup}/{name}", text)


def create(cgroup: str) -> None:
    """Create a cgroup. Raises KernelError."""
    try:
        os.mkdir(cgroup, 0o755)
    except OSError as error:
        raise KernelError(error.errno or 0, "mkdir", [], cgroup) from None


def open_directory(cgroup: str) -> int:
    """Return a close-on-exec descriptor of a cgroup, for clone3(2). Raises KernelError."""
    try:
        return os.open(cgroup, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise KernelError(error.errno or 0, "open", [], cgroup) from None


def kill(cgroup: str, patience: float) -> bool:
    """Kill all processes in and beneath a cgroup; return whether they have ended in time.

    patience: seconds. By cgroup.kill, since Linux 5.14; before that, one by one.
    """
    deadline = time.monotonic() + patience
    try:
        events = os.open(f"{cgroup}/cgroup.events", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return True  # somebody has removed it, so it was empty
    try:
        poller = select.poll()
        poller.register(events, select.POLLPRI)
        at_once = None
        # A change is reported if it comes after what was read last: so this reads first.
        while b"populated 1" in os.pread(events, _LONGEST_EVENTS, 0):
            left = deadline - time.monotonic()
            if left <= 0:
                return False
            if at_once is None:
                at_once = _kill_at_once(cgroup)
            if not at_once:
                kill_each(cgroup)
                left = min(left, _KILL_ROUND)
            poller.poll(left * 1000 + 1)
    except OSError:  # it is removed meanwhile
        return True
    finally:
        os.close(events)
    return True


def _kill_at_once(cgroup: str) -> bool:
    try:
        write(cgroup, "cgroup.kill", "1")
    except KernelError:
        return False
    return True


def kill_each(cgroup: str) -> None:
    """Kill each process that is found in or beneath a cgroup, without waiting."""
    for here in _within(cgroup):
        directory = f"/proc/self/fd/{here}"
        for word in words_of(directory, "cgroup.procs"):
            try:
                pidfd = nsfs.pidfd_open(int(word))
            except KernelError:
                continue
            try:
                # Still the one that was listed: it is looked up again, by what stands for it.
                if word in words_of(directory, "cgroup.procs"):
                    nsfs.pidfd_send_signal(pidfd, constants.SIGKILL, 0)
            except KernelError:
                continue
            finally:
                os.close(pidfd)


def is_populated(cgroup: str) -> bool:
    """Return whether a process is in or beneath a cgroup; of version 1, which has no such event."""
    return any(words_of(f"/proc/self/fd/{here}", "cgroup.procs") for here in _within(cgroup))


def remove(path: str) -> None:
    """Remove a cgroup and those beneath it, none of which may have processes: rmdir(2).

    Raises KernelError naming the first that cannot be removed; one that is not there is fine. Goes
    step by step: a command can create more in each other than a path can name.
    """
    names: list[str] = []
    try:
        here = os.open(path, _DIRECTORY)
    except FileNotFoundError:
        return
    except OSError as error:
        raise KernelError(error.errno or 0, "open", [], path) from None
    try:
        while True:
            if name := _first_beneath(here):
                names.append(name)
                there = os.open(name, _DIRECTORY, dir_fd=here)
            elif names:
                there = os.open("..", _DIRECTORY, dir_fd=here)
            else:
                break
            os.close(here)
            here = there
            if not name:
                os.rmdir(names[-1], dir_fd=here)
                names.pop()
        os.rmdir(path)
    except FileNotFoundError:  # somebody else removes it
        return
    except OSError as error:
        shown = "/".join([path, *names[:_MOST_SHOWN]])
        raise KernelError(error.errno or 0, "rmdir", [], shown) from None
    finally:
        os.close(here)


def _first_beneath(directory: int) -> str:
    """Return the name of a cgroup in this one. Not by all names: it is asked for each of them."""
    with os.scandir(directory) as entries:
        return next((one.name for one in entries if one.is_dir(follow_symlinks=False)), "")


def _names_beneath(directory: int) -> list[str]:
    try:
        with os.scandir(directory) as entries:
            return [one.name for one in entries if one.is_dir(follow_symlinks=False)]
    except OSError:  # it was removed
        return []


def _within(cgroup: str) -> Iterator[int]:
    """Yield a descriptor of a cgroup, and of each beneath it, which is closed at the next one.

    Step by step, as `remove` goes. What is removed meanwhile, or cannot be opened, is left out.
    """
    try:
        here = os.open(cgroup, _DIRECTORY)
    except OSError:
        return
    try:
        yield here
        left = [_names_beneath(here)]
        while left[0] or left[1:]:
            name = left[-1].pop() if left[-1] else ".."
            try:
                there = os.open(name, _DIRECTORY, dir_fd=here)
            except OSError:
                if name == "..":  # the whole branch was removed
                    return
                continue
            os.close(here)
            here = there
            if name == "..":
                left.pop()
                continue
            yield here
            left.append(_names_beneath(here))
    finally:
        os.close(here)
