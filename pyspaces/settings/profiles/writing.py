"""Settings as the TOML of a profile.

Pure, but for `save`, which writes a file; runs in the parent. What is written is read as the same
settings again.
"""

from __future__ import annotations

import os

from pyspaces.errors import SpaceError, UsageFault
from pyspaces.feature import MANY, ORDERED, PAIRS, TOGGLE
from pyspaces.settings import _table
from pyspaces.settings.profiles.layers import MOUNTS
from pyspaces.settings.profiles.paths import Paths
from pyspaces.settings.profiles.tables import REFUSED
from pyspaces.visible import visible

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from typing import Any

_BARE = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-")
_ESCAPES = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\t": "\\t", "\r": "\\r"}


def toml_of(settings: Mapping[str, Any], *, description: str = "") -> str:
    """Return a profile with these settings, each with its option's name."""
    lines = [f"description = {_text(description)}"] if description else []
    lines += _lines_of(settings)
    if pairs := dict(settings.get("setenv", ())):
        lines += ["", "[environment]"]
        lines += [f"{_key(name)} = {_text(text)}" for name, text in pairs.items()]
    return "\n".join([*lines, ""])


def _lines_of(settings: Mapping[str, Any]) -> Iterator[str]:
    for name, (kind, *_) in _table.SETTINGS.items():
        value = settings.get(name)
        if kind in (ORDERED, PAIRS) or value is None or (value is False and kind != TOGGLE):
            continue
        yield f"{name.replace('_', '-')} = {_value(value, many=kind == MANY)}"
    if operations := settings.get(MOUNTS):
        yield f"{MOUNTS} = ["
        for name, *words in operations:
            yield f"    {_list([name.replace('_', '-'), *words])},"
        yield "]"


def save(path: str, settings: Mapping[str, Any]) -> None:
    """Write settings to a new file, as a profile.

    Paths are made absolute if the file is not in the current directory. Raises UsageFault for
    settings that a profile cannot have, and SpaceError if the file exists or cannot be written.
    """
    settings = {name: value for name, value in settings.items() if name != "command"}
    names = [*settings, *(str(item[0]) for item in settings.get(MOUNTS, ()))]
    refused = [name for name in names if name in REFUSED]
    if refused:
        raise UsageFault([f"save-profile: {_shown(name)}: {REFUSED[name]}" for name in refused])
    elsewhere = os.path.dirname(os.path.abspath(path)) != os.getcwd()
    text = toml_of(as_typed(settings, absolute=elsewhere))
    try:
        data = text.encode()
    except UnicodeEncodeError:
        raise UsageFault(
            ["save-profile: a value is not UTF-8, which a profile has to be"]
        ) from None
    try:
        # Not through a link, and not over what is there.
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        with open(descriptor, "wb") as file:
            file.write(data)
    except OSError as error:
        directory = os.path.dirname(path)
        is_lacking = directory and not os.path.lexists(directory)
        hint = f"create its directory: mkdir -p {visible(directory)}" if is_lacking else None
        raise SpaceError(f"save-profile: {path}: {error.strerror}", hint=hint) from error


def as_typed(settings: Mapping[str, Any], *, absolute: bool) -> dict[str, Any]:
    """Return settings of a command line as those of a profile, in which `~/` has a meaning.

    absolute: whether relative paths become absolute.
    """
    paths = Paths(os.getcwd() if absolute else "", typed=True)
    moved = {name: paths.of_setting(name, _as_list(value)) for name, value in settings.items()}
    if MOUNTS in settings:
        moved[MOUNTS] = [paths.of_operation([*item]) for item in settings[MOUNTS]]
    return moved


def _as_list(value: Any) -> Any:
    return [*value] if isinstance(value, tuple) else value


def _shown(name: str) -> str:
    return name.replace("_", "-")


def _value(value: Any, *, many: bool) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return _list(value) if many else _text(value)


def _list(items: Iterable[Any]) -> str:
    return f"[{', '.join(map(_text, items))}]"


def _key(name: str) -> str:
    return name if name and _BARE.issuperset(name) else _text(name)


def _text(value: object) -> str:
    r"""Return a basic string of TOML; what a terminal would obey is written as \uNNNN."""
    return f'"{"".join(map(_letter, str(value)))}"'


def _letter(letter: str) -> str:
    if letter in _ESCAPES:
        return _ESCAPES[letter]
    if letter.isprintable() or "\ud800" <= letter <= "\udfff":
        return letter
    return f"\\u{ord(letter):04x}" if ord(letter) < 1 << 16 else f"\\U{ord(letter):08x}"
