"""What the command changed in overlays whose changes vanish, written to a file after its end.

Runs in the parent, but for `keep_inner` (in the child) and `_compare` (in a process that joins the
command's user namespace: only there may files of its other ids be read). What the command has left
behind may be there, with all capabilities: the process that joins is not dumpable, or its root and
its memory would be a way to the host, and keeps no descriptor that it does not need. Loaded only
if it was asked for.
"""

from __future__ import annotations

import json
import os
import resource

from pyspaces.kernel import constants, libc, nsfs, procfs, spawn
from pyspaces.launch import rights, signals
from pyspaces.launch.awaiting import Awaited
from pyspaces.launch.inner.identity import drop_groups
from pyspaces.launch.outer.ending import discard
from pyspaces.launch.records import files, listed
from pyspaces.launch.service import Service
from pyspaces.mounts import changes
from pyspaces.mounts.operations import TmpOverlay

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyspaces.kernel.spawn import Spawned
    from pyspaces.launch.services import Launch
    from pyspaces.status import Ended

# How long nothing may come, in seconds, before we look whether the process was stopped.
_PATIENCE = 0.5
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_PATH_MAX = 4096
# What a command can make costs it little: no more than listed.MOST bytes of paths are told, by a
# process that takes so many bytes more than it has, in an answer of so many.
_MOST_MEMORY, _MOST_ANSWER = 1 << 31, 1 << 29


class Difference(Service):
    """The changes of one launch, from before it starts to the end of the command."""

    tells = True
    task = "tell what was changed"

    def __init__(self, launch: Launch) -> None:
        super().__init__(launch)
        self._say = launch.tell
        self._user_namespace = -1
        self._uppers: list[tuple[str, int]] = []
        # By their place inside; found by paths of outside, as they were when it began.
        self._lower = {
            one.target: tuple(os.path.abspath(path) for path in reversed(one.lower))
            for one in launch.plan.mounts.operations
            if isinstance(one, TmpOverlay)
        }

    def open(self) -> None:
        """Try the place of the file, and clear it. Raises UsageFault if that is impossible."""
        path = self.launch.plan.outputs.overlay_diff or ""
        self._place = files.usable_or_standard_output("overlay-diff", path)
        try:
            # What an earlier launch left there must not be taken for the changes of this one.
            self._place.clear()
            self._ours, self._theirs = rights.pair()
        except BaseException:
            self._place.close()
            raise
        self.launch.keep = self.keep_inner
        self.launch.not_for_others.append(self._place.close)

    def keep_inner(self, target: str, upper: int) -> None:
        """Send the launcher the directory with the changes of `target`, and the user namespace.

        The latter since the launcher may not look at this process later on.
        """
        namespace = os.open("/proc/self/ns/user", os.O_RDONLY | os.O_CLOEXEC)
        try:
            rights.send(self._theirs, os.fsencode(target), (upper, namespace))
        finally:
            os.close(namespace)

    def held(self, child: Spawned) -> None:
        """Take what the child has given."""
        user = self.launch.plan.has("user")
        for _ in self._lower:
            name, (upper, namespace) = rights.take(self._ours, _PATH_MAX, 2)
            self._uppers.append((os.fsdecode(name), upper))
            if user and self._user_namespace < 0:
                self._user_namespace = namespace
            else:
                os.close(namespace)

    def ended(self, ended: Ended) -> None:
        """Compare, and write the file; print a message if that fails."""
        try:
            found = self._answered()
            form = listed.as_json if self._place.name.endswith(".json") else listed.as_text
            text = form(found)
            self._write(text)
        except (OSError, ValueError, MemoryError) as error:
            self._say(f"cannot tell what was changed: {_told(error)}")
        finally:
            self.release()

    def _write(self, text: str) -> None:
        try:
            self._place.write(text)
        except OSError as error:
            self._say(f"cannot write what was changed: {files.told(error)}")

    def _answered(self) -> list[tuple[str, str]]:
        """Return the changes, as another process has found them. Raises OSError or ValueError."""
        reading, writing = os.pipe()
        try:
            try:
                child = spawn.spawn(lambda: self._answer(writing))
            finally:
                os.close(writing)
            try:
                # A library does not write to the terminal of its program.
                in_foreground = self.launch.reader is not None
                with Awaited("comparing what was changed", wanted=in_foreground) as awaited:
                    text = _read_all(reading, child, awaited)
            finally:
                discard(child)
        finally:
            os.close(reading)
        if not text.endswith(b"}"):
            raise ValueError("the process that compares has died")
        data = json.loads(text)
        if error := data.get("error"):
            raise ValueError(error)
        return [(kind, path) for kind, path in data["changes"]]

    def release(self) -> None:
        """Close everything; more than once is fine."""
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
            _limit_memory()
            answer: object = {"changes": self._compare(writing)}
            data = json.dumps(answer).encode()
        except (OSError, ValueError, MemoryError) as error:
            data = json.dumps({"error": _told(error)}).encode()
        while data:
            data = data[os.write(writing, data[: 1 << 16]) :]

    def _compare(self, writing: int) -> list[tuple[str, str]]:
        # Before our own rights end at those of the namespace.
        lower = {target: [*map(_opened, paths)] for target, paths in self._lower.items()}
        self._join(writing, *(fd for row in lower.values() for fd in row if isinstance(fd, int)))
        found: list[tuple[str, str]] = []
        for target, descriptor in self._uppers:
            # By a name of its own: it was opened with O_PATH, and cannot be listed.
            upper = os.open(".", _DIRECTORY, dir_fd=descriptor)
            if os.listdir(upper):
                beneath = [fd for fd in map(_there, lower[target]) if fd >= 0]
                found += listed.limited(changes.changes(upper, beneath, target), found)
            os.close(upper)
        return listed.in_order(found)

    def _join(self, *kept: int) -> None:
        """Become a process that may read the command's files, and holds nothing of use to it."""
        libc.set_dumpable(dumpable=False)
        uppers = [upper for _, upper in self._uppers]
        spawn.close_others(*kept, *uppers, self._user_namespace)
        if self._user_namespace >= 0:
            # The groups of root would stay, and could not be given up there.
            drop_groups()
            libc.setns(self._user_namespace, constants.CLONE_NEWUSER)
            libc.set_dumpable(dumpable=False)
        try:
            os.chdir("/")
            os.fchdir(uppers[0])
            os.chroot(".")
        except OSError:
            return  # without a user namespace, a right that the caller may lack


