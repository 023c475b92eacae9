"""The operations by their names on command lines, which are those of bwrap(1).

Pure; loaded in the parent if an operation is written out.
"""

from __future__ import annotations

from pyspaces.mounts.binds import Bind, BindData, BindFd, File
from pyspaces.mounts.devices import Dev
from pyspaces.mounts.masks import Mask
from pyspaces.mounts.operation import NO_EXEC, PERMS, SIZE, SOURCE
from pyspaces.mounts.overlays import Overlay, RoOverlay, TmpOverlay
from pyspaces.mounts.places import (
    Chmod,
    Dir,
    Mqueue,
    Proc,
    ReadOnly,
    RemountRo,
    Symlink,
    Sysfs,
    Tmpfs,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from pyspaces.mounts.operation import Operation

    Words = tuple[str, ...]

_BIND, _FD, _AT = ("source", "target"), ("fd", "target"), ("target",)

# For each name: the operation, the fields that its words set, its modifiers, and other fields.
OPERATIONS: dict[str, tuple[Callable[..., Operation], Words, Words, dict[str, bool]]] = {
    "bind": (Bind, _BIND, (NO_EXEC,), {}),
    "ro-bind": (Bind, _BIND, (NO_EXEC,), {"read_only": True}),
    "dev-bind": (Bind, _BIND, (NO_EXEC,), {"dev": True}),
    "bind-try": (Bind, _BIND, (NO_EXEC,), {"optional": True}),
    "ro-bind-try": (Bind, _BIND, (NO_EXEC,), {"read_only": True, "optional": True}),
    "dev-bind-try": (Bind, _BIND, (NO_EXEC,), {"dev": True, "optional": True}),
    "bind-suid": (Bind, _BIND, (NO_EXEC,), {"suid": True}),
    "bind-fd": (BindFd, _FD, (), {}),
    "ro-bind-fd": (BindFd, _FD, (), {"read_only": True}),
    "bind-data": (BindData, _FD, (PERMS,), {}),
    "ro-bind-data": (BindData, _FD, (PERMS,), {"read_only": True}),
    "file": (File, _FD, (PERMS,), {}),
    "tmpfs": (Tmpfs, _AT, (SIZE, PERMS, NO_EXEC), {}),
    "proc": (Proc, _AT, (), {}),
    "dev": (Dev, _AT, (), {}),
    "sysfs": (Sysfs, _AT, (), {}),
    "mqueue": (Mqueue, _AT, (), {}),
    "dir": (Dir, _AT, (PERMS,), {}),
    "symlink": (Symlink, ("text", "target"), (), {}),
    "remount-ro": (RemountRo, _AT, (), {}),
    "read-only": (ReadOnly, (), (), {}),
    "chmod": (Chmod, ("perms", "target"), (), {}),
    "mask": (Mask, _AT, (), {}),
    "overlay": (Overlay, ("upper", "work", "target"), (SOURCE,), {}),
    "tmp-overlay": (TmpOverlay, _AT, (SOURCE, SIZE), {}),
    "ro-overlay": (RoOverlay, _AT, (SOURCE,), {}),
}
