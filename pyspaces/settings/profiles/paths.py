"""Paths in profiles: `~/` is the caller's home directory, and what is relative has a base.

Runs in the parent. A path inside, which the command sees, is never relative to a file.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# Settings that are paths, or lists of them; and of these, those of files outside.
_PATHS = (
    *("root", "workdir", "allow_read", "allow_write", "allow_exec", "seccomp", "seccomp_learn"),
    *("overlay_diff", "status_file", "pid_file", "lock_file", "net"),
)
_OUTSIDE = ("root", "seccomp", "seccomp_learn", "overlay_diff", "status_file", "pid_file", "net")
# NS=PATH; what has no slash is a name or a process there.
_PLACED = ("join", "keep")
# Operations, and how many of their words are paths outside.
_SOURCES = {
    **dict.fromkeys(("bind", "ro_bind", "dev_bind", "bind_suid"), 1),
    **dict.fromkeys(("bind_try", "ro_bind_try", "dev_bind_try", "overlay_src"), 1),
    "overlay": 2,
}
# Words of operations that are no paths.
_TEXTS = ("size", "perms")
_FIRST_IS_TEXT = ("symlink", "chmod")
# Values of these that are no paths.
_WORDS = {"seccomp": "default", "overlay_diff": "-"}


class Paths:
    """How the paths of one profile are understood.

    base: the directory of relative ones, or empty. typed: whether the paths come from a command
    line, where the shell has replaced each `~`: one that is left is a name, and stays one.
    """

    def __init__(self, base: str, *, typed: bool = False) -> None:
        self._base = base
        self._at_home = _as_name if typed else _at_home

    def of_setting(self, name: str, value: Any) -> Any:
        """Return the value of a setting, its paths made absolute where they are outside."""
        if isinstance(value, list):
            return [self.of_setting(name, one) for one in value]
        if not isinstance(value, str):
            return value
        if name in _PLACED:
            return self._placed(name, value)
        if name not in _PATHS or value == _WORDS.get(name):
            return value
        if name == "net" and "/" not in value:  # a mode, a name or a process
            return value
        path = self._at_home(value)
        return self._outside(path) if name in _OUTSIDE else path

    def of_operation(self, words: list[str]) -> list[str]:
        """Return the words of an operation, its sources made absolute."""
        name, *rest = words
        if name == "mount":
            return [name, *(self._fields(text) for text in rest)]
        if name in _TEXTS:
            return words
        first = 1 if name in _FIRST_IS_TEXT else 0
        paths = [*rest[:first], *map(self._at_home, rest[first:])]
        count = _SOURCES.get(name, 0)
        return [name, *map(self._outside, paths[:count]), *map(self._target, paths[count:])]

    def _outside(self, path: str) -> str:
        return os.path.normpath(os.path.join(self._base, path)) if self._base and path else path

    def _target(self, path: str) -> str:
        return self._outside(path) if path == "." else path  # where its source is, then

    def _placed(self, name: str, text: str) -> str:
        namespace, equals, place = text.partition("=")
        if not equals or (name == "join" and "/" not in place):
            return text
        return f"{namespace}={self._outside(self._at_home(place))}"

    def _fields(self, text: str) -> str:
        """Return the value of --mount, which has quotes if it has commas: then it stays."""
        if '"' in text:
            return text
        return ",".join(map(self._field, text.split(",")))

    def _field(self, field: str) -> str:
        key, equals, value = field.partition("=")
        if not equals or key not in ("source", "src", "target", "dst", "destination"):
            return field
        path = self._at_home(value)
        return f"{key}={(self._outside if key in ('source', 'src') else self._target)(path)}"


def _at_home(path: str) -> str:
    return os.path.expanduser(path) if path == "~" or path.startswith("~/") else path


def _as_name(path: str) -> str:
    return f"./{path}" if path == "~" or path.startswith("~/") else path
