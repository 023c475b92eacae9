"""A failure, and what a rule may ask of the launch that it belongs to.

Pure; runs in the parent.
"""

from __future__ import annotations

from pyspaces.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyspaces.errors import Report
    from pyspaces.features.ids.idmap import Extent


class Case(Record):
    """A failure, and the launch that it belongs to.

    namespaces: those that are new. uids, gids: their id maps. joined: the existing namespaces in
    which the command starts.
    """

    report: Report
    namespaces: tuple[str, ...] = ()
    uids: tuple[Extent, ...] = ()
    gids: tuple[Extent, ...] = ()
    joined: tuple[str, ...] = ()

    def is_creation(self) -> bool:
        """Tell whether the kernel refused to make the namespaces themselves."""
        return self.report.call in ("clone3", "clone", "unshare")
