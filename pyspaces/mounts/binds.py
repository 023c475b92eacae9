"""Operations that show something of outside: by its path, or from a descriptor of the caller.

Plain data, made in the parent; what ends in `_inner` runs in the child.
"""

from __future__ import annotations

import os

from pyspaces.errors import Refusal
from pyspaces.mounts.operation import Operation, mode_faults, path_faults
from pyspaces.mounts.tree import NO_DEVICES, NO_SUID, READ_ONLY

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from pyspaces.mounts.tree import Tree


_PLAIN = NO_DEVICES | NO_SUID


class Bind(Operation):
    """A file or folder of outside, with what is mounted beneath it.

    read_only: all of it. dev: whether its device files can be used. optional: whether the source
    may be missing, and is then left out. suid: whether its set-user-ID and set-group-ID bits and
    its file capabilities have an effect.
    """

    source: str
    read_only: bool = False
    dev: bool = False
    optional: bool = False
    suid: bool = False

    def describe(self) -> str:
        """Say it in words."""
        words = [f"bind {self.source} on {self.target}"]
        words += ["read-only"] * self.read_only + ["with devices"] * self.dev
        words += ["with set-user-ID programs"] * self.suid
        return ", ".join([*words, *["if it exists"] * self.optional])

    def faults(self) -> Iterator[str]:
        """Yield what is wrong, a line each."""
        yield from path_faults("source", self.source)
        yield from super().faults()

    def find_inner(self, tree: Tree) -> tuple[int, ...]:
        """Open what comes from outside."""
        return tree.source_inner(self.source, optional=self.optional)

    def apply_inner(self, tree: Tree, found: tuple[int, ...]) -> None:
        """Do it."""
        attributes = READ_ONLY * self.read_only | NO_DEVICES * (not self.dev)
        attributes |= NO_SUID * (not self.suid)
        for source in found:
            tree.bind_inner(source, self.target, attributes)


class BindFd(Operation):
    """The file or folder that the caller has open as descriptor `fd`. read_only: as in Bind."""

    fd: int
    read_only: bool = False

    def describe(self) -> str:
        """Say it in words."""
        text = f"bind descriptor {self.fd} on {self.target}"
        return f"{text}, read-only" if self.read_only else text

    def descriptors(self) -> tuple[int, ...]:
        """Return the caller's descriptor, which is used up."""
        return (self.fd,)

    def find_inner(self, tree: Tree) -> tuple[int, ...]:
        """Open what comes from outside."""
        opened = _status_of(self.fd)
        # Its mount is one of the caller's namespace, which cannot be copied into ours: EINVAL. So
        # it is looked for where it should be, and has to be the same.
        path = os.readlink(f"/proc/self/fd/{self.fd}")
        _give_back(self.fd)
        sources = tree.source_inner(path)
        if not os.path.samestat(os.fstat(sources[0]), opened):
            raise Refusal("something else is in its place by now", path=path)
        return sources

    def apply_inner(self, tree: Tree, found: tuple[int, ...]) -> None:
        """Do it."""
        tree.bind_inner(found[0], self.target, READ_ONLY * self.read_only | _PLAIN)


class File(Operation):
    """A file with what can be read from the caller's descriptor `fd`. perms: its mode."""

    fd: int
    perms: int = 0o666

    def describe(self) -> str:
        """Say it in words."""
        return f"write descriptor {self.fd} to the file {self.target}, mode {self.perms:04o}"

    def faults(self) -> Iterator[str]:
        """Yield what is wrong, a line each."""
        yield from super().faults()
        yield from mode_faults(self.perms)

    def descriptors(self) -> tuple[int, ...]:
        """Return the caller's descriptor, which is used up."""
        return (self.fd,)

    def apply_inner(self, tree: Tree, found: tuple[int, ...]) -> None:
        """Do it."""
        _status_of(self.fd)
        parent, name = tree.parent_inner(self.target, self.perms)
        _write_from(self.fd, name, parent, self.perms)
        os.close(parent)
        _give_back(self.fd)


class BindData(Operation):
    """A file with what can be read from descriptor `fd`, bound over a file that may be there.

    read_only: cannot be written to inside. perms: its mode.
    """

    fd: int
    read_only: bool = False
    perms: int = 0o600

    def describe(self) -> str:
        """Say it in words."""
        text = f"bind the data of descriptor {self.fd} on {self.target}, mode {self.perms:04o}"
        return f"{text}, read-only" if self.read_only else text

    def faults(self) -> Iterator[str]:
        """Yield what is wrong, a line each."""
        yield from super().faults()
        yield from mode_faults(self.perms)

    def descriptors(self) -> tuple[int, ...]:
        """Return the caller's descriptor, which is used up."""
        return (self.fd,)

    def prepare_inner(self, tree: Tree, found: tuple[int, ...]) -> tuple[int, ...]:
        """Make what is attached later, out of sight."""
        _status_of(self.fd)
        folder, name = tree.scratch_inner(), tree.scratch_name()
        _write_from(self.fd, name, folder, self.perms)
        _give_back(self.fd)
        return (tree.copy_inner(os.open(name, os.O_PATH | os.O_CLOEXEC, dir_fd=folder)),)

    def apply_inner(self, tree: Tree, found: tuple[int, ...]) -> None:
        """Do it."""
        point = tree.point_inner(self.target, folder=False, perms=self.perms)
        tree.attach_inner(found[0], point, READ_ONLY * self.read_only | _PLAIN)


def _give_back(descriptor: int) -> None:
    """Close a descriptor of the caller, for the command has no use for it; but the first three."""
    if descriptor > 2:
        os.close(descriptor)


def _status_of(descriptor: int) -> os.stat_result:
    try:
        return os.fstat(descriptor)
    except OSError as error:
        raise Refusal(number=error.errno or 0, path=f"descriptor {descriptor}") from None


def _write_from(source: int, name: str, folder: int, perms: int) -> None:
    """Write what can be read from `source` to the file `name` in `folder`, until it ends."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
    file = os.open(name, flags, 0o600, dir_fd=folder)
    try:
        while chunk := _read(source):
            view = memoryview(chunk)
            while view:
                view = view[os.write(file, view) :]
        os.fchmod(file, perms)
    finally:
        os.close(file)


def _read(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, 1 << 16)
    except OSError as error:
        raise Refusal(number=error.errno or 0, path=f"descriptor {descriptor}") from None
