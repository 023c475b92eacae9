"""What --profile stands for: the settings of profiles, and of what they extend.

Runs in the parent; loaded only if a profile is asked for.
"""

from __future__ import annotations

import os

from pyspaces.record import Record, told
from pyspaces.settings.profiles import layers, places, tables

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from pyspaces.settings.profiles.layers import Layer
    from pyspaces.settings.profiles.places import Found

_MOST_EXTENDED = 32


class Read(Record):
    """A profile with what it extends: where it was found, its description, and its settings.

    extends: the names of the profiles beneath it, the lowest one first.
    """

    found: Found
    description: str
    settings: dict[str, Any]
    extends: tuple[str, ...] = ()


def layers_of(value: object) -> list[Layer]:
    """Return the layers of profiles, the lowest first. value: as programs name them.

    Raises UsageFault.
    """
    done: set[tuple[str, str]] = set()
    return [
        content.layer
        for text in _names_of(value)
        for _, content in _chain(places.find(text), (), done)
    ]


def read(text: str) -> Read:
    """Return one profile. Raises UsageFault."""
    return read_found(places.find(text))


def read_found(found: Found) -> Read:
    """Return a profile that has been found. Raises UsageFault."""
    chain = list(_chain(found, (), set()))
    return Read(
        found=found,
        description=chain[-1][1].description,
        settings=layers.merged(content.layer for _, content in chain),
        extends=tuple(one.option for one, _ in chain[:-1]),
    )


def _names_of(value: object) -> list[str]:
    """Return the profiles that a program names: a text, a path, or a list of these."""
    items = value if isinstance(value, list | tuple) else [value]
    names: list[Any] = [
        os.fspath(item) if isinstance(item, os.PathLike) else item for item in items
    ]
    for name in names:
        if not isinstance(name, str) or "\0" in name:
            raise places.fault(f"takes a name, a path, or a list of these, and is {told(name)}")
    return names


def _chain(
    found: Found, above: tuple[Found, ...], done: set[tuple[str, str]]
) -> Iterator[tuple[Found, tables.Content]]:
    """Yield what a profile extends, each once and before it, and then the profile itself.

    above: the profiles that extend it. done: those that have been yielded.
    """
    key = (found.path, found.name)
    if any((one.path, one.name) == key for one in above):
        way = " → ".join(one.name for one in (*above, found))
        raise places.fault(f"{found}: extends itself: {way}")
    if len(above) > _MOST_EXTENDED:
        raise places.fault(f"{found}: more than {_MOST_EXTENDED} profiles extend each other")
    if key in done:
        return
    content = tables.content_of(found)
    for name in content.extends:
        yield from _chain(places.extended(found, name), (*above, found), done)
    done.add(key)
    yield found, content
