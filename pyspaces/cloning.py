"""Clone: a `multiprocessing` Popen whose child is created by clone(2), in new namespaces.

The constants are those of <linux/sched.h>, <dlfcn.h> and signal(7).
"""

from __future__ import annotations

import os

from pyspaces.features.ids import idmap
from pyspaces.features.ids.idmap import Extent, MapFault
from pyspaces.kernel import constants, procfs, spawn
from pyspaces.kernel.libc import KernelError, c_string_fault
from pyspaces.launch.inner.identity import take_mapped
from pyspaces.library.popen import NamespacePopen
from pyspaces.record import told

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from multiprocessing.process import BaseProcess
    from typing import NoReturn

CLONE_VM = 0x00000100  #: set if the VM is shared between processes
CLONE_FS = 0x00000200  #: set if file system information is shared
CLONE_FILES = 0x00000400  #: set if open files are shared
CLONE_SIGHAND = 0x00000800  #: set if signal handlers are shared
CLONE_PTRACE = 0x00002000  #: set if tracing continues on the child
CLONE_VFORK = 0x00004000  #: suspend the parent until the child releases its memory
CLONE_PARENT = constants.CLONE_PARENT  #: set if the child has the same parent as the caller
CLONE_THREAD = 0x00010000  #: set for the same thread group
CLONE_NEWNS = constants.CLONE_NEWNS  #: new mount namespace
CLONE_SYSVSEM = 0x00040000  #: share System V SEM_UNDO semantics
CLONE_SETTLS = 0x00080000  #: create a new thread-local storage for the child
CLONE_PARENT_SETTID = 0x00100000  #: store the thread id in the parent
CLONE_CHILD_CLEARTID = 0x00200000  #: clear the thread id in the child at its end
CLONE_DETACHED = 0x00400000  #: unused
CLONE_UNTRACED = 0x00800000  #: set if tracing cannot be forced on the child
CLONE_CHILD_SETTID = 0x01000000  #: store the thread id in the child
CLONE_NEWCGROUP = constants.CLONE_NEWCGROUP  #: new cgroup namespace
CLONE_NEWUTS = constants.CLONE_NEWUTS  #: new UTS namespace: host and domain name
CLONE_NEWIPC = constants.CLONE_NEWIPC  #: new IPC namespace
CLONE_NEWUSER = constants.CLONE_NEWUSER  #: new user namespace
CLONE_NEWPID = constants.CLONE_NEWPID  #: new pid namespace
CLONE_NEWNET = constants.CLONE_NEWNET  #: new network namespace
CLONE_IO = 0x80000000  #: share the I/O context
CLONE_NEWTIME = constants.CLONE_NEWTIME  #: new time namespace (clone3 only)
CLONE_PIDFD = constants.CLONE_PIDFD  #: give the parent a pidfd; Clone always asks for one
CLONE_CLEAR_SIGHAND = 0x100000000  #: handlers become the default (clone3 only)
CLONE_INTO_CGROUP = 0x200000000  #: start in a given cgroup (clone3 only)

STACK_SIZE = 1024 * 1024  #: bytes of stack; for compatibility only, clone3 copies the stack
DEFAULT_MODE = 0  #: mode for loading a library: the platform's default
RTLD_GLOBAL = os.RTLD_GLOBAL  #: make the symbols of a library available to later ones
RTLD_LOCAL = os.RTLD_LOCAL  #: do not make them available
SIGCHLD = constants.SIGCHLD  #: the signal to the parent when a child ends
SIGKILL = constants.SIGKILL  #: the signal that ends a process and cannot be handled

_CONSTANTS = [name for name in globals() if name.isupper() and name != "TYPE_CHECKING"]
__all__ = ["Clone", *_CONSTANTS]  # noqa: PLE0604

_WRONG_FLAGS = {
    "CLONE_VM": "two interpreters cannot run in one memory",
    "CLONE_FILES": "the child would close the parent's descriptors",
    "CLONE_SIGHAND": "it needs CLONE_VM, and two interpreters cannot run in one memory",
    "CLONE_PTRACE": "nothing here traces the child",
    "CLONE_VFORK": "the parent would sleep instead of writing the id maps",
    "CLONE_PARENT": "the child would not be a child of this process, which could not wait for it",
    "CLONE_THREAD": "a thread is not a process, and needs CLONE_VM",
    "CLONE_SETTLS": "the interpreter's thread-local storage would be lost",
    "CLONE_PARENT_SETTID": "it needs an address in memory",
    "CLONE_CHILD_CLEARTID": "it needs an address in memory",
    "CLONE_CHILD_SETTID": "it needs an address in memory",
    "CLONE_DETACHED": "clone3(2) refuses it",
    "CLONE_INTO_CGROUP": "it needs the descriptor of a cgroup",
}
# The low bits of clone(2) are the signal sent when the child ends; clone3(2) separates them.
_EXIT_SIGNAL = 0x7F


