"""Profiles of system calls in the JSON format of OCI runtimes, as moby and podman write it too.

https://github.com/opencontainers/runtime-spec, config-linux.md, "Seccomp"; beyond that `archMap`,
`includes` and `excludes`. Runs in the parent; off the launch path. A file may be somebody else's:
its size and its numbers are bounded before anything is done with them.
"""

from __future__ import annotations

import errno
import os

from pyspaces.kernel import constants
from pyspaces.kernel.libseccomp import OPERATORS, Comparison
from pyspaces.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from typing import Any

LARGEST = 1 << 20
_MOST_RULES = 20_000
# The library's time and memory grow by more than these: 16 rules of 4 conditions each on one call
# took 0.6 s, and 60 did not end.
_MOST_CONDITIONS = 2000
_MOST_OF_ONE_CALL = 256
_MOST_COMBINED = 8
_LONGEST_NAME = 64
_ACTIONS = {
    "KILL": constants.SECCOMP_RET_KILL_THREAD,
    "KILL_THREAD": constants.SECCOMP_RET_KILL_THREAD,
    "KILL_PROCESS": constants.SECCOMP_RET_KILL_PROCESS,
    "TRAP": constants.SECCOMP_RET_TRAP,
    "ERRNO": constants.SECCOMP_RET_ERRNO,
    "TRACE": constants.SECCOMP_RET_TRACE,
    "LOG": constants.SECCOMP_RET_LOG,
    "ALLOW": constants.SECCOMP_RET_ALLOW,
}
_FLAGS = {
    "SECCOMP_FILTER_FLAG_TSYNC": 0,  # there is one thread
    "SECCOMP_FILTER_FLAG_LOG": constants.SECCOMP_FILTER_FLAG_LOG,
    "SECCOMP_FILTER_FLAG_SPEC_ALLOW": constants.SECCOMP_FILTER_FLAG_SPEC_ALLOW,
}
_TOP = {
    *("defaultAction", "defaultErrnoRet", "defaultErrno", "architectures", "archMap", "syscalls"),
    *("flags", "listenerPath", "listenerMetadata"),
}
_OF_CALL = {
    *("names", "name", "action", "errnoRet", "errno", "args", "comment", "includes", "excludes"),
}
_OF_CONDITION = {"caps", "arches", "minKernel"}
# What includes and excludes call an architecture: as Go does.
_GO_NAMES = {"x86_64": "amd64", "aarch64": "arm64"}


class Rule(Record):
    """What some calls get, if all conditions on their arguments hold."""

    names: tuple[str, ...]
    action: int
    conditions: tuple[Comparison, ...] = ()


class Profile(Record):
    """A profile, for one machine and the capabilities of one command.

    default: what a call gets that no rule names. architectures: those besides the own one, by the
    names of libseccomp. flags: SECCOMP_FILTER_FLAG_* bits.
    """

    default: int
    architectures: tuple[str, ...] = ()
    flags: int = 0
    rules: tuple[Rule, ...] = ()


class Host(Record):
    """For whom a profile is read: the architecture, the kernel's version, the capabilities."""

    architecture: str
    kernel: tuple[int, int]
    capabilities: frozenset[str] = frozenset()


class Unfit(ValueError):
    """What is wrong with a profile."""


def read(path: str) -> bytes:
    """Return the content of a file. Raises Unfit with the reason."""
    try:
        # O_NONBLOCK: opening a FIFO must not wait.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            content = _all_of(descriptor)
        finally:
            os.close(descriptor)
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise Unfit(why) from None
    if len(content) > LARGEST:
        raise Unfit(f"is larger than {LARGEST >> 20} MiB")
    return content


def _all_of(descriptor: int) -> bytes:
    content = b""
    while len(content) <= LARGEST and (piece := os.read(descriptor, LARGEST + 1)):
        content += piece
    return content


def parse(content: bytes, host: Host) -> Profile:
    """Return the profile in a file. Raises Unfit with what is wrong."""
    return profile_of(_decoded(content), host)


def profile_of(data: dict[str, Any], host: Host) -> Profile:
    """Return the profile that the data of a file describe. Raises Unfit."""
    _only(data, _TOP, "")
    if data.get("listenerPath") or data.get("listenerMetadata"):
        raise Unfit("listenerPath: pyspaces hands a filter to no listener")
    if data.get("archMap") and data.get("architectures"):
        raise Unfit("architectures: cannot be combined with archMap")
    number = _errno(data, "defaultErrnoRet", "defaultErrno", "")
    return Profile(
        default=_action(data, "defaultAction", number, ""),
        architectures=tuple(_architectures(data, host)),
        flags=_flags(data),
        rules=tuple(_rules(data, host)),
    )


