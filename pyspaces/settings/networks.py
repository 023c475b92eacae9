"""The value of --net: which network the command gets.

Pure; runs in the parent. Loaded only if there is a value.
"""

from __future__ import annotations

from pyspaces.features.network.uplink import MODES, NONE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def expand(values: dict[str, Any]) -> None:
    """Replace the value of `net` by what it stands for.

    values: the settings that are used, of the right types. A word of `uplink.MODES` stays: the
    feature reads it, and complains about any other.
    """
    if values["net"] == NONE:
        values["net"] = True
    elif values["net"] in MODES and not _leaves_mounts(values):
        values["mount"] = True  # for a resolv.conf that is right inside


def _leaves_mounts(values: dict[str, Any]) -> bool:
    """Return whether the command keeps the mount namespace that it has."""
    words = [word.strip() for text in values.get("share", ()) for word in text.split(",")]
    joined = [text.partition("=")[0] for text in values.get("join", ())]
    return "mount" in (*words, *joined)
