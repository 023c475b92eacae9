"""What lies beneath the settings of a command line: a bundle, and profiles on top of it.

Runs in the parent; loaded only if one of them is asked for.
"""

from __future__ import annotations

from pyspaces.errors import UsageFault
from pyspaces.record import told
from pyspaces.settings.profiles import layers

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from pyspaces.settings.profiles.layers import Layer

_ASKING = ("profile", "bundle")


def expanded(
    mapping: Mapping[str, Any], warn: Callable[[str], None], *, terminal: bool = False
) -> dict[str, Any]:
    """Return settings with those of their bundle and their profiles beneath them.

    mapping: as for `settings.plan_from`; False takes a setting away. warn: called with what of a
    bundle is left out. terminal: whether standard input is one. Raises UsageFault.
    """
    above = {name: value for name, value in mapping.items() if name not in _ASKING}
    profiles: list[Layer] = []
    if mapping.get("profile"):
        from pyspaces.settings.profiles import reading

        profiles = reading.layers_of(mapping["profile"])
    upper = [*profiles, layers.of_mapping(above)]
    if not mapping.get("bundle"):
        return layers.merged(upper)
    creates = bool(layers.merged(upper).get("create_targets"))
    bundle = _bundle(mapping["bundle"], warn, terminal=terminal, creates=creates)
    return layers.merged([bundle, *upper])


def _bundle(value: Any, warn: Callable[[str], None], *, terminal: bool, creates: bool) -> Layer:
    import os

    path = os.fspath(value) if isinstance(value, os.PathLike) else value
    if not isinstance(path, str) or "\0" in path:
        raise UsageFault([f"bundle: takes the path of a directory, and is {told(path)}"])
    from pyspaces.settings.bundle import reading

    found = reading.read(path, terminal=terminal, creates=creates)
    for text in found.warnings:
        warn(text)
    return layers.of_mapping(found.settings)
