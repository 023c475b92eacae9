"""The existing namespaces in which the command starts: held open, then joined.

Runs in the parent, but for `before`, which runs in the process that creates the child, or becomes
the command.
"""

from __future__ import annotations

import os

from pyspaces.errors import JOIN, Report
from pyspaces.features.existing import joining
from pyspaces.kernel.libc import KernelError
from pyspaces.launch.inner.join import join  # here: loaded before imports are sealed
from pyspaces.launch.outer.prepare import failure
from pyspaces.launch.service import Service

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from pyspaces.features.existing.joining import Visit
    from pyspaces.kernel.spawn import Spawned
    from pyspaces.plan import Plan


class Joined(Service):
    """What is to be joined, all of it open before any of it is joined."""

    def open(self) -> None:
        """Open all of it, and take the environment from there if asked to. Raises SpaceError."""
        launch, plan = self.launch, self.launch.plan
        if (
            plan.holds("life") and plan.life.in_place
        ):  # and so is what explains a failure in the same process
            from pyspaces import hints  # noqa: F401 - others load it if there is a failure

        launch.observe(f"join the namespaces: {', '.join(plan.existing.joining.names()) or 'none'}")
        try:
            visit = joining.open_visit(plan.existing.joining)
        except KernelError as error:
            raise failure(Report.of(JOIN, error), plan) from error
        try:
            launch.target_variables = self._variables_of(visit)
            launch.inodes = {h.name: os.fstat(h.descriptor).st_ino for h in visit.handles}
        except BaseException:
            visit.close()
            raise
        clocks = plan.clocks if plan.makes_clocks_by_joining() else None
        self._visit: Visit | None = visit.replace(
            keep_groups=plan.holds("identity") and plan.identity.keep_groups,
            new_clocks=(clocks.boottime, clocks.monotonic) if clocks else None,
            open_child=_may_be_open(plan, visit),
        )

    def before(self) -> None:
        """Join. Raises KernelError."""
        assert self._visit
        join(self._visit)

    def started(self, child: Spawned) -> None:
        """Close what was joined."""
        self.release()

    def release(self) -> None:
        """Close what was to be joined."""
        visit, self._visit = self._visit, None
        if visit:
            visit.close()

    def _variables_of(self, visit: Visit) -> Mapping[bytes, bytes] | None:
        """Return the part of the environment of the target that the command may have.

        If the target has neither a root nor a mount namespace of its own, the command is a
        program of this host: what the target says does not decide what that loads.
        """
        if visit.variables is None or visit.root >= 0:
            return visit.variables
        if any(handle.name == "mount" for handle in visit.handles):
            return visit.variables
        from pyspaces.features import environment

        kept, dropped = environment.without_steering(visit.variables)
        if dropped:
            self.launch.observe(f"leave out of the environment: {', '.join(dropped)}")
        return kept


def _may_be_open(plan: Plan, visit: Visit) -> bool:
    """Return whether a process that joins, then creates a user namespace, may stay dumpable.

    If no user namespace is joined, nobody there has a right over it. If one is, a process with all
    capabilities in it can trace the command as well, which has the same root directory unless
    that is changed on the way.
    """
    return plan.has("user") and not (visit.joins_user and plan.has("mount"))
