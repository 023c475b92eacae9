"""The files that keep namespaces, looked at before anything is created.

Runs in the parent. They are bound in `outer.prepare`, when the child says that it is time.
"""

from __future__ import annotations

from pyspaces.features.existing import keeping
from pyspaces.launch.service import Service


class Keeping(Service):
    """Refuses files to which no namespace could be bound."""

    def open(self) -> None:
        """Look at the files. Raises SpaceError."""
        keeping.check(self.launch.plan.existing.keeps)
