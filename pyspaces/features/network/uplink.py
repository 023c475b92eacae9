"""The way out of a network namespace: --net=user, by a program that needs no rights on the host.

Pure: these are the values, as plans hold them. `launch/network/uplink.py` is the service.
"""

from __future__ import annotations

from pyspaces.feature import Feature, Part

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from pyspaces.feature import Given
    from pyspaces.plan import Plan

NONE = "none"
ENGINES = ("pasta", "slirp4netns")
# `user` is the first of these that is installed.
MODES = ("user", *ENGINES)
# The values of --net that are words, for completion and for the message about any other.
WORDS = (NONE, *MODES)


class Uplink(Part):
    """The way out. mode: one of MODES; None if there is none."""

    mode: str | None = None

    def faults(self, plan: Plan) -> Iterator[str]:
        if self.mode is None:
            return
        if self.mode not in MODES:
            yield f"net: {self.mode!r}: choose from {', '.join(WORDS)}"
        yield "net: this is not built yet"


def _read(given: Given, plan: Plan) -> Uplink:
    del plan
    value = given.values.get("net")
    return Uplink(mode=value) if isinstance(value, str) else Uplink()


FEATURE = Feature(
    name="uplink",
    part=Uplink,
    read=_read,
    also=("net",),
    needs={"mode": ("net",)},
    options={"mode": "net"},
    no_equivalent={"mode": "unshare(1) connects a network namespace with nothing"},
)
