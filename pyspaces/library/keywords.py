"""The keywords of Container and Inject with their types, for type checkers.

Not used at run time: `space.plan_of` and `visit` read the values. A program that passes settings on
can use them for its own annotations: `def start(**space: Unpack[Space])`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence, Set
from os import PathLike
from typing import IO, Any, TypedDict

from pyspaces.features.ids.idmap import Extent
from pyspaces.mounts.operations import Operation

Words = str | Sequence[str] | Set[str]
Path = str | PathLike[str]
BytesPath = Path | bytes | PathLike[bytes]
Record = tuple[int, int, int] | Extent
IdMap = bool | int | str | Record | Sequence[bool | int | str | Record] | None


class Process(TypedDict, total=False):
    """Keywords of `multiprocessing.Process`."""

    args: Iterable[Any]
    kwargs: Mapping[str, Any] | None
    name: str | None
    daemon: bool | None


class Types(TypedDict, total=False):
    """Keywords of all, including Inject and setns: types of namespaces."""

    user: bool
    pid: bool
    mount: bool
    uts: bool
    ipc: bool
    cgroup: bool
    time: bool
    all: bool


class Namespaces(Types, total=False):
    """Keywords of Inject and setns."""

    net: bool


class Common(Types, total=False):
    """Keywords of Container, Chroot and get_context."""

    net: bool | str
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
    assert_userns_disabled: bool
    sandbox: bool
    allow_read: Path | Sequence[Path]
    allow_write: Path | Sequence[Path]
    allow_exec: Path | Sequence[Path]
    allow_connect: int | str | Sequence[int | str]
    allow_bind: int | str | Sequence[int | str]
    scope: Words
    landlock_best_effort: bool
    seccomp: Path | None
    seccomp_deny: Words
    seccomp_allow: Words
    seccomp_fd: int | Sequence[int]
    no_terminal_injection: bool
    rlimit: Words
    umask: int | str | None
    nice: int | str | None
    oom_score_adj: int | str | None
    cpu_list: str | None
    ionice: str | None
    memory: int | str | None
    swap: int | str | None
    pids: int | str | None
    cpus: float | str | None
    io_weight: int | str | None
    hostname: str | None
    domainname: str | None
    boottime: float | str | None
    monotonic: float | str | None
    mount_proc: bool | None
    create_targets: bool
    proc_open: bool
    propagation: str | None
    loopback: bool | None
    publish: Words
    forward: Words
    veth: str | None
    ip: Words
    gateway: Words
    allow_host: Words
    allow_host_loopback: bool
    dns: Words
    add_host: Words
    profile: Path | Sequence[Path]
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
    as_pid_1: bool
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
    """Keywords of get_context: also `root`, which for a Chroot is its path."""

    root: Path | None


class Own(Common, total=False):
    """Keywords of Chroot and Container: also those that only a single process can have."""

    registered: str | None
    overlay_diff: Path | None


class Space(Shared, Own, total=False):
    """Keywords of Container."""


class InRoot(Own, Process, total=False):
    """All keywords of Chroot."""


class Streams(Space, total=False):
    """Keywords of create_subprocess_exec, besides the streams."""

    seccomp_learn: Path | None
    executable: BytesPath | None
    close_fds: bool
    pass_fds: Collection[int]
    cwd: BytesPath | None
    env: Mapping[str, BytesPath] | Mapping[bytes, BytesPath] | None
    restore_signals: bool
    start_new_session: bool
    pipesize: int
    process_group: int | None


class Command(Streams, total=False):
    """Keywords of Popen and run."""

    stdin: int | IO[bytes] | IO[str] | None
    stdout: int | IO[bytes] | IO[str] | None
    stderr: int | IO[bytes] | IO[str] | None
    shell: bool
    text: bool | None
    universal_newlines: bool | None
    encoding: str | None
    errors: str | None
