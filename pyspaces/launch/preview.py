"""A plan as text, in the order in which it would happen. Nothing is created for it.

Pure; runs in the parent. Must not know options.
"""

from __future__ import annotations

import shlex

from pyspaces.errors import EXECUTE
from pyspaces.features.ids import idmap
from pyspaces.launch.inner.steps import steps_of
from pyspaces.plan.features import FEATURES
from pyspaces.visible import visible

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from pyspaces.features.environment import Environment
    from pyspaces.features.existing.values import Joining
    from pyspaces.plan import Plan
    from pyspaces.plan.equivalent import Equivalent

# Fields of the plan itself that a line below describes.
_TOLD = frozenset(("command", "namespaces", "workdir"))


def text(plan: Plan, same: Equivalent) -> str:
    """Return the whole preview: what would happen, and the unshare(1) command that is the same."""
    lines = [*happenings(plan), ""]
    if same.words:
        lines.append(f"equivalent: {joined(same.words)}")
    lines += [f"no equivalent: {reason}" for reason in same.missing]
    return "".join(f"{visible(line)}\n" for line in lines)


def happenings(plan: Plan) -> Iterator[str]:
    """Yield what would happen, a line each, in its order."""
    if plan.environment != type(plan.environment)():
        yield f"change the environment: {', '.join(_environment(plan.environment))}"
    yield from _rest(plan)
    yield from _joining(plan.existing.joining)
    if plan.holds("resources"):
        yield f"create a cgroup: {plan.resources}"
    # The time namespace is entered by a step of its own, and so is that of a cgroup of its own.
    late = ("time", "cgroup") if plan.holds("resources") else ("time",)
    created = [name for name in plan.namespaces if name not in late]
    yield f"create the namespaces: {', '.join(created) or 'none'}"
    if plan.has("user"):
        yield from _maps(plan)
    # A process 1 of ours takes the steps that are not for the command alone, and then starts it.
    steps = steps_of(plan)
    own = [step for step in steps if step.for_command] if plan.life.init else []
    for step in steps:
        if step not in own:
            yield step.text(plan)
            yield from (f"  {part}" for part in step.parts(plan))
    if plan.life.init:
        yield "become process 1, and start the command beneath it"
    yield from (step.text(plan) for step in own)
    stays = f"keep the namespaces until they are released: pyspaces stop {plan.existing.name}"
    yield stays if plan.existing.hold else f"{EXECUTE}: {joined(plan.command)}"


def _rest(plan: Plan) -> Iterator[str]:
    """Yield every field that no other line describes, so that none is ever silent."""
    known = {*_TOLD, *(feature.name for feature in FEATURES)}
    for name in plan._fields:
        if name not in known and getattr(plan, name) != getattr(type(plan), name, None):
            yield f"with {name} = {getattr(plan, name)!r}"
    for feature in FEATURES:
        for field in feature.used(plan):
            if field not in feature.quiet:
                value = getattr(getattr(plan, feature.name), field)
                yield f"with {feature.name}.{field} = {value!r}"


def _joining(joining: Joining) -> Iterator[str]:
    of_target = [join for join in joining.joins if join.pid and join.pid == joining.target]
    rows = (
        ("open process", joining.target or joining.start),
        ("start from the environment of process", joining.environment),
        ("go into the cgroups of process", joining.cgroup),
    )
    for text, used in rows:
        if used:
            yield f"{text} {joining.target}"
    if joining.start:
        yield f"refuse it unless it was started {joining.start} clock ticks after the host"
    if of_target:
        names = ", ".join(join.namespace for join in of_target)
        yield f"join the namespaces of process {joining.target}: {names}"
    if rest := [_quote(str(join)) for join in joining.joins if join not in of_target]:
        yield f"join the namespaces: {', '.join(rest)}"
    if joining.root:
        yield f"move to the root and the working directory of process {joining.target}"
    if joining.keep_ids:
        yield "keep the caller's ids in the user namespace"
    elif "user" in joining.names():
        yield "become root of the user namespace, or else the first id that is mapped there"


def _maps(plan: Plan) -> Iterator[str]:
    yield f"map user ids: {idmap.arrows(plan.maps.uid_map) or 'none'}"
    if plan.maps.setgroups is not None:
        yield f"{plan.maps.setgroups} setgroups(2)"
    yield f"map group ids: {idmap.arrows(plan.maps.gid_map) or 'none'}"
    rows = (
        ("user", idmap.inside_id(plan.maps.uid_map)),
        ("group", idmap.inside_id(plan.maps.gid_map)),
    )
    ids = [f"{name} {number}" for name, number in rows if number is not None]
    ids += ["groups as they are"] if plan.identity.keep_groups else []
    if ids:
        yield f"become the mapped user: {', '.join(ids)}"


def _environment(changes: Environment) -> Iterator[str]:
    if changes.clear:
        yield "clear it"
    rows = [("keep", changes.keep), ("unset", changes.unset)]
    rows += [("set", tuple(f"{name}={value}" for name, value in changes.set))]
    for verb, words in rows:
        for word in words:
            yield f"{verb} {_quote(word)}"


def joined(words: Iterable[str]) -> str:
    """Return words as one line that a shell takes apart again."""
    return " ".join(_quote(word) for word in words)


def _quote(word: str) -> str:
    """Quote a word for a shell; if it is not printable, with the quotes of bash and zsh.

    A plan may be somebody else's, and a terminal does what control characters say.
    """
    if word.isprintable():
        return shlex.quote(word)
    return "$'" + visible(word.replace("\\", "\\\\").replace("'", "\\'")) + "'"
