"""Every operation on the tree of a command: the door of the room to those who make plans.

Loaded where a plan has operations, and not otherwise.
"""

from __future__ import annotations

from pyspaces.mounts.binds import Bind, BindData, BindFd, File
from pyspaces.mounts.devices import Dev, Mask
from pyspaces.mounts.operation import KINDS, Operation, faults_of
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

__all__ = [
    "KINDS",
    "Bind",
    "BindData",
    "BindFd",
    "Chmod",
    "Dev",
    "Dir",
    "File",
    "Mask",
    "Mqueue",
    "Operation",
    "Overlay",
    "Proc",
    "ReadOnly",
    "RemountRo",
    "RoOverlay",
    "Symlink",
    "Sysfs",
    "TmpOverlay",
    "Tmpfs",
    "faults_of",
]
