"""Existing namespaces, joined by the process that then creates the child.

Runs in that process only, the one in the middle of `spawn`.
"""

from __future__ import annotations

from pyspaces import joining
from pyspaces.inner.identity import become
from pyspaces.inner.seal import seal_imports

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyspaces.joining import Visit


def join(visit: Visit) -> None:
    """Join what the visit holds, and become who it says. Raises KernelError."""
    seal_imports()
    joining.join_inner(visit.handles)
    if visit.uid is not None or visit.gid is not None:
        become(visit.uid, visit.gid, may_set_groups=visit.may_set_groups)
