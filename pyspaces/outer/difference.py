"""What the command changed in overlays whose changes vanish, written to a file after its end.

Runs in the parent, but for `keep_inner` (in the child) and `_compare` (in a process that joins the
command's user namespace: only there may files of its other ids be read). Loaded only where it was
asked for.
"""

from __future__ import annotations

import _socket
import json
import os
import struct

from pyspaces import spawn
from pyspaces.errors import UsageFault
from pyspaces.kernel import constants, libc, nsfs, procfs
from pyspaces.mounts import changes
from pyspaces.mounts.operations import TmpOverlay
from pyspaces.outer import appearing

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from pyspaces.plan import Plan
    from pyspaces.spawn import Spawned

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_PATH_MAX = 4096
VERSION = 1  # of the JSON


class Difference:
    """The changes of one launch, from before it starts to the end of the command.

    say: called with a line for people where they cannot be told. Raises UsageFault where the file
    could not be written.
    """

    def __init__(self, plan: Plan, say: Callable[[str], object]) -> None:
        self._given = plan.outputs.overlay_diff or ""
        self._say = say
        self._user_namespace = -1
        self._uppers: list[tuple[str, int]] = []
        # By their place inside; found by paths of outside, as they were when it began.
        self._lower = {
            one.target: tuple(os.path.abspath(path) for path in reversed(one.lower))
            for one in plan.mounts
            if isinstance(one, TmpOverlay)
        }
        self._place = _place(self._given)
        self._ours, self._theirs = _socket.socketpair(
            _socket.AF_UNIX, _socket.SOCK_SEQPACKET | _socket.SOCK_CLOEXEC
        )
        # Full where nobody reads yet: that is an error of the launch, and no reason to wait.
        self._theirs.setblocking(False)

    def keep_inner(self, target: str, upper: int) -> None:
        """Give the launcher a descriptor of the folder with the changes of `target`."""
        rights = (_socket.SOL_SOCKET, _socket.SCM_RIGHTS, struct.pack("i", upper))
        self._theirs.sendmsg([os.fsencode(target)], [rights])

    def release_descriptors(self) -> None:
        """Close what the child has no need for."""
        self._place.close()

    def held(self, child: Spawned, *, user: bool) -> None:
        """Take what the child has given; it waits right before exec. user: as in the plan."""
        if user:
            path = f"/proc/{procfs.pid_of_pidfd(child.pidfd)}/ns/user"
            self._user_namespace = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        for _ in self._lower:
            name, rights, *_ = self._ours.recvmsg(
                _PATH_MAX, _socket.CMSG_SPACE(4), _socket.MSG_CMSG_CLOEXEC | _socket.MSG_DONTWAIT
            )
            for _, _, data in rights:
                self._uppers.append((os.fsdecode(name), *struct.unpack("i", data)))

    def ended(self) -> None:
        """Compare, and write the file."""
        try:
            reading, writing = os.pipe()
            try:
                child = spawn.spawn(lambda: self._answer(writing))
            finally:
                os.close(writing)
            text = _read_all(reading)
            os.close(reading)
            nsfs.has_ended(child.pidfd, timeout=None)
            os.waitpid(child.pid, 0)
            os.close(child.pidfd)
            data = json.loads(text)
            if error := data.get("error"):
                self._say(f"cannot tell what was changed: {error}")
                return
            found = [(kind, path) for kind, path in data["changes"]]
            as_json = self._place.name.endswith(".json")
            self._place.write(_as_json(found) if as_json else _as_text(found))
        except OSError as error:
            self._say(f"cannot write what was changed: {appearing.told(error)}")
        finally:
            self.close()

    def close(self) -> None:
        """Release everything; more than once is fine."""
        self._place.close()
        self._ours.close()
        self._theirs.close()
        descriptors = [upper for _, upper in self._uppers] + [self._user_namespace]
        self._uppers, self._user_namespace = [], -1
        for descriptor in descriptors:
            if descriptor >= 0:
                os.close(descriptor)

    # --- in a process of its own --------------------------------------------------------------

    def _answer(self, writing: int) -> None:
        self._place.close()
        try:
            answer: object = {"changes": self._compare()}
        except OSError as error:
            answer = {"error": appearing.told(error)}
        data = json.dumps(answer).encode()
        while data:
            data = data[os.write(writing, data) :]

    def _compare(self) -> list[tuple[str, str]]:
        # Before our own rights end at those of the namespace.
        lower = {target: [*map(_opened, paths)] for target, paths in self._lower.items()}
        if self._user_namespace >= 0:
            libc.setns(self._user_namespace, constants.CLONE_NEWUSER)
        found: list[tuple[str, str]] = []
        for target, descriptor in self._uppers:
            # A path of its own: it was opened with O_PATH, and cannot be listed.
            upper = os.open(f"/proc/self/fd/{descriptor}", _FOLDER)
            if os.listdir(upper):
                beneath = [_there(one) for one in lower[target]]
                found += changes.changes(upper, [fd for fd in beneath if fd >= 0], target)
            os.close(upper)
        return sorted(found, key=lambda change: change[1])


def _place(path: str) -> appearing.Place:
    """Open the place of the file, and remove what an earlier launch has left there.

    It must not be taken for the changes of this one. Raises UsageFault.
    """
    try:
        place = appearing.Place(path)
    except OSError as error:
        raise UsageFault([f"overlay-diff: {path}: {error.strerror}"]) from None
    try:
        if fault := place.fault():
            raise UsageFault([f"overlay-diff: {path}: {fault}"])
        place.clear()
    except BaseException:
        place.close()
        raise
    return place


def _opened(path: str) -> int | OSError:
    try:
        return os.open(path, _FOLDER)
    except OSError as error:
        return error


def _there(opened: int | OSError) -> int:
    """Return the descriptor; -1 of a folder that the caller, and so the command, may not read."""
    if isinstance(opened, PermissionError):
        return -1
    if isinstance(opened, OSError):
        raise opened
    return opened


def _read_all(descriptor: int) -> bytes:
    pieces = []
    while piece := os.read(descriptor, 1 << 16):
        pieces.append(piece)
    return b"".join(pieces)


def _as_json(found: list[tuple[str, str]]) -> str:
    kinds = (changes.ADDED, changes.CHANGED, changes.DELETED)
    rows = {kind: [path for each, path in found if each == kind] for kind in kinds}
    return json.dumps({"version": VERSION, **rows}, indent=2) + "\n"


def _as_text(found: list[tuple[str, str]]) -> str:
    return "".join(f"{kind:<7} {_visible(path)}\n" for kind, path in found)


def _visible(path: str) -> str:
    """Return a path in one line: what cannot be shown, and a backslash, as \\xNN for each byte."""
    return "".join(
        char
        if char.isprintable() and char != "\\"
        else "".join(f"\\x{byte:02x}" for byte in os.fsencode(char))
        for char in path
    )
