"""The only door to C: thin typed system calls that name themselves when they fail.

Runs in any process. Every function raises `KernelError` with the call, its arguments and
its path; none of them knows why it is called. The handle keeps the GIL, so that no other
Python thread runs between `clone3` and the bookkeeping that must follow it (CPython's
`PyOS_AfterFork_*`); nothing here may therefore block.
"""

from __future__ import annotations

import errno as _errno
import os
from sys import byteorder

from pyspaces.kernel import constants
from pyspaces.kernel import foreign as ctypes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from typing import Literal


class KernelError(OSError):
    """A system call that the kernel refused.

    `call` is its name, `arguments` the ones worth reading, `filename` the path, if there
    is one; `errno` and `strerror` are those of OSError.
    """

    def __init__(
        self, number: int, call: str, arguments: Sequence[object] = (), path: str | None = None
    ) -> None:
        super().__init__(number, os.strerror(number), path)
        self.call = call
        self.arguments = tuple(arguments)


class Naming:
    """Context for a call of Python's: an OSError becomes the KernelError of `call` and `path`."""

    def __init__(self, call: str, path: str | None = None) -> None:
        self._names = (call, (), path)

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, OSError):
            raise KernelError(error.errno or 0, *self._names) from None


# Integers by their sizes, as memoryview.cast() names them.
_SIGNED: dict[int, Literal["h", "i", "q"]] = {2: "h", 4: "i", 8: "q"}
_UNSIGNED: dict[int, Literal["H", "I", "Q"]] = {2: "H", 4: "I", 8: "Q"}


def words(*values: int, size: int = 8) -> bytes:
    """Return integers of `size` bytes each, in a row and in the byte order of this machine.

    What struct.pack() does: its module is a shared object to load in many builds of Python. Raises
    OverflowError if one does not fit.
    """
    return b"".join([value.to_bytes(size, byteorder, signed=value < 0) for value in values])


def numbers(data: bytes, size: int = 8, *, signed: bool = False) -> tuple[int, ...]:
    """Return the integers, of `size` bytes each, that `words` puts in a row."""
    return tuple(memoryview(data).cast((_SIGNED if signed else _UNSIGNED)[size]))


_libc = LIBRARY = ctypes.Library(None)
_int, _long, _ulong = ctypes.c_int, ctypes.c_long, ctypes.c_ulong
_text, _pointer = ctypes.c_char_p, ctypes.c_void_p
_later = _libc.later

_capset = _later("capset", _text, _text)
_clearenv = _later("clearenv")
_memmove = _later("memmove", _pointer, _text, ctypes.c_size_t, restype=None)
_memset = _later("memset", _pointer, _int, ctypes.c_size_t, restype=None)
_personality = _later("personality", _ulong)
_sethostname = _later("sethostname", _text, ctypes.c_size_t)
_setdomainname = _later("setdomainname", _text, ctypes.c_size_t)
_setns = _later("setns", _int, _int)
_signalfd = _later("signalfd", _int, _text, _int)
_socket = _later("socket", _int, _int, _int)
_unshare = _later("unshare", _int)
# syscall(2) is variadic: each shape has a prototype of its own.
_syscall_clone = _later("syscall", _long, _ulong, *[_pointer] * 4, restype=_long)
# Looked up at once: each launch calls them, and many of its children would look them up again.
_capget = _libc.function("capget", _text, _pointer)
_prctl = _libc.function("prctl", _int, _ulong, _ulong, _ulong, _ulong)
_sigprocmask = _libc.function("sigprocmask", _int, _text, _pointer)
_send = _libc.function("send", _int, _text, ctypes.c_size_t, _int, restype=ctypes.c_ssize_t)
_socketpair = _libc.function("socketpair", _int, _int, _int, _pointer)
_syscall = _libc.function("syscall", _long, *[_pointer] * 6, restype=_long)
_syscall_clone3 = _libc.function("syscall", _long, _text, ctypes.c_size_t, restype=_long)
_wait4 = _libc.function("wait4", _int, _pointer, _int, _pointer)
_NOTHING = (0,) * 6
_CONSTANTS = vars(constants)
_MACHINE = os.uname().machine, ctypes.sizeof(ctypes.c_void_p)
_CAPABILITY_HEADER = words(constants.LINUX_CAPABILITY_VERSION_3, 0, size=4)
_SIG_SETMASK = 2  # asm-generic/signal-defs.h: the same on all machines that pyspaces knows

