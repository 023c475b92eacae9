"""The command's words, environment and directory, as the caller gave them.

Runs in the parent.
"""

from __future__ import annotations

import os

from pyspaces.features import environment
from pyspaces.kernel import procfs
from pyspaces.kernel.libc import KernelError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping


_DEFAULT_PATH = b"/bin:/usr/bin"


def caller_environment() -> dict[bytes, bytes]:
    """Return the environment that the caller of this process gave, without what Python added."""
    current = dict(os.environb)
    if environment.is_coerced(current):
        try:
            initial = procfs.initial_environment()
        except KernelError:
            initial = None
        return environment.without_coercion(current, initial)
    return current


def candidates(command: str, variables: Mapping[bytes, bytes]) -> tuple[bytes, ...]:
    """Return the paths that exec tries for `command`, by PATH of `variables`, as execvp(3) does."""
    name = os.fsencode(command)
    if b"/" in name:
        return (name,)
    path = variables.get(b"PATH", _DEFAULT_PATH)
    return tuple(os.path.join(folder, name) for folder in path.split(b":"))