def _decoded(content: bytes) -> dict[str, Any]:
    import json  # 5 ms that only a file needs

    try:
        data = json.loads(content.decode())
    except RecursionError:
        raise Unfit("is nested too deeply") from None
    except UnicodeDecodeError as error:
        raise Unfit(f"is not UTF-8 at byte {error.start}") from None
    except ValueError as error:
        raise Unfit(f"is not JSON: {str(error)[:200]}") from None
    found: dict[str, Any] = _checked(data, dict, "the profile")
    if "ociVersion" in found:  # the config.json of a bundle, which has a profile
        linux = _checked(found.get("linux"), dict, "linux")
        found = _checked(linux.get("seccomp"), dict, "linux.seccomp")
    return found


def _checked(value: Any, kind: type, where: str) -> Any:
    if type(value) is not kind:
        words = {dict: "an object", list: "a list", str: "a text", int: "a whole number"}
        raise Unfit(f"{where}: has to be {words[kind]}")
    return value


def _list(data: dict[str, Any], name: str, where: str) -> list[Any]:
    value = data.get(name)
    found: list[Any] = [] if value is None else _checked(value, list, f"{where}{name}")
    if len(found) > _MOST_RULES:
        raise Unfit(f"{where}{name}: is a list of {len(found)}; {_MOST_RULES} are the most")
    return found


def _texts(data: dict[str, Any], name: str, where: str) -> list[str]:
    return [_text(one, f"{where}{name}") for one in _list(data, name, where)]


def _text(value: Any, where: str) -> str:
    text: str = _checked(value, str, where)
    if len(text) > _LONGEST_NAME or not text.isascii() or not text.isprintable():
        raise Unfit(f"{where}: {text[:_LONGEST_NAME]!r} is not a name")
    return text


def _only(data: dict[str, Any], known: Collection[str], where: str) -> None:
    for name in data:
        if name not in known:
            raise Unfit(f"{where}{name[:_LONGEST_NAME]}: unknown member")


def _errno(data: dict[str, Any], name: str, word: str, where: str) -> int:
    """Return an errno, given as a number or as a name; EPERM if it is not given."""
    if data.get(name) is not None:
        number = _checked(data[name], int, f"{where}{name}")
    elif data.get(word):
        number = getattr(errno, _text(data[word], f"{where}{word}"), -1)
    else:
        return errno.EPERM
    if not isinstance(number, int) or not 0 <= number <= constants.SECCOMP_RET_DATA:
        raise Unfit(f"{where}{name}: is not an errno")
    return number


def _action(data: dict[str, Any], name: str, number: int, where: str) -> int:
    text = _text(data.get(name), f"{where}{name}")
    bare = text.removeprefix("SCMP_ACT_")
    if bare == "NOTIFY":
        raise Unfit(f"{where}{name}: {text}: pyspaces hands a filter to no listener")
    if bare == text or bare not in _ACTIONS:
        raise Unfit(f"{where}{name}: {text!r} is not an action such as SCMP_ACT_ERRNO")
    return _ACTIONS[bare] | (number if bare in ("ERRNO", "TRACE") else 0)


def _architectures(data: dict[str, Any], host: Host) -> Iterator[str]:
    for name in _texts(data, "architectures", ""):
        yield _architecture(name)
    for index, row in enumerate(_list(data, "archMap", "")):
        where = f"archMap[{index}]."
        _only(_checked(row, dict, where[:-1]), ("architecture", "subArchitectures"), where)
        if _architecture(_text(row.get("architecture"), f"{where}architecture")) == (
            host.architecture
        ):
            yield from map(_architecture, _texts(row, "subArchitectures", where))


def _architecture(name: str) -> str:
    bare = name.removeprefix("SCMP_ARCH_")
    if bare == name:
        raise Unfit(f"{name!r} is not an architecture such as SCMP_ARCH_X86_64")
    return bare.lower()


def _flags(data: dict[str, Any]) -> int:
    bits = 0
    for name in _texts(data, "flags", ""):
        if name not in _FLAGS:
            raise Unfit(f"flags: {name}: unknown flag")
        bits |= _FLAGS[name]
    return bits


