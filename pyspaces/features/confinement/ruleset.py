"""The Landlock ruleset of a plan, and what this kernel supports: landlock(7).

Made in the parent, applied by the child. Off the launch path: loaded only if a plan needs it.
"""

from __future__ import annotations

import errno
import os
import stat
import struct

from pyspaces.errors import Refusal, SpaceError
from pyspaces.kernel import constants, libc
from pyspaces.kernel.libc import KernelError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from pyspaces.features.confinement.landlock import Landlock

# include/uapi/linux/landlock.h: rights on files and directories, by bit.
_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR = 1 << 0, 1 << 1, 1 << 2, 1 << 3
_TRUNCATE, _IOCTL_DEV = 1 << 14, 1 << 15
_OF_FILES = _EXECUTE | _WRITE_FILE | _READ_FILE | _TRUNCATE | _IOCTL_DEV
_READ = _READ_FILE | _READ_DIR
# All rights that a version knows, from the newest on.
_RIGHTS = ((5, 0xFFFF), (3, 0x7FFF), (2, 0x3FFF), (1, 0x1FFF))
# Since which version each kind can be limited. Below 2, nothing at all can be moved between
# directories; ioctl(2) on devices is limited from 5 on, and is no reason to refuse an older one.
_SINCE = {"files": 3, "connect": 4, "bind": 4, "scope": 6}
_WHAT = {
    "files": "truncating files",
    "connect": "connecting to ports",
    "bind": "binding to ports",
    "scope": "the scope",
}
_BIND, _CONNECT = 1 << 0, 1 << 1
_SCOPES = {"abstract": 1 << 0, "signal": 1 << 1}
_PATH_BENEATH, _NET_PORT = 1, 2
_VERSION = 1  # LANDLOCK_CREATE_RULESET_VERSION
_SIZES = ((6, 24), (4, 16), (1, 8))  # of struct landlock_ruleset_attr, by version


def version() -> int:
    """Return the version of Landlock's interface. Raises KernelError if there is none."""
    number = constants.SYS_landlock_create_ruleset
    return libc.call("landlock_create_ruleset", number, None, 0, _VERSION)


class Ruleset:
    """The rules of a plan. abi: the version of the kernel. left_out: what it cannot limit.

    Made in the parent: raises SpaceError if the kernel lacks something, unless that is left out.
    """

    def __init__(self, part: Landlock) -> None:
        self._part = part
        self.abi = _version_or_none()
        self.left_out = tuple(_WHAT[kind] for kind in _kinds(part) if self.abi < _SINCE[kind])
        if not self.abi or (self.left_out and not part.best_effort):
            raise _lacking(self.abi, self.left_out)

    def restrict_inner(self) -> None:
        """Restrict this process to what the rules allow. Raises KernelError."""
        part, rights = self._part, _first(_RIGHTS, self.abi)
        handled = rights if part.limits_files else 0
        ports = (part.bind is not None) * _BIND | (part.connect is not None) * _CONNECT
        scope = sum(_SCOPES[word] for word in part.scope)
        attributes = struct.pack("=QQQ", handled, ports, scope)[: _first(_SIZES, self.abi)]
        if not any(attributes):
            return  # everything was left out
        number = constants.SYS_landlock_create_ruleset
        rules = libc.call("landlock_create_ruleset", number, attributes, len(attributes), 0)
        try:
            write = rights & ~_EXECUTE
            for paths, allowed in (
                *((part.read, _READ), (part.write, write)),
                (part.execute, _READ | _EXECUTE),
            ):
                for path in paths:
                    _add_path(rules, path, allowed)
            if self.abi >= _SINCE["bind"]:
                _add_ports(rules, part.bind or (), _BIND)
                _add_ports(rules, part.connect or (), _CONNECT)
            number = constants.SYS_landlock_restrict_self
            libc.call("landlock_restrict_self", number, rules, 0)
        finally:
            os.close(rules)


def _kinds(part: Landlock) -> Iterator[str]:
    """Yield the kinds of limits that a plan asks for."""
    if part.limits_files:
        yield "files"
    if part.connect is not None:
        yield "connect"
    if part.bind is not None:
        yield "bind"
    if part.scope:
        yield "scope"


def _version_or_none() -> int:
    try:
        return version()
    except KernelError as error:
        if error.errno in (errno.ENOSYS, errno.EOPNOTSUPP):
            return 0
        raise


def _lacking(abi: int, left_out: Iterable[str]) -> SpaceError:
    if not abi:
        return SpaceError(
            "cannot restrict access by Landlock: it is not in this kernel, or disabled at boot"
        )
    return SpaceError(
        f"cannot restrict access by Landlock: ABI {abi} of this kernel does not cover"
        f" {', '.join(left_out)}",
        hint="to go on without that, add --landlock-best-effort",
    )


def _first(rows: Iterable[tuple[int, int]], abi: int) -> int:
    return next(value for since, value in rows if abi >= since)


def _add_path(rules: int, path: str, allowed: int) -> None:
    try:
        place = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError as error:
        raise Refusal(number=error.errno or 0, path=path) from None
    try:
        # Rights of directories do not apply to a file.
        if not stat.S_ISDIR(os.fstat(place).st_mode):
            allowed &= _OF_FILES
        rule = struct.pack("=Qi", allowed, place)
        libc.call(
            *("landlock_add_rule", constants.SYS_landlock_add_rule),
            *(rules, _PATH_BENEATH, rule, 0),
            path=path,
        )
    finally:
        os.close(place)


def _add_ports(rules: int, ports: Iterable[int], right: int) -> None:
    for port in ports:
        rule = struct.pack("=QQ", right, port)
        number = constants.SYS_landlock_add_rule
        libc.call("landlock_add_rule", number, rules, _NET_PORT, rule, 0)
