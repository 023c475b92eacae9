"""The keywords of Container and Inject, as type checkers read them: a row for each.

For annotations: nothing here is needed at run time; `space.plan_of` and `visit` read the values. A
program that passes settings on can annotate them, too: `def start(**space: Unpack[Space])`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from os import PathLike
from typing import IO, TypedDict

from pyspaces.features.ids.idmap import Extent
from pyspaces.mounts.operations import Operation

Words = str | Sequence[str] | Set[str]
Path = str | PathLike[str]
Record = tuple[int, int, int] | Extent
IdMap = bool | int | str | Record | Sequence[bool | int | str | Record] | None


class Namespaces(TypedDict, total=False):
    """What Inject and setns take, too."""

    user: bool
    pid: bool
    net: bool
    mount: bool
    uts: bool
    ipc: bool
    cgroup: bool
    time: bool
    all: bool


class Common(Namespaces, total=False):
    """What Container, Chroot and get_context all take."""

    share: Words
    join: Words
    keep: Words
    uid_map: IdMap
    gid_map: IdMap
    map_root: bool
    map_current: bool
    map_auto: bool
    setgroups: str | None
    setuid: int | str | None
    setgid: int | str | None
    groups: int | str | Sequence[int | str] | None
    keep_caps: bool
    cap_drop: Words
    cap_add: Words
    no_new_privs: bool
    allow_new_privs: bool
    no_nested_users: bool
    hostname: str | None
    domainname: str | None
    boottime: float | str | None
    monotonic: float | str | None
    mount_proc: bool | None
    proc_open: bool
    propagation: str | None
    loopback: bool | None
    workdir: Path | None
    empty_root: bool
    host_ro: bool
    throwaway: bool
    read_only: bool
    mounts: Sequence[Operation | Sequence[Path | int]]
    setenv: Mapping[str, str] | Sequence[tuple[str, str]]
    unsetenv: Words
    clearenv: bool
    keep_env: Words
    kill_child: int | str | None
    init: bool
    init_wait: bool
    new_session: bool
    flags: int
    map_zero: bool
    newuser: bool
    newpid: bool
    newnet: bool
    newns: bool
    newuts: bool
    newipc: bool


class Shared(Common, total=False):
    """What get_context takes: the root besides, which of a Chroot is its path."""

    root: Path | None


class Own(Common, total=False):
    """What Chroot takes: what only one process can have, besides."""

    registered: str | None
    overlay_diff: Path | None


class Space(Shared, Own, total=False):
    """What Container takes."""


class Streams(Space, total=False):
    """What create_subprocess_exec takes, besides the streams: settings, and those of subprocess."""

    executable: Path | None
    close_fds: bool
    pass_fds: Sequence[int]
    cwd: Path | None
    env: Mapping[str, str] | Mapping[bytes, bytes] | None
    restore_signals: bool
    start_new_session: bool
    umask: int
    pipesize: int
    process_group: int | None


class Command(Streams, total=False):
    """What Popen and run take."""

    stdin: int | IO[bytes] | IO[str] | None
    stdout: int | IO[bytes] | IO[str] | None
    stderr: int | IO[bytes] | IO[str] | None
    shell: bool
    text: bool | None
    universal_newlines: bool | None
    encoding: str | None
    errors: str | None
