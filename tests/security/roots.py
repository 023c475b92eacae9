"""Launch every operation on "/" over every kind of root, and look from inside for the old one.

    python roots.py DIRECTORY few|all [WORD...]

Prints, as JSON, how many launches there were, how many of them were refused, how many of those for
a call that is not there (ENOSYS), and what was found that should not be. DIRECTORY is a fresh one
of the caller's. `few` are each operation alone and twice over the caller's root, and each alone
over one of the others; `all` has each over each root, and each two in both orders. WORD is a
namespace that each launch has, besides a mount namespace.
The function that looks is called in the new process in place of a command, so that roots without
any program can be looked at too.
"""

from __future__ import annotations

import ctypes
import errno
import itertools
import json
import os
import stat
import struct
import sys
from pathlib import Path

from pyspaces import launch, settings
from pyspaces.errors import SpaceError
from pyspaces.feature import ORDERED
from pyspaces.kernel import constants, libc

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

_statx = ctypes.CDLL(None).statx
HOST = Path(sys.argv[1]) if len(sys.argv) > 1 else Path()
TREE, OTHER, UPPER, WORK = (str(HOST / name) for name in ("tree", "other", "upper", "work"))
LAYERS = [["overlay-src", TREE], ["overlay-src", OTHER]]
# One row for each operation that a target can be given to: what is written before it, and it.
# FD stands for a descriptor of TREE.
OPERATIONS: dict[str, list[list[str]]] = {
    "bind": [["bind", TREE, "/"]],
    "ro-bind": [["ro-bind", TREE, "/"]],
    "dev-bind": [["dev-bind", TREE, "/"]],
    "bind-suid": [["bind-suid", TREE, "/"]],
    "bind-try": [["bind-try", TREE, "/"]],
    "ro-bind-try": [["ro-bind-try", TREE, "/"]],
    "dev-bind-try": [["dev-bind-try", TREE, "/"]],
    "bind-fd": [["bind-fd", "FD", "/"]],
    "ro-bind-fd": [["ro-bind-fd", "FD", "/"]],
    "tmpfs": [["tmpfs", "/"]],
    "proc": [["proc", "/"]],
    "sysfs": [["sysfs", "/"]],
    "mqueue": [["mqueue", "/"]],
    "dev": [["dev", "/"]],
    "overlay": [*LAYERS, ["overlay", UPPER, WORK, "/"]],
    "tmp-overlay": [*LAYERS, ["tmp-overlay", "/"]],
    "ro-overlay": [*LAYERS, ["ro-overlay", "/"]],
    # These cover nothing.
    "dir": [["dir", "/"]],
    "remount-ro": [["remount-ro", "/"]],
    "chmod": [["tmpfs", "/"], ["chmod", "0755", "/"]],
}
# These cannot have the root as their target, and are refused.
REFUSED = ("symlink", "mask", "file", "bind-data", "ro-bind-data")
COVERING = [name for name in OPERATIONS if name not in ("dir", "remount-ro", "chmod")]
ROOTS: dict[str, dict[str, Any]] = {
    "the caller's": {},
    "empty-root": {"empty_root": True},
    "root": {"root": TREE},
    "host-ro": {"mounts": [["host-ro"]]},
    "throwaway": {"mounts": [["throwaway"]]},
    "read-only": {"mounts": [["read-only"]]},
}


def mount_id(path: str) -> int:
    """Return the id of the mount that `path` leads to: statx(2), without help of the product."""
    room = ctypes.create_string_buffer(256)
    assert _statx(-100, path.encode(), 0, 0x1000, room) == 0, path
    return int(struct.unpack_from("Q", room, 144)[0])


def look(launcher: int, inherited: list[int]) -> dict[str, Any]:
    """Say what can be seen from inside, in the new process."""
    faults = []
    if mount_id("/") != mount_id("/.."):
        faults.append("/.. is another mount than /")
    # Not every field: the link count of a procfs is the number of processes of the whole host.
    alike = os.path.samestat(os.stat("/"), os.stat("/.."))
    if not alike or sorted(os.listdir("/")) != sorted(os.listdir("/..")):
        faults.append("/.. is another directory than /")
    # What is there by its plain path has been asked for.
    shown = HOST.exists()
    ways = [f"{up}{HOST}/reached" for up in ("/..", "/../..", "/proc/1/../..")]
    faults += [f"wrote {path}" for path in ways if can(Path(path).write_text, "x") and not shown]
    links = [f"/proc/{launcher}/{name}" for name in ("root", "cwd")]
    faults += [f"{path} of the launcher can be listed" for path in links if can(os.listdir, path)]
    ours = [number for number in range(3, 256) if number not in inherited and can(os.fstat, number)]
    faults += [f"descriptor {n} is a directory" for n in ours if stat.S_ISDIR(os.fstat(n).st_mode)]
    if not can(libc.unshare, constants.CLONE_NEWUSER):
        faults.append("no user namespace can be made")
    return {"faults": faults, "shown": shown}


def can(act: Callable[[Any], object], argument: object) -> bool:
    """Try something, and tell whether the kernel allowed it."""
    try:
        act(argument)
    except OSError:
        return False
    return True


def rows_of(pid: int) -> list[tuple[str, str]]:
    """Return mount point and type of each mount that the process sees."""
    lines = Path(f"/proc/{pid}/mountinfo").read_text().splitlines()
    halves = (line.split(" - ") for line in lines)
    return [(before.split()[4], after.split()[0]) for before, after in halves]


