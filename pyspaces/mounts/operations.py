"""All operations on the tree of a command, for programs that make plans.

Loaded only if a plan has operations.
"""

from __future__ import annotations

from pyspaces.mounts.binds import Bind as Bind
from pyspaces.mounts.binds import BindData as BindData
from pyspaces.mounts.binds import BindFd as BindFd
from pyspaces.mounts.binds import File as File
from pyspaces.mounts.devices import Dev as Dev
from pyspaces.mounts.masks import Mask as Mask
from pyspaces.mounts.operation import KINDS as KINDS
from pyspaces.mounts.operation import Operation as Operation
from pyspaces.mounts.operation import faults_of as faults_of
from pyspaces.mounts.overlays import Overlay as Overlay
from pyspaces.mounts.overlays import RoOverlay as RoOverlay
from pyspaces.mounts.overlays import TmpOverlay as TmpOverlay
from pyspaces.mounts.places import Chmod as Chmod
from pyspaces.mounts.places import Dir as Dir
from pyspaces.mounts.places import Mqueue as Mqueue
from pyspaces.mounts.places import Proc as Proc
from pyspaces.mounts.places import ReadOnly as ReadOnly
from pyspaces.mounts.places import RemountRo as RemountRo
from pyspaces.mounts.places import Symlink as Symlink
from pyspaces.mounts.places import Sysfs as Sysfs
from pyspaces.mounts.places import Tmpfs as Tmpfs
