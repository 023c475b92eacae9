"""The working directory of the command, and PWD, which names it: environ(7).

Runs in the new process only.
"""

from __future__ import annotations

import os

from pyspaces.errors import WORKDIR
from pyspaces.feature import Step
from pyspaces.mounts import root

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyspaces.launch.inner.steps import Context
    from pyspaces.plan import Plan

_PWD = b"PWD"


def _change(context: Context) -> None:
    """Change to the directory in which the command starts. Raises OSError."""
    workdir = context.plan.workdir
    if workdir is None:
        root.find_workdir_inner(context.directory, context.environment)
    elif context.plan.builds_tree():
        # The working directory is the new root by now; a relative path begins where the caller is.
        os.chdir(os.path.join(context.directory or "/", workdir))
    else:
        os.chdir(workdir)


def _is_named(plan: Plan) -> bool:
    """Return whether to set PWD: the directory may change, and the plan says nothing about PWD."""
    joining = plan.joining()
    moved = plan.workdir is not None or (
        joining is not None and (joining.root or "mount" in joining.names())
    )
    is_left = not plan.holds("environment") or plan.environment.leaves("PWD")
    return is_left and (moved or plan.builds_tree())


def _name(context: Context) -> None:
    """Let PWD name the working directory, as a shell and bwrap(1) do.

    Its value stays if it leads here: a path with links in it is the one that people know.
    """
    given = os.path.join(context.directory or "", context.plan.workdir or "")
    path = _first_that_leads_here(context.environment.get(_PWD, b""), os.fsencode(given))
    if path:
        context.environment[_PWD] = path
    else:
        context.environment.pop(_PWD, None)


def _first_that_leads_here(*paths: bytes) -> bytes:
    """Return the path that PWD may be; empty if the working directory has none."""
    for path in paths:
        parts = path.split(b"/")
        if not path.startswith(b"/") or b"." in parts or b".." in parts:
            continue
        try:
            if os.path.samefile(path, b"."):
                return b"/" + b"/".join(filter(None, parts))
        except OSError:
            continue
    try:
        return os.getcwdb()
    except OSError:
        return b""


CHANGE = Step(
    title=WORKDIR,
    applies=lambda plan: plan.workdir is not None or plan.builds_tree(),
    act=_change,
    detail=lambda plan: plan.workdir,
)
NAME = Step(title="let PWD name the working directory", applies=_is_named, act=_name)