def launch_one(root: str, names: tuple[str, ...], namespaces: dict[str, bool]) -> list[str]:
    """Launch with these operations over this root; return what was found."""
    opened: list[int] = []
    mounts: list[list[str]] = list(ROOTS[root].get("mounts", []))
    for words_of_one in itertools.chain.from_iterable(OPERATIONS[name] for name in names):
        if "FD" in words_of_one:
            opened.append(os.open(TREE, os.O_PATH | os.O_DIRECTORY))
        mounts.append([str(opened[-1]) if word == "FD" else word for word in words_of_one])
    for name in (UPPER, WORK):
        Path(name).mkdir(exist_ok=True)
    mapping = {**ROOTS[root], **namespaces, "mounts": mounts, "mount": True, "command": ["look"]}
    plan = settings.plan_from(mapping)
    inherited = [int(name) for name in os.listdir("/proc/self/fd")]
    (asking, answering), (told_reading, told_writing) = os.pipe(), os.pipe()
    launcher = os.getpid()

    def inside() -> None:
        told = json.dumps(look(launcher, [*inherited, asking, answering])).encode()
        os.write(told_writing, told)
        os.close(told_writing)
        os.read(asking, 1)

    try:
        with launch.start(plan, function=inside) as running:
            os.close(told_writing)
            told_writing = -1
            told = os.read(told_reading, 1 << 16)
            rows = rows_of(running.pid)
            os.write(answering, b"\0")
            running.wait()
    finally:
        for descriptor in (asking, answering, told_reading, told_writing, *opened):
            if descriptor >= 0:
                os.close(descriptor)
    if not told:
        return ["the function inside failed"]
    answer = json.loads(told)
    found: list[str] = answer["faults"]
    if (HOST / "reached").exists():
        (HOST / "reached").unlink()
        if not answer["shown"] or root == "throwaway":
            found.append("the host's file was written")
    return found + (left_over(rows, names[-1]) if names[-1] in COVERING else [])


def left_over(rows: list[tuple[str, str]], last: str) -> list[str]:
    """Say what is mounted beneath a root that has covered everything before it."""
    # What a set adds, and what closes parts of /proc and /sys.
    allowed = ("/dev/", "/proc/", "/sys/")
    found = [
        f"{kind} on {point} was not asked for"
        for point, kind in rows
        if point not in ("/", "/dev", "/proc")
        and not point.startswith(allowed)
        # These are the root itself.
        and last not in ("dev", "proc", "sysfs")
    ]
    if (top := [point for point, _ in rows].count("/")) != 1:
        found.append(f"there are {top} mounts on /")
    return found


def namespaces_for(names: tuple[str, ...], given: list[str]) -> dict[str, bool]:
    """Return the namespaces that operations need besides those given."""
    needed = {"sysfs": "net", "mqueue": "ipc", "proc": "pid"}
    return dict.fromkeys([*given, *(needed[name] for name in names if name in needed)], True)


def rounds_of(extent: str) -> list[tuple[str, tuple[str, ...]]]:
    """Return what is launched: a kind of root, and the operations over it."""
    alone: list[tuple[str, ...]] = [(name,) for name in OPERATIONS]
    twice: list[tuple[str, ...]] = [(name, name) for name in COVERING]
    if extent == "few":
        first, *others = ROOTS
        turns = zip(itertools.cycle(others), alone, strict=False)
        return [*((first, names) for names in [*alone, *twice]), *turns]
    # Each kind of root alone with each operation, and all pairs over one of them.
    several = [*itertools.product(COVERING, repeat=2), *((name,) * 3 for name in COVERING)]
    rounds: list[tuple[str, tuple[str, ...]]] = [(root, names) for root in ROOTS for names in alone]
    rounds += [("the caller's", names) for names in several]
    return rounds + [(root, names) for root in ROOTS for names in twice]


def main() -> None:
    """Launch what was asked for, and print what was found."""
    for name in (TREE, OTHER, UPPER, WORK):
        Path(name).mkdir()
    for name in ("proc", "dev"):
        (Path(TREE) / name).mkdir()
        (Path(OTHER) / name).mkdir()
    count, faults, refused, lacking = 0, [], 0, 0
    extent, *given = sys.argv[2:]
    for root, names in rounds_of(extent):
        namespaces = namespaces_for(names, given)
        label = f"{root}: {', '.join(names)}"
        count += 1
        try:
            found = launch_one(root, names, namespaces)
        except SpaceError as error:
            # The kernel mounts no sysfs over itself, and in a procfs there is no place for another.
            refused += 1
            if error.report and error.report.errno == errno.ENOSYS:
                lacking += 1
                continue
            # In an empty root that has become read-only, no directory for /proc can be made.
            if not {"proc", "sysfs", "mqueue", "remount-ro"}.intersection(names):
                faults.append(f"{label}: {error.message}")
        else:
            faults += [f"{label}: {fault}" for fault in found]
    print(json.dumps({"count": count, "refused": refused, "lacking": lacking, "faults": faults}))


if __name__ == "__main__":
    # Every operation of the table of settings is looked at, or named as one without a target.
    others = {"perms", "size", "noexec", "overlay-src", "read-only", "host-ro", "throwaway"}
    table = {row.option[2:] for row in settings.SETTINGS if row.kind == ORDERED}
    assert table == {*OPERATIONS, *REFUSED, *others}, table ^ {*OPERATIONS, *REFUSED, *others}
    main()
