"""What confines a command, made before there is a child: it only applies it, right before exec.

Runs in the parent. Loaded only if the plan confines the command.
"""

from __future__ import annotations

import os

from pyspaces.features.ids import capabilities
from pyspaces.kernel import libc, procfs
from pyspaces.launch.service import Service

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyspaces.features.confinement.seccomp import Filter
    from pyspaces.plan import Plan


class Confining(Service):
    """The ruleset and the filters of a launch."""

    def open(self) -> None:
        """Make and compile them. Raises UsageFault and SpaceError."""
        plan = self.launch.plan
        if plan.holds("landlock") and plan.landlock:
            from pyspaces.features.confinement.ruleset import Ruleset

            self.launch.ruleset = Ruleset(plan.landlock)
        if plan.holds("seccomp") and plan.seccomp:
            # The module is loaded: it has the part of the plan.
            from pyspaces.features.confinement.seccomp import ready

            self.launch.filters = ready(plan.seccomp) or compiled(plan)


def compiled(plan: Plan) -> tuple[Filter, ...]:
    """Compile the filters of a plan. Raises UsageFault and SpaceError."""
    from pyspaces.features.confinement import compiling

    return compiling.compiled(plan.seccomp, capabilities_of(plan))


def capabilities_of(plan: Plan) -> frozenset[str]:
    """Return the capabilities that the command can have, which conditions of profiles ask for."""
    privileges = plan.privileges
    everything = frozenset(capabilities.NAMES)
    inside = plan.identity.uid
    if plan.has("user"):
        found = everything
        inside = procfs.inside_id(plan.maps.uid_map) if inside is None else inside
    else:
        permitted = libc.capabilities()[1]
        names = enumerate(capabilities.NAMES)
        found = frozenset(name for number, name in names if permitted >> number & 1)
        inside = os.geteuid() if inside is None else inside
    if (inside != 0 and not privileges.keep_caps) or capabilities.ALL in privileges.cap_drop:
        found = frozenset()
    return found - set(privileges.cap_drop) | set(privileges.cap_add)