# Looked up at once: between the first and the last of them nothing else may happen.
before_fork, after_fork_parent, after_fork_child = (
    _libc.function(f"PyOS_{name}", restype=None)
    for name in ("BeforeFork", "AfterFork_Parent", "AfterFork_Child")
)


def is_main_interpreter() -> bool:
    """Return whether this is the interpreter that Python began with, and no sub-interpreter."""
    get, main = map(_libc.function, ("PyInterpreterState_Get", "PyInterpreterState_Main"))
    get.restype = main.restype = _pointer
    return bool(get() == main())


def checked(result: int, call: str, *arguments: object, path: str | None = None) -> int:
    """Return what a call of C has returned. Raises KernelError if that is -1."""
    if result == -1:
        raise KernelError(ctypes.get_errno(), call, arguments, path)
    return result


def clone3(flags: int, *, exit_signal: int, cgroup: int = -1) -> tuple[int, int]:
    """Create a process like fork(2), with `flags`: clone3(2), since Linux 5.3.

    cgroup: a descriptor of the cgroup in which it starts, since Linux 5.7; that of the caller if
    negative. Returns (pid, pidfd) in the parent and (0, -1) in the child. The caller wraps it in
    `before_fork` and `after_fork_*`. The pidfd is close-on-exec.
    """
    # Not kept for the next call: the handler of a signal may launch something at any line of this.
    pidfd = _int(-1)
    flags |= constants.CLONE_PIDFD | (constants.CLONE_INTO_CGROUP if cgroup >= 0 else 0)
    # struct clone_args of include/uapi/linux/sched.h, as of version 2 (Linux 5.7): flags, pidfd,
    # child_tid, parent_tid, exit_signal, five more, and cgroup.
    first = (flags, ctypes.addressof(pidfd), 0, 0, exit_signal)
    args = words(*first, *[0] * 5, max(cgroup, 0))
    result = _syscall_clone3(constants.SYS_clone3, args, len(args))
    # Little else: each page that one of the two processes writes to from here on is copied.
    if result == 0:
        return 0, -1
    if result == -1:
        raise KernelError(ctypes.get_errno(), "clone3", [hex(flags)])
    return result, pidfd.value


def clone(flags: int, *, exit_signal: int) -> tuple[int, int]:
    """Create a process as `clone3` does, through clone(2): for kernels and filters without clone3.

    clone(2) keeps the exit signal in the low byte of the flags, so CLONE_NEWTIME cannot be given.
    """
    number, pidfd = number_of(constants.SYS_clone, "clone"), _int(-1)
    bits = flags | constants.CLONE_PIDFD | exit_signal
    result = _syscall_clone(number, bits, None, ctypes.byref(pidfd), None, None)
    return checked(result, "clone", hex(flags)), pidfd.value


def unshare(flags: int) -> None:
    """Move the calling process into new namespaces: unshare(2)."""
    checked(_unshare(flags), "unshare", hex(flags))


def setns(descriptor: int, flag: int, *, path: str | None = None) -> None:
    """Move the calling process into the namespace behind `descriptor`: setns(2)."""
    checked(_setns(descriptor, flag), "setns", hex(flag), path=path)


def _control(option: str, value: int = 0, more: int = 0) -> int:
    """Call prctl(2), whose options `constants` has by their names."""
    result = _prctl(_CONSTANTS[option], value, more, 0, 0)
    return checked(result, "prctl", option, value, more)


def set_parent_death_signal(number: int) -> None:
    """Ask for signal `number` at the end of the thread whose child this is; new ids clear it."""
    _control("PR_SET_PDEATHSIG", number)


def is_dumpable() -> bool:
    """Return whether other processes of this user may inspect this one: prctl(2). 2: only root."""
    return _control("PR_GET_DUMPABLE") == 1


