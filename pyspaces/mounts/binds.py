"""Operations that show something of outside: by its path, or from a descriptor of the caller.

Plain data, created in the parent; functions ending in `_inner` run in the child.
"""

from __future__ import annotations

import os

from pyspaces.errors import Refusal
from pyspaces.mounts.operation import Operation
from pyspaces.mounts.tree import NO_DEVICES, NO_EXEC, NO_SUID, PLAIN, READ_ONLY

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from pyspaces.mounts.tree import Tree


class Bind(Operation):
    """Bind mount a file or directory of outside, with what is mounted below it.

    read_only: make all of it read-only. dev: allow access to device files. optional: ignore a
    missing source. suid: leave set-user-ID bits, set-group-ID bits and file capabilities enabled.
    no_exec: let no file be executed.
    """

    source: str
    read_only: bool = False
    dev: bool = False
    optional: bool = False
    suid: bool = False
    no_exec: bool = False

    def describe(self) -> str:
        words = [f"bind {self.source} on {self.target}"]
        words += ["read-only"] * self.read_only + ["with devices"] * self.dev
        words += ["with set-user-ID programs"] * self.suid
        words += ["with nothing to execute"] * self.no_exec
        return ", ".join([*words, *["if it exists"] * self.optional])

    def find_inner(self, tree: Tree) -> tuple[int, ...]:
        return tree.source_inner(self.source, optional=self.optional)

    def apply_inner(self, tree: Tree, found: tuple[int, ...]) -> None:
        attributes = READ_ONLY * self.read_only | NO_DEVICES * (not self.dev)
        attributes |= NO_SUID * (not self.suid) | NO_EXEC * self.no_exec
        for source in found:
            tree.bind_inner(source, self.target, attributes)


class BindFd(Operation):
    """Bind mount the file or directory that the caller has open as descriptor `fd`.

    read_only: as in Bind.
    """

    fd: int
    read_only: bool = False

    def describe(self) -> str:
        text = f"bind descriptor {self.fd} on {self.target}"
        return f"{text}, read-only" if self.read_only else text

    def find_inner(self, tree: Tree) -> tuple[int, ...]:
        opened = _on(self.fd, os.fstat)
        # Its mount belongs to the caller's namespace and cannot be copied into ours (EINVAL). So
        # the file is opened again by its path, and must be the same.
        path = os.readlink(f"/proc/self/fd/{self.fd}")
        _close(self.fd)
        sources = tree.source_inner(path)
        if not os.path.samestat(os.fstat(sources[0]), opened):
            raise Refusal("another file is there now", path=path)
        return sources

    def apply_inner(self, tree: Tree, found: tuple[int, ...]) -> None:
        tree.bind_inner(found[0], self.target, READ_ONLY * self.read_only | PLAIN)


class File(Operation):
    """Create a file with what is read from the caller's descriptor `fd`. perms: its mode."""

    fd: int
    perms: int = 0o666

    def describe(self) -> str:
        return f"write descriptor {self.fd} to the file {self.target}, mode {self.perms:04o}"

    def apply_inner(self, tree: Tree, found: tuple[int, ...]) -> None:
        _on(self.fd, os.fstat)
        parent, name = tree.parent_inner(self.target, self.perms)
        _write_from(self.fd, name, parent, self.perms)
        os.close(parent)


class BindData(Operation):
    """Bind mount a file with what is read from descriptor `fd`, also over an existing file.

    read_only: make it read-only inside. perms: its mode.
    """

    fd: int
    read_only: bool = False
    perms: int = 0o600

    def describe(self) -> str:
        text = f"bind the data of descriptor {self.fd} on {self.target}, mode {self.perms:04o}"
        return f"{text}, read-only" if self.read_only else text

    def prepare_inner(self, tree: Tree, found: tuple[int, ...]) -> tuple[int, ...]:
        _on(self.fd, os.fstat)
        directory, name = tree.scratch_inner(), tree.scratch_name()
        _write_from(self.fd, name, directory, self.perms)
        return (tree.copy_inner(os.open(name, os.O_PATH | os.O_CLOEXEC, dir_fd=directory)),)

    def apply_inner(self, tree: Tree, found: tuple[int, ...]) -> None:
        point = tree.point_inner(self.target, directory=False, perms=self.perms)
        tree.attach_inner(found[0], point, READ_ONLY * self.read_only | PLAIN)


def _close(descriptor: int) -> None:
    """Close a descriptor of the caller, which the command does not need, except the first three."""
    if descriptor > 2:
        os.close(descriptor)


def _on(descriptor: int, call: Callable[..., Any], *more: int) -> Any:
    """Call `call` with a descriptor of the caller. Raises Refusal, which names the descriptor."""
    try:
        return call(descriptor, *more)
    except OSError as error:
        raise Refusal(number=error.errno or 0, path=f"descriptor {descriptor}") from None


def _write_from(source: int, name: str, directory: int, perms: int) -> None:
    """Write what can be read from `source` to the file `name` in `directory`; close `source`."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
    with open(os.open(name, flags, 0o600, dir_fd=directory), "wb", buffering=0) as file:
        while chunk := _on(source, os.read, 1 << 16):
            view = memoryview(chunk)
            while view:
                view = view[file.write(view) :]
        os.fchmod(file.fileno(), perms)
    _close(source)
