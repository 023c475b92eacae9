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


_TRY = "like the option without -try, but ignored if SRC does not exist"

ROWS = (
    Setting(
        name="root",
        short="-R",
        kind=VALUE,
        group=MOUNTS,
        metavar="DIR",
        directory=True,
        implies=("mount",),
        help="use DIR as the root directory",
    ),
    Setting(
        name="empty_root",
        kind=FLAG,
        group=MOUNTS,
        implies=("mount",),
        help="start with an empty tmpfs as the root directory",
    ),
    _row(
        "host_ro",
        "",
        "show the host's programs and /etc read-only, with /dev, /proc and /tmp, on an empty root",
    ),
    _row("throwaway", "", "show the host's file systems, and discard all changes at the end"),
    _row("read_only", "", "make everything mounted so far read-only, including submounts"),
    _row("bind", "SRC DST", "bind mount SRC on DST, including what is mounted below it"),
    _row("ro_bind", "SRC DST", "like --bind, read-only"),
    _row("dev_bind", "SRC DST", "like --bind, with access to device files"),
    _row("bind_suid", "SRC DST", "like --bind, with set-user-ID programs enabled"),
    _row("bind_try", "SRC DST", _TRY),
    _row("ro_bind_try", "SRC DST", _TRY),
    _row("dev_bind_try", "SRC DST", _TRY),
    _row("bind_fd", "FD DST", "bind mount the file or directory open as FD on DST"),
    _row("ro_bind_fd", "FD DST", "like --bind-fd, read-only"),
    _row("tmpfs", "DST", "mount a tmpfs on DST (--size, --perms)"),
    _row("proc", "DST", "mount a procfs on DST: a new one with --pid, else the caller's /proc"),
    _row("dev", "DST", "set up a minimal /dev on DST, with its own terminals and shared memory"),
    _row("sysfs", "DST", "mount a sysfs on DST; requires --net"),
    _row(
        "mqueue", "DST", "mount the message queues of the new IPC namespace on DST; requires --ipc"
    ),
    _row("dir", "DST", "create the directory DST if it is missing (--perms)"),
    _row("symlink", "TEXT DST", "create a symbolic link to TEXT at DST"),
    _row("file", "FD DST", "create the file DST with what is read from FD (--perms)"),
    _row("bind_data", "FD DST", "bind mount a file with what is read from FD on DST (--perms)"),
    _row("ro_bind_data", "FD DST", "like --bind-data, read-only"),
    _row("remount_ro", "DST", "make the mount on DST read-only, but not those below it"),
    _row("chmod", "MODE DST", "change the mode of DST, which an earlier option has created"),
    _row("mask", "PATH", "hide PATH: files read empty, directories appear empty; * and ? match"),
    _row(
        "overlay_src",
        "DIR",
        "add DIR as a layer of the next overlay option; repeatable, lowest first",
    ),
    _row("overlay", "UPPER WORK DST", "mount an overlay on DST; changes go to UPPER"),
    _row(
        "tmp_overlay", "DST", "mount an overlay on DST; changes are discarded at the end (--size)"
    ),
    Setting(
        name="overlay_diff",
        kind=VALUE,
        group=MOUNTS,
        metavar="FILE",
        help="write a list of the discarded changes to FILE; as JSON if it ends in .json",
    ),
    _row("ro_overlay", "DST", "mount a read-only overlay of two or more layers on DST"),
    _row("size", "BYTES", "size limit for what the next option mounts, such as 512M"),
    _row("perms", "MODE", "octal mode for what the next option creates"),
)