def set_dumpable(*, dumpable: bool) -> None:
    """Set whether others may trace and inspect this process: prctl(2), ptrace(2)."""
    _control("PR_SET_DUMPABLE", int(dumpable))


def set_name(name: bytes) -> None:
    """Set the name that ps(1) shows of this process, up to 15 bytes: prctl(2)."""
    room = ctypes.create_string_buffer(name)
    _control("PR_SET_NAME", ctypes.addressof(room))


def keep_capabilities(*, keep: bool) -> None:
    """Set whether the permitted capabilities survive a change of ids: prctl(2)."""
    _control("PR_SET_KEEPCAPS", int(keep))


def secure_bits() -> int:
    """Return the securebits flags of this thread: prctl(2), capabilities(7)."""
    return _control("PR_GET_SECUREBITS")


def personality() -> int:
    """Return the execution domain of this thread: personality(2)."""
    return checked(_personality(0xFFFFFFFF), "personality")


def set_no_new_privs() -> None:
    """Keep exec from giving this process more privileges, for good: prctl(2)."""
    _control("PR_SET_NO_NEW_PRIVS", 1)


def drop_bounding_capability(number: int) -> None:
    """Remove capability `number` from the bounding set: prctl(2)."""
    _control("PR_CAPBSET_DROP", number)


def raise_ambient_capability(number: int) -> None:
    """Add capability `number`, permitted and inheritable, to the ambient set: prctl(2)."""
    _control("PR_CAP_AMBIENT", constants.PR_CAP_AMBIENT_RAISE, number)


def capabilities() -> tuple[int, int, int]:
    """Return the effective, permitted and inheritable sets of this thread, as bits: capget(2)."""
    room = ctypes.create_string_buffer(24)
    checked(_capget(_CAPABILITY_HEADER, ctypes.addressof(room)), "capget")
    low = numbers(room.raw, 4)
    return low[0] | low[3] << 32, low[1] | low[4] << 32, low[2] | low[5] << 32


def set_capabilities(effective: int, permitted: int, inheritable: int) -> None:
    """Set the effective, permitted and inheritable sets of this thread: capset(2)."""
    sets = (effective, permitted, inheritable)
    data = words(*(s & 0xFFFFFFFF for s in sets), *(s >> 32 for s in sets), size=4)
    checked(_capset(_CAPABILITY_HEADER, data), "capset")


def sethostname(name: str) -> None:
    """Set the host name of the caller's UTS namespace: sethostname(2)."""
    encoded = os.fsencode(name)
    checked(_sethostname(encoded, len(encoded)), "sethostname", name)


def setdomainname(name: str) -> None:
    """Set the NIS domain name of the caller's UTS namespace: setdomainname(2)."""
    encoded = os.fsencode(name)
    checked(_setdomainname(encoded, len(encoded)), "setdomainname", name)


def socketpair() -> tuple[int, int]:
    """Return two connected close-on-exec sockets that keep messages whole: socketpair(2)."""
    pair = (_int * 2)()
    kind = constants.SOCK_SEQPACKET | constants.SOCK_CLOEXEC
    checked(_socketpair(constants.AF_UNIX, kind, 0, pair), "socketpair")
    return pair[0], pair[1]


def send(descriptor: int, data: bytes) -> None:
    """Send one message: send(2). If the peer has gone, the error is EPIPE, without SIGPIPE."""
    checked(_send(descriptor, data, len(data), constants.MSG_NOSIGNAL), "send")


def inet_socket() -> int:
    """Return a close-on-exec IPv4 datagram socket, for interface requests: socket(2)."""
    kind = constants.SOCK_DGRAM | constants.SOCK_CLOEXEC
    return checked(_socket(constants.AF_INET, kind, 0), "socket", "AF_INET")


def signalfd(signals: Sequence[int]) -> int:
    """Return a descriptor from which the blocked `signals` can be read: signalfd(2)."""
    flags = constants.SFD_CLOEXEC | constants.SFD_NONBLOCK
    return checked(_signalfd(-1, signal_set(signals), flags), "signalfd")


