"""--bundle: the settings of an OCI bundle.

https://github.com/opencontainers/runtime-spec. Runs in the parent; loaded only if a bundle is asked
for. What would leave the command less confined than the bundle says is an error, and what it only
lacks is a warning.
"""

from __future__ import annotations

import os

from pyspaces.errors import UsageFault
from pyspaces.record import Record
from pyspaces.settings.bundle import config as files
from pyspaces.settings.bundle import linux, process, tree

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

CONFIG = "config.json"
_MOST_FAULTS = 20
_HOOKS = "are not run: a bundle with hooks is not supported"


class Bundle(Record):
    """The settings of a bundle, its command among them, and what of it is left out."""

    settings: dict[str, Any]
    warnings: tuple[str, ...] = ()


def read(directory: str, *, terminal: bool = False, creates: bool = False) -> Bundle:
    """Return a bundle. Raises UsageFault.

    terminal: whether standard input is one. creates: whether missing mount points are created.
    """
    directory = os.path.abspath(directory)
    path = os.path.join(directory, CONFIG)
    faults: list[str] = []
    warnings: list[str] = []
    config = files.Node(files.read(path), "", faults, warnings)
    _check_version(config)
    found: dict[str, Any] = {"mount": True}
    found |= process.settings_of(config.node("process"), terminal=terminal)
    trees = tree.settings_of(config, directory, creates=creates)
    own = linux.settings_of(config.node("linux"), path)
    mounts = trees["mounts"]
    # Before the root becomes read-only.
    at = len(mounts) - (mounts[-1:] == [["remount_ro", "/"]])
    found |= {**trees, **own, "mounts": [*mounts[:at], *own["mounts"], *mounts[at:]]}
    for name in ("hostname", "domainname"):
        found[name] = config.take(name, str)
    config.refuse("hooks", why=_HOOKS)
    config.refuse("windows", "solaris", "vm", "zos")
    config.forget("annotations")
    config.end()
    if faults:
        raise UsageFault(faults[:_MOST_FAULTS])
    return Bundle(settings=found, warnings=tuple(warnings))


def _check_version(config: files.Node) -> None:
    version = config.take("ociVersion", str, "")
    if not version.startswith("1."):
        config.fault("ociVersion", f"{version[:20]!r} is not a version 1")
