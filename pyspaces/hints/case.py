"""A failed launch, as the rules for hints see it.

Pure; runs in the parent.
"""

from __future__ import annotations

from pyspaces.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyspaces.errors import Report
    from pyspaces.features.ids.idmap import Extent


class Case(Record):
    """A failure and the launch in which it occurred.

    namespaces: the types that are created. uids, gids: the id maps. joined: the types of existing
    namespaces that are joined. limits_files: whether Landlock limits what can be executed.
    """

    report: Report
    namespaces: tuple[str, ...] = ()
    uids: tuple[Extent, ...] = ()
    gids: tuple[Extent, ...] = ()
    joined: tuple[str, ...] = ()
    limits_files: bool = False

    def is_creation(self) -> bool:
        """Return whether the kernel refused to create the namespaces themselves."""
        return self.report.call in ("clone3", "clone", "unshare")
