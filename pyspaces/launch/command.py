"""What the child is given: the command's words, environment and directory, and what sets it up.

Runs in the parent. What only some plans need is loaded here: the child loads nothing.
"""

from __future__ import annotations

import os

from pyspaces.kernel import libc, procfs
from pyspaces.kernel.libc import KernelError
from pyspaces.launch import inner
from pyspaces.launch.inner.steps import Mapped, program_of, steps_of
from pyspaces.launch.signals import Inherited

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from pyspaces.feature import Step
    from pyspaces.launch.channel import Channel
    from pyspaces.launch.services import Launch
    from pyspaces.plan import Plan

# PEP 538: started in the C locale, Python puts one of these into its own environment.
_COERCED = (b"C.UTF-8", b"C.utf8", b"UTF-8")
_DEFAULT_PATH = b"/bin:/usr/bin"


def caller_environment() -> dict[bytes, bytes]:
    """Return the environment that the caller of this process gave, without what Python added."""
    # The dict behind it: through its methods, each variable takes five calls of Python.
    current = dict(getattr(os.environb, "_data", os.environb))
    if is_coerced(current):
        try:
            initial = procfs.initial_environment()
        except KernelError:
            initial = None
        return without_coercion(current, initial)
    return current


def is_coerced(current: Mapping[bytes, bytes]) -> bool:
    """Return whether LC_CTYPE may be the one that Python itself adds in the C locale: PEP 538."""
    return current.get(b"LC_CTYPE") in _COERCED


def without_coercion(
    current: Mapping[bytes, bytes], initial: Mapping[bytes, bytes] | None
) -> dict[bytes, bytes]:
    """Return `current` without an LC_CTYPE that the process did not begin with.

    initial: what it began with; None if unknown, and then LC_CTYPE stays.
    """
    kept = dict(current)
    if initial is not None and b"LC_CTYPE" not in initial:
        kept.pop(b"LC_CTYPE", None)
    return kept


def candidates(command: str, variables: Mapping[bytes, bytes]) -> tuple[bytes, ...]:
    """Return the paths that exec tries for `command`, by PATH of `variables`, as execvp(3) does."""
    name = os.fsencode(command)
    if b"/" in name:
        return (name,)
    path = variables.get(b"PATH", _DEFAULT_PATH)
    # An empty directory is the working directory.
    directories = [place and place.removesuffix(b"/") + b"/" for place in path.split(b":")]
    return tuple([directory + name for directory in directories])


def words_of(plan: Plan) -> tuple[bytes, ...]:
    """Return the words that the command sees."""
    words = tuple([os.fsencode(word) for word in plan.command])
    if plan.holds("life") and plan.life.argv0 is not None:
        return (os.fsencode(plan.life.argv0), *words[1:])
    return words


def told_steps(plan: Plan) -> tuple[tuple[Step, bytes], ...]:
    """Return the steps that a plan takes, each with its text; loads them."""
    return tuple([(step, os.fsencode(step.text(plan))) for step in steps_of(plan)])


def context_of(
    launch: Launch,
    channel: Channel,
    launcher: int = -1,
    *,
    held: bool = False,
    steps: tuple[tuple[Step, bytes], ...] | None = None,
) -> inner.Context:
    """Return all that the child of a launch needs.

    channel: its end. launcher: a pidfd of this process. held: whether it waits before exec. steps:
    those of the plan, if they are known.
    """
    plan = launch.plan
    variables = _environment_of(launch)
    fields: dict[str, Any] = {}
    if needs_equipment(plan):
        from pyspaces.launch import loading

        fields = loading.equipment_of(launch)
    if steps is None:
        steps = told_steps(plan)
    if launch.function:
        from pyspaces.launch.inner.calling import call_function

        fields["call"] = call_function
    elif any(step.at_exec for step, _ in steps):
        from pyspaces.launch.inner.confined import execute_confined

        fields["call"] = execute_confined
    inherited = launch.inherited or Inherited.capture()
    return inner.Context(
        plan=plan,
        channel=channel,
        launcher=launcher,
        inherited=inherited,
        mask=libc.signal_set(inherited.mask),
        kill_signal=plan.kill_signal() or 0,
        steps=steps,
        mapped=_mapped_of(plan),
        words=words_of(plan),
        candidates=candidates(program_of(plan, launch.handed), variables),
        environment=variables,
        directory=working_directory(),
        handed=launch.handed,
        function=launch.function,
        held=held,
        own_group=launch.leaves_group(),
        attach=launch.attach,
        post=launch.post,
        caller=launch.caller,
        **fields,
    )


def of_another_command(context: inner.Context, command: tuple[str, ...]) -> dict[str, Any]:
    """Return the fields of a context that another command changes."""
    plan = context.plan.of_command(command)
    changes = {"plan": plan, "words": words_of(plan)}
    if command[0] != context.plan.command[0]:
        program = program_of(plan, context.handed)
        changes["candidates"] = candidates(program, context.environment)
    return changes


def _mapped_of(plan: Plan) -> Mapped | None:
    """Return the ids that the child takes in a new user namespace; None if there is none."""
    if not plan.has("user"):
        return None
    return Mapped(
        uid=procfs.inside_id(plan.maps.uid_map),
        gid=procfs.inside_id(plan.maps.gid_map),
        keeps_groups=plan.holds("identity") and plan.identity.keep_groups,
        by_others=plan.awaits_maps(),
    )


def _environment_of(launch: Launch) -> dict[bytes, bytes]:
    """Return the environment of the command: changed as the plan says."""
    base = launch.variables if launch.target_variables is None else launch.target_variables
    variables = dict(caller_environment() if base is None else base)
    if launch.plan.holds("environment"):
        return launch.plan.environment.apply(variables)
    return variables


def needs_equipment(plan: Plan) -> bool:
    """Return whether the child needs more than every child does: see `loading.equipment_of`."""
    return "mounts" in plan.involved() or plan.asks("is_equipped")


def working_directory() -> str | None:
    """Return the path of the working directory; None if it was removed."""
    try:
        return os.getcwd()
    except OSError:
        return None
