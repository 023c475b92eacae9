"""What systemd is asked about cgroups: to delegate one, and whether one is delegated.

Runs in the parent. Speaks D-Bus (its specification, "Message Protocol") to the manager of the
system, as root, or of the user, by the socket that systemctl(1) uses too: no bus is needed.
"""

from __future__ import annotations

import _socket
import errno
import os
import struct

from pyspaces.kernel import cgroupfs, nsfs
from pyspaces.kernel.libc import KernelError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection

BOOTED = "/run/systemd/system"  # sd_booted(3)
_INITIAL_PIDS = 0xEFFFFFFC  # PROC_PID_INIT_INO of include/linux/proc_ns.h
_PATH, _NAME = "/org/freedesktop/systemd1", "org.freedesktop.systemd1"
_CALL, _ANSWER, _ERROR = 1, 2, 3  # types of messages
_PATIENCE = 25.0  # seconds, as sd-bus has it
_MOST = 1 << 20
_HEAD = 16
_IS_OVER = b"failed"  # the result at the end of the signal JobRemoved


def socket_of_manager() -> str:
    """Return the path of the socket of the manager that would create a cgroup for this user."""
    if os.geteuid() == 0:
        return "/run/systemd/private"
    runtime = os.environ.get("XDG_RUNTIME_DIR") or f"/run/user/{os.geteuid()}"
    return f"{runtime}/systemd/private"


def may_be_asked() -> bool:
    """Return whether there is a manager, to which our process ids mean what they mean to us."""
    same_pids = nsfs.inode_or_none("/proc/self/ns/pid") == _INITIAL_PIDS
    return same_pids and os.path.isdir(BOOTED) and os.path.exists(socket_of_manager())


class _Words:
    """The body of a message, in the layout of D-Bus."""

    def __init__(self) -> None:
        self.data = bytearray()

    def pad(self, size: int) -> None:
        self.data += bytes(-len(self.data) % size)

    def number(self, value: int) -> None:
        self.pad(4)
        self.data += struct.pack("<I", value)

    def text(self, value: str) -> None:
        encoded = os.fsencode(value)
        self.number(len(encoded))
        self.data += encoded + b"\0"

    def signature(self, value: str) -> None:
        self.data += bytes([len(value)]) + value.encode() + b"\0"

    def array(self, alignment: int, fill: Callable[[], object]) -> None:
        self.number(0)
        place = len(self.data) - 4
        self.pad(alignment)
        begin = len(self.data)
        fill()
        self.data[place : place + 4] = struct.pack("<I", len(self.data) - begin)

    def variant(self, kind: str, fill: Callable[[], object]) -> None:
        self.signature(kind)
        fill()

    def setting(self, name: str, kind: str, fill: Callable[[], object]) -> None:
        """Append a struct of a name and a variant."""
        self.pad(8)
        self.text(name)
        self.variant(kind, fill)


