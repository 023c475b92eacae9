"""Where a path would lead exec: to nothing but what is in the root that the command sees.

Runs in the new process only. Loaded if that root is not the caller's: it may be made so that
the kernel executes the interpreter of this launcher, by a first line `#!/proc/self/exe` and a
dynamic loader from there, which could then write to that file of the host (CVE-2019-5736).
"""

from __future__ import annotations

import errno
import os
import stat
import sys

from pyspaces.errors import Refusal
from pyspaces.kernel import constants, mountapi, procfs
from pyspaces.kernel.libc import KernelError

# fs/exec.c, exec_binprm(): so many interpreters of interpreters; linux/binfmts.h: so long a line.
_MOST_LEVELS = 6
_FIRST_LINE = 256
_MOST_HEADERS = 1 << 16
_ELF = b"\x7fELF"
_PT_INTERP = 3
_LONGEST_PATH = 4096  # linux/limits.h
# Of 64 bits and of 32: size of an offset, places of e_phoff and e_phentsize, size of a header.
_LAYOUTS = ((8, (32, 54), 56), (4, (28, 42), 32))
_REGISTRY = "/proc/sys/fs/binfmt_misc"
_OF_CALLER = (b"/proc/self/fd/", b"/dev/fd/")
_LEADS = "leads to what is outside of the root, such as the launcher's own interpreter"


class Leading:
    """What is known of the file that this process executes. Made in the parent."""

    def __init__(self) -> None:
        self._own = _own_program()
        # Nobody inside has more rights to it than the caller.
        self._is_ours = self._own.st_uid == os.geteuid() or os.access("/proc/self/exe", os.W_OK)
        self._registered = _registered()

    def check_inner(self, path: bytes) -> bool:
        """Raise Refusal if exec of `path` would leave the root; exec reports all other errors.

        Returns whether it is an ELF program, as far as it could be read. The caller's own
        descriptor, as /proc/self/fd/3, is what the caller has asked for.
        """
        kept = any(path.removeprefix(way).isdigit() for way in _OF_CALLER if path.startswith(way))
        found = self._follow_inner(path, 0 if kept else constants.RESOLVE_NO_MAGICLINKS)
        for interpreter in self._registered:
            self._follow_inner(interpreter, constants.RESOLVE_NO_MAGICLINKS)
        return found

    def _follow_inner(self, path: bytes, resolve: int, level: int = 0) -> bool:
        """Look at a file, and what it names; return whether it is an ELF program."""
        found = self._open_inner(path, resolve) if level < _MOST_LEVELS else None
        if found is None:
            return False
        try:
            head = _read(found, _FIRST_LINE, 0)
            following = _interpreters_of(found, head)
        finally:
            os.close(found)
        for one in following:
            self._follow_inner(one, constants.RESOLVE_NO_MAGICLINKS, level + 1)
        return head.startswith(_ELF)

    def _open_inner(self, path: bytes, resolve: int) -> int | None:
        """Open a file that can be executed, to read it; None if exec will refuse it."""
        name = os.fsdecode(path)
        try:
            place = mountapi.openat2(constants.AT_FDCWD, name, os.O_PATH, resolve)
        except KernelError as error:
            if error.errno == errno.ELOOP and _is_there(name):
                raise Refusal(_LEADS, path=name) from None
            return None
        try:
            status = os.fstat(place)
            if not stat.S_ISREG(status.st_mode):
                return None
            if not resolve and os.path.samestat(status, self._own):
                raise Refusal(_LEADS, path=name)
            return self._read_inner(name, resolve, status)
        finally:
            os.close(place)

    def _read_inner(self, name: str, resolve: int, status: os.stat_result) -> int | None:
        try:
            found = mountapi.openat2(constants.AT_FDCWD, name, os.O_RDONLY | os.O_NONBLOCK, resolve)
        except KernelError as error:
            # A file with no permission to read cannot be checked. If the launcher's interpreter
            # is not the caller's, nobody inside could write to it.
            denied = error.errno == errno.EACCES and self._is_ours
            if denied and os.access(name, os.X_OK, effective_ids=True):
                text = "cannot be read, so it is not known whether it leads outside of the root"
                raise Refusal(text, path=name) from None
            return None
        if os.path.samestat(os.fstat(found), status):
            return found
        os.close(found)
        raise Refusal("was replaced meanwhile", path=name)


def _own_program() -> os.stat_result:
    try:
        return os.stat("/proc/self/exe")
    except OSError:  # no /proc
        return os.stat(sys.executable)


def _registered() -> list[bytes]:
    """Return the interpreters of binfmt_misc that the kernel looks for in the root of a command."""
    found = []
    try:
        names = os.listdir(_REGISTRY)
    except OSError:
        return []
    for name in names:
        told = (procfs.read_or_none(f"{_REGISTRY}/{name}") or "").splitlines()
        rows = dict(line.split(" ", 1) for line in told if " " in line)
        # With the flag F the file was opened when it was registered.
        if "interpreter" in rows and "F" not in rows.get("flags:", ""):
            found.append(os.fsencode(rows["interpreter"]))
    return found


def _is_there(name: str) -> bool:
    """Return whether magic links alone were in the way, and not a loop of symbolic links."""
    try:
        os.close(os.open(name, os.O_PATH | os.O_CLOEXEC))
    except OSError:
        return False
    return True


def _interpreters_of(file: int, head: bytes) -> list[bytes]:
    """Return what the kernel may open besides `file`: of a script, or of an ELF program."""
    if head.startswith(b"#!"):
        # As load_script() in fs/binfmt_script.c takes it apart: no other blanks count.
        line = head[2:].split(b"\n", 1)[0].split(b"\0", 1)[0].replace(b"\t", b" ").lstrip(b" ")
        return list(filter(None, line.split(b" ", 1)[:1]))
    if not head.startswith(_ELF):
        return []
    # In the byte order of this machine, whatever the file says of its own: load_elf_binary() asks
    # e_machine alone, which is also what the width goes by.
    found = [_loader_of(file, head, *layout) for layout in _LAYOUTS]
    return [path for path in found if path]


def _loader_of(file: int, head: bytes, word: int, at: tuple[int, int], row: int) -> bytes | None:
    """Return the dynamic loader that an ELF program names: elf(5); None if it is not a whole one.

    word: the size of an offset. at: where the table's place and its numbers stand. row: the size of
    one header.
    """
    size, count = _number(head, at[1], 2), _number(head, at[1] + 2, 2)
    if size != row:
        return None
    table = _read(file, min(size * count, _MOST_HEADERS), _number(head, at[0], word))
    for start in range(0, len(table) - row + 1, row):
        if _number(table, start, 4) == _PT_INTERP:
            begin, length = (_number(table, start + place * word, word) for place in (1, 4))
            return _read(file, min(length, _LONGEST_PATH), begin).split(b"\0", 1)[0]
    return None


def _number(data: bytes, place: int, size: int) -> int:
    return int.from_bytes(data[place : place + size], sys.byteorder)


def _read(file: int, size: int, place: int) -> bytes:
    try:
        return os.pread(file, size, place)
    except (OSError, OverflowError):
        return b""
