"""The rows of the table of settings that say what the command sees of the file system.

Pure; runs in any process. Those of the kind ORDERED are operations, carried out in the order in
which they are written: in a mapping they stand in one list, `mounts`.
"""

from __future__ import annotations

from pyspaces.settings.shape import FLAG, MOUNTS, ORDERED, VALUE, Setting


def _row(name: str, metavar: str, text: str) -> Setting:
    return Setting(
        name=name, kind=ORDERED, group=MOUNTS, metavar=metavar, implies=("mount",), help=text
    )


_TRY = "the same, or nothing where SRC does not exist"

ROWS = (
    Setting(
        name="root",
        short="-R",
        kind=VALUE,
        group=MOUNTS,
        metavar="DIR",
        directory=True,
        implies=("mount",),
        help="DIR is the root directory inside; the old root is out of reach",
    ),
    Setting(
        name="empty_root",
        kind=FLAG,
        group=MOUNTS,
        implies=("mount",),
        help="the root directory inside begins as an empty tmpfs",
    ),
    _row(
        "host_ro",
        "",
        "an empty root with the host's programs and /etc read-only, /dev, /proc, /tmp",
    ),
    _row("throwaway", "", "the host's whole tree, and whatever is changed in it vanishes"),
    _row("read_only", "", "everything so far becomes read-only, all submounts included"),
    _row("bind", "SRC DST", "SRC, with what is mounted beneath it, is DST inside"),
    _row("ro_bind", "SRC DST", "the same, read-only"),
    _row("dev_bind", "SRC DST", "the same as --bind, and device files can be used"),
    _row("bind_suid", "SRC DST", "the same as --bind, and set-user-ID programs work"),
    _row("bind_try", "SRC DST", _TRY),
    _row("ro_bind_try", "SRC DST", _TRY),
    _row("dev_bind_try", "SRC DST", _TRY),
    _row("bind_fd", "FD DST", "the file or folder open as FD is DST inside"),
    _row("ro_bind_fd", "FD DST", "the same, read-only"),
    _row("tmpfs", "DST", "an empty file system in memory on DST (--size, --perms)"),
    _row("proc", "DST", "a procfs on DST, a fresh one with --pid; else the caller's /proc"),
    _row("dev", "DST", "a small /dev on DST, with terminals and shared memory of its own"),
    _row("sysfs", "DST", "a fresh sysfs on DST; needs --net"),
    _row("mqueue", "DST", "the message queues of the new IPC namespace on DST; needs --ipc"),
    _row("dir", "DST", "a folder, where it is missing (--perms)"),
    _row("symlink", "TEXT DST", "a symbolic link at DST that says TEXT"),
    _row("file", "FD DST", "a file with what can be read from FD (--perms)"),
    _row("bind_data", "FD DST", "the same, bound over DST (--perms)"),
    _row("ro_bind_data", "FD DST", "the same, read-only"),
    _row("remount_ro", "DST", "the mount on DST becomes read-only, without those beneath it"),
    _row("chmod", "MODE DST", "set the mode of what the options before have made"),
    _row("mask", "PATH", "a file is empty, a folder too; PATH may hold * and ?"),
    _row("overlay_src", "DIR", "a layer of the overlay that follows; repeatable, the lowest first"),
    _row("overlay", "UPPER WORK DST", "DST is UPPER over the layers: changes go to UPPER"),
    _row("tmp_overlay", "DST", "DST is the layers, and what is changed there vanishes (--size)"),
    Setting(
        name="overlay_diff",
        kind=VALUE,
        group=MOUNTS,
        metavar="FILE",
        help="after the end, write to FILE what was changed there; JSON where it ends in .json",
    ),
    _row("ro_overlay", "DST", "DST is the layers, two or more, read-only"),
    _row("size", "BYTES", "how large the next option's file system may become, such as 512M"),
    _row("perms", "MODE", "the mode of what the next option makes, octal"),
)