class Clone(NamespacePopen):
    """A child process in the new namespaces of `process_obj.clone_flags`: clone(2).

    process_obj: a `multiprocessing` process. Its attributes, each optional: `clone_flags`
    (CLONE_NEW* bits, and SIGCHLD); `uid_map` and `gid_map` (True: the caller is root inside; an id:
    that id is root inside; a list of ids: they are 0, 1, 2 and so on inside; a tuple (inside,
    outside, count) or an Extent; a string in any form of the map grammar; a list of records and
    strings); `map_zero` (True for both maps); `proc` (where procfs is mounted, default `/proc`).

    pid: the process id in the caller's pid namespace. pipe_fd: the (read, write) ends of the pipe
    whose end-of-file lets the child continue. returncode: None while the child runs, then its exit
    code or minus the signal. sentinel: a descriptor that is ready when the child has ended.

    Raises OSError with errno and the call if the kernel refuses, and ValueError for invalid maps
    and for flags that cannot work in a process that runs Python.
    """

    def __init__(self, process_obj: BaseProcess) -> None:
        if not callable(getattr(process_obj, "_bootstrap", None)):
            raise TypeError(f"process_obj: has to be a process, and is {told(process_obj)}")
        self.clone_flags = _checked_flags(getattr(process_obj, "clone_flags", 0))
        self.proc = _text("proc", getattr(process_obj, "proc", None) or "/proc")
        zero = bool(getattr(process_obj, "map_zero", False))
        self._uids = _extents(getattr(process_obj, "uid_map", None), zero, os.geteuid(), "uid")
        self._gids = _extents(getattr(process_obj, "gid_map", None), zero, os.getegid(), "gid")
        self._bootstrap: Callable[[], object] | None = None
        self.pipe_fd: tuple[int, int] = (-1, -1)
        self.process_obj = process_obj
        super().__init__(process_obj)

    def _is_pid_1(self) -> bool:
        return bool(self.clone_flags & CLONE_NEWPID)

    def _create(self, bootstrap: Callable[[], object]) -> tuple[int, int]:
        self._bootstrap = bootstrap
        # The lock is held until our end of the pipe is closed: another child forked before that
        # would keep a copy of it, and our child would not see the end-of-file that it waits for.
        with spawn.forks_held():
            self.pipe_fd = os.pipe()
            try:
                child = spawn.spawn(self.child, flags=self.clone_flags)
                self.pid = child.pid
                self._pidfd = child.pidfd
                self._write_maps()
            except BaseException:
                if self._pidfd >= 0:
                    self._end_now()
                raise
            finally:
                self._bootstrap = None  # only for the child; here, it would keep us alive
                for descriptor in self.pipe_fd:
                    os.close(descriptor)
        return child.pid, child.pidfd

    def child(self) -> NoReturn:
        """Wait until the parent has updated the maps, then run the process object; never return.

        Runs in the child. Raises RuntimeError if the pipe has data instead of its end.
        """
        reading, writing = self.pipe_fd
        os.close(writing)
        if os.read(reading, 1):
            raise RuntimeError("the parent wrote to the pipe instead of closing it")
        os.close(reading)
        # A parent that dies closes the pipe too, but has not written the maps.
        for kind, extents in (("uid_map", self._uids), ("gid_map", self._gids)):
            if extents and not procfs.id_map(kind):
                os._exit(1)
        if self._uids or self._gids:
            allowed = procfs.read_or_none("/proc/self/setgroups") == idmap.ALLOW
            uid, gid = idmap.inside_id(self._uids), idmap.inside_id(self._gids)
            take_mapped(uid, gid, may_set_groups=allowed and gid is not None)
        if self._bootstrap:
            self._bootstrap()
        os._exit(0)

    def update_map(self, mapping: str, map_file: str) -> None:
        """Write an id map with a single write; commas become newlines.

        mapping: `INSIDE OUTSIDE COUNT` records. map_file: the path, such as /proc/PID/uid_map.
        Raises OSError, which names the file, after killing and reaping the child.
        """
        mapping, map_file = _text("mapping", mapping), _text("map_file", map_file)
        try:
            procfs.write_once(map_file, mapping.replace(",", "\n"))
        except KernelError:
            self._end_now()
            raise

    def _write_maps(self) -> None:
        pid = procfs.pid_of_pidfd(self._pidfd) if self.proc == "/proc" else self.pid
        base = f"{self.proc}/{pid}"
        if self._uids:
            self.update_map(idmap.to_text(self._uids), f"{base}/uid_map")
        if self._gids:
            if not procfs.has_capability(constants.CAP_SETGID):
                self.update_map(idmap.DENY, f"{base}/setgroups")
            self.update_map(idmap.to_text(self._gids), f"{base}/gid_map")


def _checked_flags(flags: object) -> int:
    """Return the flags for clone3. Raises ValueError for flags with which Python cannot run."""
    if not isinstance(flags, int) or isinstance(flags, bool):
        raise TypeError(f"clone_flags: has to be a number of CLONE_* bits, and is {told(flags)}")
    if not 0 <= flags < 1 << 64:
        raise ValueError("clone_flags: has to be a number of CLONE_* bits, 64 at most")
    for name, reason in _WRONG_FLAGS.items():
        if flags & globals()[name]:
            raise ValueError(f"{name}: {reason}")
    signal = flags & _EXIT_SIGNAL
    if signal not in (0, SIGCHLD):
        raise ValueError(f"exit signal {signal}: only SIGCHLD allows the parent to wait as usual")
    return flags & ~_EXIT_SIGNAL & ~CLONE_PIDFD


def _text(name: str, value: object) -> str:
    if not isinstance(value, str) or c_string_fault(value):
        raise TypeError(f"{name}: has to be a text without NUL, and is {told(value)}")
    return value


def _extents(given: object, zero: bool, caller: int, kind: str) -> tuple[Extent, ...]:
    """Read a map in any of its Python forms. Raises ValueError."""
    try:
        parsed = idmap.entries(True if zero and not given else given)
        own = procfs.id_map(f"{kind}_map") if idmap.ALL in parsed else []
        return idmap.build(parsed, caller=caller, own=own)
    except MapFault as fault:
        raise MapFault(f"{kind}_map: {fault}") from None