class _Load:
    """How much work a profile is for the library."""

    def __init__(self) -> None:
        self._rules = self._conditions = 0
        self._single: dict[str, int] = {}
        self._combined: dict[str, int] = {}

    def takes(self, names: list[str], rows: list[tuple[Comparison, ...]]) -> bool:
        """Add rules of some calls; return whether the total is still acceptable."""
        self._rules += len(names) * len(rows)
        self._conditions += len(names) * sum(map(len, rows))
        if self._rules > _MOST_RULES or self._conditions > _MOST_CONDITIONS:
            return False
        combined = sum(len(row) > 1 for row in rows)
        for name in names:
            self._single[name] = self._single.get(name, 0) + len(rows)
            self._combined[name] = self._combined.get(name, 0) + combined
        most = max(self._single.values()) <= _MOST_OF_ONE_CALL
        return most and max(self._combined.values()) <= _MOST_COMBINED


def _rules(data: dict[str, Any], host: Host) -> Iterator[Rule]:
    load = _Load()
    for index, call in enumerate(_list(data, "syscalls", "")):
        where = f"syscalls[{index}]."
        _only(_checked(call, dict, where[:-1]), _OF_CALL, where)
        names = _texts(call, "names", where)
        if call.get("name"):
            names.append(_text(call["name"], f"{where}name"))
        if not names:
            raise Unfit(f"{where}names: is missing")
        action = _action(call, "action", _errno(call, "errnoRet", "errno", where), where)
        rows = _conditions(call, where)
        applies = _holds(call, "includes", where, host) and not _any(call, "excludes", where, host)
        if not load.takes(names, rows):
            raise Unfit(f"syscalls[{index}]: too many rules")
        if applies:
            for row in rows:
                yield Rule(names=tuple(names), action=action, conditions=row)


def _conditions(call: dict[str, Any], where: str) -> list[tuple[Comparison, ...]]:
    """Return the conditions of each rule. Two on the same argument are two rules, as with runc."""
    found = []
    for index, one in enumerate(_list(call, "args", where)):
        place = f"{where}args[{index}]."
        _only(_checked(one, dict, place[:-1]), ("index", "value", "valueTwo", "op"), place)
        argument = _number(one, "index", place)
        operator = _text(one.get("op"), f"{place}op").removeprefix("SCMP_CMP_")
        if operator not in OPERATORS or argument > 5:
            raise Unfit(f"{place[:-1]}: is not a condition on one of six arguments")
        found.append(
            Comparison(
                index=argument,
                operator=operator,
                value=_number(one, "value", place),
                other=_number(one, "valueTwo", place) if one.get("valueTwo") else 0,
            )
        )
    if len({one.index for one in found}) < len(found):
        return [(one,) for one in found]
    return [tuple(found)]


def _number(data: dict[str, Any], name: str, where: str) -> int:
    number: int = _checked(data.get(name), int, f"{where}{name}")
    if not 0 <= number < 1 << 64:
        raise Unfit(f"{where}{name}: is out of range")
    return number


def _filters(call: dict[str, Any], kind: str, where: str, host: Host) -> Iterator[bool]:
    """Yield whether each part of `includes` or `excludes` matches this host."""
    data = call.get(kind)
    if not data:
        return
    place = f"{where}{kind}."
    _only(_checked(data, dict, place[:-1]), _OF_CONDITION, place)
    if caps := _texts(data, "caps", place):
        yield (
            any(cap in host.capabilities for cap in caps)
            if kind == "excludes"
            else all(cap in host.capabilities for cap in caps)
        )
    if arches := _texts(data, "arches", place):
        yield _GO_NAMES.get(host.architecture, host.architecture) in arches
    if version := data.get("minKernel"):
        words = _text(version, f"{place}minKernel").split(".")
        if len(words) < 2 or not all(word.isdecimal() and len(word) < 6 for word in words[:2]):
            raise Unfit(f"{place}minKernel: is not a version such as 4.8")
        yield host.kernel >= (int(words[0]), int(words[1]))


def _holds(call: dict[str, Any], kind: str, where: str, host: Host) -> bool:
    return all(_filters(call, kind, where, host))


def _any(call: dict[str, Any], kind: str, where: str, host: Host) -> bool:
    return any(_filters(call, kind, where, host))