class Manager:
    """A connection to a manager; a context manager. Raises OSError if there is none."""

    def __init__(self) -> None:
        self._socket = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
        try:
            self._socket.settimeout(_PATIENCE)
            self._socket.connect(socket_of_manager())
            name = str(os.geteuid()).encode().hex().encode()
            # In one piece, and nothing more before the answer: what systemd 252 reads together with
            # BEGIN, it leaves in its buffer until more arrives (seen: in half of the calls).
            self._socket.sendall(b"\0AUTH EXTERNAL " + name + b"\r\nBEGIN\r\n")
            if not self._socket.recv(1024).startswith(b"OK "):
                raise OSError(errno.EACCES, "it does not accept this user")
        except BaseException:
            self._socket.close()
            raise

    def __enter__(self) -> Manager:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def call(self, path: str, interface: str, member: str, kind: str, body: _Words) -> bytes:
        """Call a method, and return the body of its answer. kind: the signature of `body`."""
        head = _Words()
        head.data += struct.pack("<cBBBII", b"l", _CALL, 0, 1, len(body.data), 1)

        def fields() -> None:
            for code, type_, value in (
                *((1, "o", path), (2, "s", interface), (3, "s", member)),
                *((6, "s", _NAME), (8, "g", kind)),
            ):
                head.pad(8)
                head.data.append(code)
                write = head.signature if type_ == "g" else head.text
                head.variant(type_, lambda write=write, value=value: write(value))  # type: ignore[misc]

        head.array(8, fields)
        head.pad(8)
        self._socket.sendall(head.data + body.data)
        while True:
            type_, answer = self._message()
            if type_ == _ANSWER:
                return answer
            if type_ == _ERROR:
                length = int.from_bytes(answer[:4], "little")
                raise OSError(errno.EPROTO, os.fsdecode(answer[4 : 4 + length]) or "it refused")

    def wait(self, over: bytes, name: str) -> None:
        """Wait for a message. Raises OSError if it says that the job for unit `name` has failed."""
        _, body = self._message()
        if name.encode() in body and body.rstrip(b"\0").endswith(over):
            raise OSError(errno.EPROTO, "the job has failed")

    def _message(self) -> tuple[int, bytes]:
        head = self._exactly(_HEAD)
        size, _, fields = struct.unpack("<III", head[4:])
        if head[:1] != b"l" or size > _MOST or fields > _MOST:
            raise OSError(errno.EPROTO, "it answers in a way that is not understood")
        self._exactly(fields + -fields % 8)
        return head[1], self._exactly(size)

    def _exactly(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            piece = self._socket.recv(size - len(data))
            if not piece:
                raise OSError(errno.ECONNRESET, "it has closed the connection")
            data += piece
        return data


def is_delegated(unit: str) -> bool:
    """Return whether a manager has delegated a unit. unit: the path of its cgroup."""
    name = os.path.basename(unit)
    body = _Words()
    body.text(f"{_NAME}.{'Scope' if name.endswith('.scope') else 'Service'}")
    body.text("Delegate")
    try:
        with Manager() as manager:
            interface = "org.freedesktop.DBus.Properties"
            answer = manager.call(f"{_PATH}/unit/{_escaped(name)}", interface, "Get", "ss", body)
    except OSError:
        return False
    return answer[:3] == b"\1b\0" and answer[4:8] == b"\1\0\0\0"


def _escaped(name: str) -> str:
    """Return the name of a unit as a part of an object path: sd_bus_path_encode(3)."""
    return "".join(
        char
        if char.isascii() and (char.isalpha() or (place and char.isdecimal()))
        else "".join(f"_{byte:02x}" for byte in os.fsencode(char))
        for place, char in enumerate(name)
    )


def delegated_scope(name: str, pids: Collection[int]) -> str:
    """Let the manager create a scope that is delegated to us; return the path of its cgroup.

    name: of the unit. pids: the processes that it moves there. Raises OSError saying why not.
    """
    body = _Words()
    body.text(name)
    body.text("fail")

    def settings() -> None:
        body.setting("Description", "s", lambda: body.text("a command of pyspaces"))
        body.setting("CollectMode", "s", lambda: body.text("inactive-or-failed"))
        body.setting("Delegate", "b", lambda: body.number(1))
        body.setting("PIDs", "au", lambda: body.array(4, lambda: [*map(body.number, pids)]))

    body.array(8, settings)
    body.array(8, lambda: None)
    with Manager() as manager:
        member, kind = "StartTransientUnit", "ssa(sv)a(sa(sv))"
        manager.call(_PATH, f"{_NAME}.Manager", member, kind, body)
        # It has queued a job. Each message is a chance to look whether that is done.
        while {os.path.basename(path := _cgroup_of(pid)) for pid in pids} != {name}:
            manager.wait(_IS_OVER, name)
    return os.path.dirname(cgroupfs.procs_file("", path))


def _cgroup_of(pid: int) -> str:
    try:
        return dict(cgroupfs.cgroups_of(pid)).get("", "")
    except KernelError:  # it has ended, or has been killed
        raise OSError(errno.ESRCH, "a process has ended meanwhile") from None
