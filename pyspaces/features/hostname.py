"""Host and domain name of a new UTS namespace: uts_namespaces(7).

Pure, but for the steps, which the child takes.
"""

from __future__ import annotations

import os

from pyspaces.feature import SETUP, Feature, Part, Step, value
from pyspaces.kernel import constants, libc

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from pyspaces.feature import Given
    from pyspaces.plan import Plan


class Uts(Part):
    """Names of the new UTS namespace; None leaves one as it is."""

    hostname: str | None = None
    domainname: str | None = None

    def faults(self, plan: Plan) -> Iterator[str]:
        del plan
        for field in self._fields:
            name = getattr(self, field)
            if name is not None and (fault := name_fault(name)):
                yield f"{field}: {fault}"


def name_fault(name: str) -> str | None:
    """Return what is wrong with a host or domain name, or None."""
    if not name:
        return "a name cannot be empty"
    if fault := libc.c_string_fault(name):
        return f"{name!r}: {fault}"
    size = len(os.fsencode(name))
    if size > constants.UTS_NAME_MAX:
        return f"{name}: has {size} bytes; the kernel takes {constants.UTS_NAME_MAX}"
    return None


def _read(given: Given, plan: Plan) -> Uts:
    del plan
    return Uts(hostname=given.text("hostname"), domainname=given.text("domainname"))


SET_HOSTNAME = Step(
    title="set the host name",
    applies=lambda plan: plan.uts.hostname is not None,
    act=lambda context: libc.sethostname(context.plan.uts.hostname or ""),
    detail=lambda plan: plan.uts.hostname,
)
SET_DOMAINNAME = Step(
    title="set the domain name",
    applies=lambda plan: plan.uts.domainname is not None,
    act=lambda context: libc.setdomainname(context.plan.uts.domainname or ""),
    detail=lambda plan: plan.uts.domainname,
)

FEATURE = Feature(
    name="uts",
    part=Uts,
    settings=(
        value("hostname", SETUP, "NAME", "set the host name", implies=("uts",)),
        value("domainname", SETUP, "NAME", "set the NIS domain name", implies=("uts",)),
    ),
    read=_read,
    needs={"hostname": ("uts",), "domainname": ("uts",)},
    quiet=Uts._fields,
    no_equivalent=dict.fromkeys(Uts._fields, "unshare(1) sets none"),
)
