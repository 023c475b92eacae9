"""The value of --net: which network the command gets.

Pure, but that it looks for registered names; runs in the parent. Loaded only if there is a value.
"""

from __future__ import annotations

from pyspaces.errors import SpaceError
from pyspaces.feature import is_number
from pyspaces.features.existing.names import name_fault
from pyspaces.features.network.uplink import MODES, NONE, WORDS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def expand(values: dict[str, Any]) -> None:
    """Replace the value of `net` by what it stands for.

    values: the settings that are used, of the right types. A word of `uplink.MODES` stays: the
    feature reads it, and complains about any other that cannot be a name. Raises SpaceError if no
    network, command or hold has the name.
    """
    value = values["net"]
    if value == NONE:
        values["net"] = True
    elif value in MODES:
        if not _leaves_mounts(values):
            values["mount"] = True  # for a resolv.conf that is right inside
    elif "/" in value or is_number(value, 9):
        _share(values, value)
    elif name_fault(value) is None:
        _find(values, value)


def _leaves_mounts(values: dict[str, Any]) -> bool:
    """Return whether the command keeps the mount namespace that it has."""
    words = [word.strip() for text in values.get("share", ()) for word in text.split(",")]
    joined = [text.partition("=")[0] for text in values.get("join", ())]
    return "mount" in (*words, *joined)


def _find(values: dict[str, Any], name: str) -> None:
    """Put the command on the network `name`, or into the network of the command `name`."""
    from pyspaces.features.existing import lookup, registry

    if registry.find(name) is None:
        raise SpaceError(
            f"net: {name}: no network, command or hold has this name",
            details=[f"other values: {', '.join(WORDS)}"],
            hint=f"create a network: pyspaces network create {name}",
        )
    # Which of the two it is, is known once it has been started.
    if not lookup.ready_holder_of(name, "net").subnets:
        _share(values, name)
        return
    # The names of the others are a file that is mounted.
    values.update(net=True, mount=True, between=name)


def _share(values: dict[str, Any], place: str) -> None:
    """Join the network namespace of a file, a process or a name, instead of creating one."""
    del values["net"]
    values["join"] = [*values.get("join", ()), f"net={place}"]