def _limit_memory() -> None:
    """Limit what this process may allocate: it fails with more, before others do."""
    pages = int(procfs.read("/proc/self/statm").split()[0])
    most = pages * resource.getpagesize() + _MOST_MEMORY
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    for limit in (soft, hard):
        if limit != resource.RLIM_INFINITY:
            most = min(most, limit)
    resource.setrlimit(resource.RLIMIT_AS, (most, hard))


def _told(error: BaseException) -> str:
    if isinstance(error, OSError):
        return files.told(error)
    return str(error) or "not enough memory"


def _opened(path: str) -> int | OSError:
    try:
        return os.open(path, _DIRECTORY)
    except OSError as error:
        return error


def _there(opened: int | OSError) -> int:
    """Return the descriptor; -1 if the caller, and so the command, may not read the directory."""
    if isinstance(opened, PermissionError):
        return -1
    if isinstance(opened, OSError):
        raise opened
    return opened


def _read_all(descriptor: int, child: Spawned, awaited: Awaited) -> bytes:
    """Read what the comparing process answers.

    What the command has left behind may have its user id, and can stop it: then nothing would ever
    come, nor the end.
    """
    pieces: list[bytes] = []
    size = 0
    while True:
        awaited.look()
        if not nsfs.wait_for(descriptor, _PATIENCE):
            if signals.stopped_by(child.pid):
                raise ValueError("the process that compares was stopped")
            continue
        piece = os.read(descriptor, 1 << 16)
        if not piece:
            return b"".join(pieces)
        pieces.append(piece)
        size += len(piece)
        if size > _MOST_ANSWER:
            raise ValueError("the answer is too long")
