"""The rows of the table of settings that say what the command sees of the file system.

Pure; runs in any process.
"""

from __future__ import annotations

from pyspaces.settings.shape import SETUP, VALUE, Setting

MOUNTS = (
    Setting(
        name="root",
        short="-R",
        kind=VALUE,
        group=SETUP,
        metavar="DIR",
        directory=True,
        implies=("mount",),
        help="DIR is the root directory inside; the old root is out of reach",
    ),
)