def c_string_fault(text: str) -> str | None:
    """Return why `text` cannot be passed to the kernel, or None if it can."""
    if "\0" in text:
        return "holds a NUL"
    try:
        os.fsencode(text)
    except UnicodeEncodeError:
        return "holds a lone surrogate, which stands for no byte"
    return None


def path_fault(path: str | None) -> str | None:
    """Return why `path` cannot name a file, or None if it can. None stands for no path."""
    if path == "":
        return "a path cannot be empty"
    fault = c_string_fault(path or "")
    return f"{path!r}: {fault}" if fault else None


def clear_environment() -> None:
    """Remove all environment variables of the C library: clearenv(3)."""
    if _clearenv():
        raise KernelError(_errno.ENOMEM, "clearenv")


def overwrite(address: int, size: int) -> None:
    """Fill `size` bytes of this process's memory at `address` with zeros: memset(3)."""
    _memset(address, 0, size)


def write_memory(address: int, data: bytes) -> None:
    """Put `data` at `address` of this process's memory: memcpy(3)."""
    _memmove(address, data, len(data))


def wait4(pid: int) -> tuple[int, float, float, int]:
    """Reap child `pid`, which has ended: wait4(2).

    Returns the status word, the seconds of user and of system time, and the peak of resident
    memory in bytes. Not os.wait4, whose answer makes Python import the module `resource`.
    """
    # struct rusage of the C library, getrusage(2): two times, the peak, and 13 more.
    word, usage = _int(0), (ctypes.c_long * 18)()
    while _wait4(pid, ctypes.byref(word), 0, ctypes.byref(usage)) == -1:
        if ctypes.get_errno() != _errno.EINTR:
            raise KernelError(ctypes.get_errno(), "wait4", [pid])
    user, system = usage[0] + usage[1] / 1e6, usage[2] + usage[3] / 1e6
    return word.value, user, system, usage[4] * 1024


def set_signal_mask(mask: bytes) -> None:
    """Block the signals of a set in this thread, and no others: sigprocmask(2), with SIG_SETMASK.

    signal.pthread_sigmask() makes a set of those that were blocked before, which nobody needs.
    """
    checked(_sigprocmask(_SIG_SETMASK, mask, None), "sigprocmask")


def signal_set(signals: Iterable[int] = ()) -> bytes:
    """Return a sigset_t, which glibc has room for 1,024 signals in."""
    bits = 0
    for number in signals:
        bits |= 1 << (number - 1)
    return words(bits).ljust(128, b"\0")


def set_seccomp_filter(program: bytes, flags: int = 0) -> int:
    """Install a filter, for good: prctl(2), PR_SET_SECCOMP. Instructions have 8 bytes.

    With SECCOMP_FILTER_FLAG_* bits, by seccomp(2); for NEW_LISTENER, returns the descriptor.
    """
    code = ctypes.create_string_buffer(program, len(program))
    # struct sock_fprog: a short, and a pointer at a multiple of its own size.
    wide = ctypes.sizeof(_pointer)
    count = words(len(program) // 8, size=2).ljust(wide, b"\0")
    head = count + words(ctypes.addressof(code), size=wide)
    room = ctypes.create_string_buffer(head, len(head))
    if not flags:
        return _control("PR_SET_SECCOMP", constants.SECCOMP_MODE_FILTER, ctypes.addressof(room))
    number = number_of(constants.SYS_seccomp, "seccomp")
    return call("seccomp", number, constants.SECCOMP_SET_MODE_FILTER, flags, ctypes.addressof(room))


def number_of(table: Mapping[tuple[str, int], int], name: str) -> int:
    """Return the number of a system call on this machine. Raises KernelError, ENOSYS."""
    if _MACHINE not in table:
        raise KernelError(_errno.ENOSYS, name)
    return table[_MACHINE]


def call(name: str, number: int, *arguments: int | bytes | None, path: str | None = None) -> int:
    """Make a system call that has no function here.

    Bytes are passed by address, with a NUL behind them: none for a call that writes there.
    """
    return checked(_syscall(number, *arguments, *_NOTHING[len(arguments) :]), name, path=path)
