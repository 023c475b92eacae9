"""The values of --mount=: type=TYPE,source=SRC,target=DST and options, as podman-run(1) has them.

Pure but for the caller's working directory, as `words`; runs in the parent.
"""

from __future__ import annotations

import os

from pyspaces.mounts.binds import Bind
from pyspaces.mounts.devices import Dev
from pyspaces.mounts.places import Mqueue, Proc, RemountRo, Sysfs, Tmpfs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    from pyspaces.mounts.operation import Operation

BIND, TMPFS = "bind", "tmpfs"
_FRESH: dict[str, Callable[..., Operation]] = {
    "proc": Proc,
    "sysfs": Sysfs,
    "mqueue": Mqueue,
    "dev": Dev,
}
TYPES = (BIND, TMPFS, *_FRESH)
# Other names of keys, and of switches with what they say.
_KEYS = {"src": "source", "dst": "target", "destination": "target"}
_KEYS |= {"tmpfs-size": "size", "tmpfs-mode": "mode"}
_SWITCHES = {
    **dict.fromkeys(("ro", "readonly"), ("read-only", True)),
    "rw": ("read-only", False),
    "noexec": ("no-exec", True),
    "exec": ("no-exec", False),
    "nosuid": ("suid", False),
    "suid": ("suid", True),
    "nodev": ("dev", False),
    "dev": ("dev", True),
}
# What each type can have besides a target. What the kernel mounts so in any case may be said.
_OF_BIND = ("source", "read-only", "no-exec", "suid", "dev")
_OF_TMPFS = ("size", "mode", "read-only", "no-exec")
_OF_FRESH = ("read-only",)
_ALWAYS = {
    TMPFS: (("suid", False), ("dev", False)),
    **dict.fromkeys(_FRESH, (("suid", False), ("dev", False), ("no-exec", True))),
    "dev": (("suid", False),),
}


# The fields of an operation that are a key each.
_FIELDS = {"source": "source", "no-exec": "no_exec", "suid": "suid", "dev": "dev"}
_FIELDS |= {"size": "size", "mode": "perms"}


class Wrong(ValueError):
    """What is wrong with a value, in words."""


def operations_of(text: str, number: Callable[[str, str], Any]) -> Iterator[Operation]:
    """Yield the operations of one value. Raises Wrong, and what `number` raises.

    number: reads a size or a mode: called with `size` or `perms`, and the text.
    """
    said = dict(_said(text))
    kind = said.pop("type", None)
    if kind not in TYPES:
        what = "type: is missing" if kind is None else f"type: {kind!r}: is unknown"
        raise Wrong(f"{what}: choose from {', '.join(TYPES)}")
    known = {BIND: _OF_BIND, TMPFS: _OF_TMPFS}.get(kind, _OF_FRESH)
    for key, value in said.items():
        if key not in ("target", *known) and (key, value) not in _ALWAYS.get(kind, ()):
            raise Wrong(f"{_written(key, value)}: does not apply to type={kind}")
    for key in ("target", *(("source",) if kind == BIND else ())):
        if key not in said:
            raise Wrong(f"{key}: is missing")
    target = said["target"] if said["target"] != "." else os.getcwd()
    fields = {_FIELDS[key]: said[key] for key in known if key in _FIELDS and key in said}
    if kind == BIND:
        yield Bind(target=target, read_only=said.get("read-only", False), **fields)
        return
    for key in ("size", "perms"):
        if key in fields:
            fields[key] = number(key, fields[key])
    yield Tmpfs(target=target, **fields) if kind == TMPFS else _FRESH[kind](target=target)
    if said.get("read-only"):
        yield RemountRo(target=target)


def _written(key: str, value: object) -> str:
    """Return an option as a user may have written it."""
    if isinstance(value, bool):
        return next(name for name, said in _SWITCHES.items() if said == (key, value))
    return key


def _said(text: str) -> Iterator[tuple[str, Any]]:
    """Yield each key and its value; a switch has True or False. Raises Wrong if one is repeated."""
    seen: set[str] = set()
    for field in _fields(text):
        name, equals, value = field.partition("=")
        key = _KEYS.get(name, name)
        said: str | bool = value
        if name in _SWITCHES:
            if equals and value not in ("true", "false"):
                raise Wrong(f"{name}: {value[:40]!r}: is neither true nor false")
            key, said = _SWITCHES[name][0], _SWITCHES[name][1] == (value != "false")
        elif key not in ("type", "source", "target", "size", "mode"):
            raise Wrong(f"{name[:40]!r}: is unknown")
        elif not value:
            raise Wrong(f"{name}: requires a value")
        if key in seen:
            raise Wrong(f"{name}: is given twice, or contradicts another option")
        seen.add(key)
        yield key, said


def _fields(text: str) -> Iterator[str]:
    """Split at commas; a field in double quotes may have some, and "" is a quote there: CSV."""
    field, quoted, at = "", False, 0
    while at < len(text):
        letter = text[at]
        at += 1
        if letter == '"' and quoted and text[at : at + 1] == '"':
            field, at = field + '"', at + 1
        elif letter == '"' and (quoted or not field):
            quoted = not quoted
        elif letter == "," and not quoted:
            yield field
            field = ""
        else:
            field += letter
    if quoted:
        raise Wrong("a quote is not closed")
    yield field
