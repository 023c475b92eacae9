"""Launch every operation while another process renames what its paths lead through.

    python renames.py DIRECTORY ROUNDS OPERATION|all [WORD...]

Prints, as JSON, how many launches there were, how many of them failed, and what was found that
should not be. DIRECTORY is a fresh one of the caller's. ROUNDS is how often each operation is
tried, in each of its two forms. WORD is a namespace that each launch has, besides a mount
namespace. As root, the other process is an ordinary user who owns the directories.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import stat
import sys
from pathlib import Path

from pyspaces import launch, settings
from pyspaces.errors import SpaceError
from pyspaces.feature import ORDERED

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

HOST = Path(sys.argv[1]) if len(sys.argv) > 1 else Path()
STRANGER = 65534
_EXCHANGE, _HERE = 2, -100
# `a` is what a target leads through, and `swapped` a link to somewhere else, both in the new root;
# the two change places all the time. So do `source` and a link beside it.
TREE, OUTSIDE = HOST / "tree", HOST / "outside"
SOURCE, TARGET, FILE = str(HOST / "shown" / "source"), "/a/point", "/a/file"
UPPER, WORK = str(HOST / "upper"), str(HOST / "work")
LAYERS = [["overlay-src", SOURCE], ["overlay-src", str(HOST / "layer")]]
# FD stands for a descriptor of SOURCE, DATA for one of a file.
OPERATIONS: dict[str, list[list[str]]] = {
    **{
        name: [[name, SOURCE, TARGET]]
        for way in ("bind", "ro-bind", "dev-bind")
        for name in (way, f"{way}-try")
    },
    "bind-suid": [["bind-suid", SOURCE, TARGET]],
    "bind-fd": [["bind-fd", "FD", TARGET]],
    "ro-bind-fd": [["ro-bind-fd", "FD", TARGET]],
    **{name: [[name, TARGET]] for name in ("tmpfs", "proc", "sysfs", "mqueue", "dev", "mask")},
    "overlay": [*LAYERS, ["overlay", UPPER, WORK, TARGET]],
    "tmp-overlay": [*LAYERS, ["tmp-overlay", TARGET]],
    "ro-overlay": [*LAYERS, ["ro-overlay", TARGET]],
    "dir": [["tmpfs", TARGET], ["dir", f"{TARGET}/made"]],
    "symlink": [["tmpfs", TARGET], ["symlink", "text", f"{TARGET}/made"]],
    "file": [["tmpfs", TARGET], ["file", "DATA", f"{TARGET}/made"]],
    "bind-data": [["bind-data", "DATA", FILE]],
    "ro-bind-data": [["ro-bind-data", "DATA", FILE]],
    "remount-ro": [["tmpfs", TARGET], ["remount-ro", TARGET]],
    "chmod": [["tmpfs", TARGET], ["chmod", "0711", TARGET]],
    "read-only": [["tmpfs", TARGET], ["read-only"]],
}
NEEDED = {"proc": "pid", "sysfs": "net", "mqueue": "ipc"}


def prepare() -> None:
    """Make what is looked through, and what nobody may touch."""
    for directory in (TREE / "a" / "point", TREE / "other" / "point", TREE / "victim", OUTSIDE):
        directory.mkdir(parents=True)
    for directory in (Path(SOURCE), HOST / "layer", Path(UPPER), Path(WORK), OUTSIDE / "point"):
        directory.mkdir(parents=True)
    for directory in (TREE / "a", TREE / "other", OUTSIDE):
        (directory / "file").write_text("of the host")
    for directory in (TREE / "proc", TREE / "dev"):
        directory.mkdir()
    (Path(SOURCE) / "of the source").write_text("of the host")
    (TREE / "swapped").symlink_to("other")
    (HOST / "shown" / "swapped").symlink_to(OUTSIDE)
    for directory in (HOST, *HOST.parents[:2]):
        directory.chmod(0o755)
    if os.geteuid() == 0:
        for path in (TREE, *TREE.rglob("*"), HOST / "shown", Path(SOURCE)):
            os.chown(path, STRANGER, STRANGER, follow_symlinks=False)


def swap_for_ever() -> None:
    """Change both pairs, as fast as it goes, until this process is killed."""
    if os.geteuid() == 0:
        os.setgroups([])
        os.setresgid(STRANGER, STRANGER, STRANGER)
        os.setresuid(STRANGER, STRANGER, STRANGER)
    renameat2 = ctypes.CDLL(None).renameat2
    pairs = [
        tuple(os.fsencode(directory / name) for name in names)
        for directory, names in ((TREE, ("a", "swapped")), (HOST / "shown", ("source", "swapped")))
    ]
    while True:
        for one, other in pairs:
            renameat2(_HERE, one, _HERE, other, _EXCHANGE)


def state() -> dict[str, Any]:
    """Return all that no launch may change, by its place; links and what they lead to aside."""
    found: dict[str, Any] = {"mounts": Path("/proc/self/mountinfo").read_text()}
    for top in (OUTSIDE, TREE / "other", TREE / "victim", HOST / "layer"):
        for path in (top, *sorted(top.rglob("*"))):
            status = os.lstat(path)
            content = path.read_text() if stat.S_ISREG(status.st_mode) else ""
            found[str(path)] = (status.st_mode, status.st_uid, status.st_gid, content)
    return found


def look(name: str) -> list[str]:
    """Say what is wrong inside, in the new process."""
    if not name.startswith("ro-bind") or name.startswith("ro-bind-data"):
        return []
    found = []
    for way in ("/a", "/other", "/swapped"):
        try:
            directory = os.open(f"{way}/point", os.O_RDONLY | os.O_DIRECTORY)
        except OSError:
            continue
        try:
            if "of the source" in os.listdir(directory):
                os.close(os.open("written", os.O_WRONLY | os.O_CREAT, dir_fd=directory))
                found.append("what was bound read-only was written to")
        except OSError:
            continue
        finally:
            os.close(directory)
    return found


def given_word(word: str, opened: list[int]) -> str:
    """Return a word of an operation, with a descriptor for what stands for one."""
    if word == "DATA":
        reading, writing = os.pipe()
        os.write(writing, b"data")
        os.close(writing)
        opened.append(reading)
    elif word == "FD":
        opened.append(os.open(SOURCE, os.O_PATH))
    else:
        return word
    return str(opened[-1])


def launch_one(name: str, given: list[str], *, make: bool) -> tuple[bool, list[str]]:
    """Launch with an operation; return whether it failed, and what was found.

    make: whether something is to be made in a directory of the host afterwards, which is refused.
    """
    opened: list[int] = []
    mounts = [[given_word(word, opened) for word in words] for words in OPERATIONS[name]]
    if make:
        mounts.append(["dir", "/victim/made"])
    needed = [NEEDED[name]] if name in NEEDED else []
    mapping = {"root": str(TREE), "mounts": mounts, **dict.fromkeys([*given, *needed], True)}
    reading, writing = os.pipe()

    def inside() -> None:
        os.write(writing, json.dumps(look(name)).encode())

    try:
        plan = settings.plan_from({**mapping, "mount_proc": False, "command": ["look"]})
        with launch.start(plan, function=inside) as running:
            running.wait()
        os.close(writing)
        writing = -1
        found = json.loads(os.read(reading, 1 << 16) or b'["the function inside failed"]')
        found += ["something was made in a directory of the host"] if make else []
    except SpaceError as error:
        internal = error.report is not None and error.report.internal
        return True, [f"a bug: {error.message}"] if internal or not error.message else []
    finally:
        for descriptor in (reading, writing, *opened):
            if descriptor >= 0:
                os.close(descriptor)
    return False, found


def main() -> None:
    """Try all of them."""
    prepare()
    before = state()
    other = os.fork()
    if other == 0:
        swap_for_ever()
    rounds, given = int(sys.argv[2]), sys.argv[4:]
    names = list(OPERATIONS) if sys.argv[3] == "all" else [sys.argv[3]]
    count, failed, faults = 0, 0, []
    try:
        for name in names:
            for make in (False, True):
                for _ in range(rounds):
                    refused, found = launch_one(name, given, make=make)
                    count, failed = count + 1, failed + refused
                    faults += [f"{name}: {fault}" for fault in found]
            # What is swapped just now has been both, and is no sign of anything.
            after = state()
            faults += [
                f"{name}: {path}: was {before.get(path)}, and is {after.get(path)}"
                for path in {*before, *after}
                if before.get(path) != after.get(path)
            ]
            before = after
    finally:
        os.kill(other, signal.SIGKILL)
        os.waitpid(other, 0)
    print(json.dumps({"count": count, "failed": failed, "faults": sorted(set(faults))}))


if __name__ == "__main__":
    others = {"perms", "size", "noexec", "overlay-src", "host-ro", "throwaway"}
    table = {row.option[2:] for row in settings.SETTINGS if row.kind == ORDERED}
    assert table == {*OPERATIONS, *others}, table ^ {*OPERATIONS, *others}
    main()
