"""The way out of a network namespace: --net=user, by a program that needs no rights on the host.

Pure, but for what ends in _inner, which runs in the child: these are the values, as plans hold
them. `launch/network/uplink.py` is the service.
"""

from __future__ import annotations

from pyspaces.feature import NETWORK, Feature, Part, Step, flag

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from pyspaces.feature import Given
    from pyspaces.launch.inner.steps import Context
    from pyspaces.plan import Plan

NONE = "none"
ENGINES = ("pasta", "slirp4netns")
# `user` is the first of these that is installed.
MODES = ("user", *ENGINES)
# The values of --net that are words, for completion and for the message about any other.
WORDS = (NONE, *MODES)


class Uplink(Part):
    """The way out. mode: one of MODES; None if there is none.

    host_loopback: whether the command can connect to the host's own loopback, at the address of
    its gateway.
    """

    is_served = True
    is_equipped = True
    needs_fork = True

    mode: str | None = None
    host_loopback: bool = False

    def faults(self, plan: Plan) -> Iterator[str]:
        if self.mode is None:
            yield "allow-host-loopback: requires --net=user"
            return
        if self.mode not in MODES:
            yield f"net: {self.mode!r}: choose from {', '.join(WORDS)}"
            return
        if plan.holds("life") and plan.life.in_place:
            yield f"no-fork: cannot be combined with --net={self.mode}: no launcher is left"
        if not plan.net.loopback:
            yield f"net: {self.mode} cannot be combined with --no-loopback"
        if plan.holds("network") and plan.network.allow_host:
            yield f"allow-host: cannot be combined with --net={self.mode}, which leads everywhere"


def _read(given: Given, plan: Plan) -> Uplink:
    del plan
    value = given.values.get("net")
    return Uplink(
        mode=value if isinstance(value, str) else None,
        host_loopback=given.flag("allow_host_loopback"),
    )


def _attach_inner(context: Context) -> None:
    assert context.uplink
    context.uplink.give_inner(context)


def _detail(plan: Plan) -> str:
    engine = " or ".join(ENGINES) if plan.uplink.mode == MODES[0] else plan.uplink.mode
    return f"by {engine}"


ATTACH = Step(
    title="connect the network with that of the host",
    applies=lambda plan: plan.uplink.mode is not None,
    act=_attach_inner,
    detail=_detail,
)

FEATURE = Feature(
    name="uplink",
    part=Uplink,
    settings=(
        flag(
            "allow_host_loopback",
            NETWORK,
            "with --net=user, let the command reach the host's loopback at its gateway's address",
        ),
    ),
    read=_read,
    also=("net",),
    needs={"mode": ("net",)},
    options={"mode": "net", "host_loopback": "allow-host-loopback"},
    quiet=("mode",),
    no_equivalent=dict.fromkeys(
        Uplink._fields, "unshare(1) connects a network namespace with nothing"
    ),
)
