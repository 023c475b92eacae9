"""What the child is given: the command's words, environment and directory, and what sets it up.

Runs in the parent. What only some plans need is loaded here: the child loads nothing.
"""

from __future__ import annotations

import os

from pyspaces.features import environment
from pyspaces.kernel import procfs
from pyspaces.kernel.libc import KernelError
from pyspaces.launch import inner
from pyspaces.launch.signals import Inherited

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pyspaces.launch.channel import Channel
    from pyspaces.launch.inner.leading import Leading
    from pyspaces.launch.services import Launch
    from pyspaces.mounts.building import Building
    from pyspaces.plan import Plan


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


def context_of(
    launch: Launch, channel: Channel, launcher: int = -1, *, held: bool = False
) -> inner.Context:
    """Return all that the child of a launch needs.

    channel: its end. launcher: a pidfd of this process. held: whether it waits before exec.
    """
    plan = launch.plan
    variables = _environment_of(launch)
    return inner.Context(
        plan=plan,
        channel=channel,
        launcher=launcher,
        inherited=launch.inherited or Inherited.capture(),
        candidates=candidates(_program(launch), variables),
        environment=variables,
        directory=_working_directory(),
        handed=launch.handed,
        function=launch.function,
        held=held,
        own_group=launch.leaves_group(),
        attach=launch.attach,
        post=launch.post,
        building=_building_of(launch),
        guard=_guard_of(plan),
        leading=_leading_of(plan),
    )


def _program(launch: Launch) -> str:
    """Return the program to execute: the first word of the command, if nothing else is handed."""
    handed = launch.handed
    return (handed and handed.executable) or launch.plan.command[0]


def _environment_of(launch: Launch) -> dict[bytes, bytes]:
    """Return the environment of the command: changed as the plan says."""
    base = launch.variables if launch.target_variables is None else launch.target_variables
    return launch.plan.environment.apply(caller_environment() if base is None else base)


def _working_directory() -> str | None:
    """Return the path of the working directory; None where it has none, being removed."""
    try:
        return os.getcwd()
    except OSError:
        return None


def _building_of(launch: Launch) -> Building | None:
    """Return what carries out the mounts of the plan; None where it has none."""
    plan = launch.plan
    if not plan.mounts.operations:
        return None
    from pyspaces.mounts.building import Building
    from pyspaces.mounts.tree import Tree

    return Building(plan.mounts.operations, Tree(empty=plan.mounts.empty_root, keep=launch.keep))


def _guard_of(plan: Plan) -> Callable[[], object] | None:
    """Return what closes /proc, in the child; None where it stays as it is."""
    if not plan.mounts.guard_proc:
        return None
    from pyspaces.mounts.guard import Guard

    sysfs = "ALL" in plan.privileges.cap_drop
    return Guard(builds_tree=plan.mounts.builds_tree, sysfs=sysfs).guard_inner


def _leading_of(plan: Plan) -> Leading | None:
    """Return what tells where exec would lead; None where the root is the caller's own."""
    joined = plan.existing.joining.root or "mount" in plan.existing.joining.names()
    if not (joined or plan.mounts.builds_tree):
        return None
    from pyspaces.launch.inner.leading import Leading

    return Leading()
