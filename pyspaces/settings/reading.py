"""The way from a plain mapping of settings to a Plan.

Pure but for the caller's own ids; runs in the parent.
"""

from __future__ import annotations

from pyspaces.errors import UsageFault
from pyspaces.feature import ORDERED, TOGGLE, VALUE, Given
from pyspaces.features.existing.values import HOLDING, namespaces_of
from pyspaces.kernel import namespaces
from pyspaces.plan import Plan
from pyspaces.plan.features import FEATURES
from pyspaces.record import told
from pyspaces.settings.fitting import Misfit, fitted, words_of
from pyspaces.settings.presets import expanded
from pyspaces.settings.table import BY_NAME

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Any


def plan_from(mapping: Mapping[str, Any]) -> Plan:
    """Build the plan that `mapping` asks for.

    mapping: `command` (a list of words) and names of SETTINGS, each with a value of its kind; an
    absent or None value is a setting not used. Those of the kind ORDERED stand in the list
    `mounts`, as lists of words (["ro-bind", "/usr", "/usr"]) or as operations.

    Raises UsageFault with every fault at once, and SpaceError where this host lacks what the
    settings name.
    """
    if not hasattr(mapping, "items"):
        raise UsageFault([f"settings: takes a mapping of names to values, and is {told(mapping)}"])
    mapping = expanded(mapping)
    used = {name: value for name, value in mapping.items() if _is_used(name, value)}
    misfits: list[str] = []
    values = dict(_fitted(used, misfits))
    faults = [*misfits, *_misplaced(used)]
    if misfits:
        raise UsageFault(faults)
    given = Given(values, faults)
    plan = _plan(given)
    if given.lacking and not faults:
        raise given.lacking
    options = (name.replace("_", "-") for name, value in values.items() if value is not False)
    plan.check(options, faults)
    return plan


def _is_used(name: str, value: object) -> bool:
    """Tell whether a value says anything: the id 0 does, and so does the no of a TOGGLE."""
    kind = BY_NAME[name].kind if name in BY_NAME else VALUE
    if value is False:
        return kind == TOGGLE
    # An operation without words is counted by the command line.
    if kind == ORDERED and not value:
        return False
    return value is not None and not (isinstance(value, list | tuple) and not value)


def _fitted(given: Mapping[str, Any], faults: list[str]) -> Iterator[tuple[str, Any]]:
    """Yield the values of settings that are of the right type; tell of the others."""
    for name, value in given.items():
        try:
            if name == "command":
                yield name, words_of(value)
            elif name == "mounts":
                if not isinstance(value, list | tuple):
                    raise Misfit(f"takes a list of operations, and is {told(value)}")
                yield name, value
            elif name in BY_NAME and BY_NAME[name].kind != ORDERED:
                yield name, fitted(BY_NAME[name], value)
        except Misfit as fault:
            faults.append(f"{name.replace('_', '-')}: {fault}")


def _misplaced(used: Mapping[str, Any]) -> Iterator[str]:
    """Yield a line for each name that is no setting, or has its place elsewhere."""
    for name in used:
        if name not in BY_NAME and name not in ("command", "mounts"):
            yield f"{name}: unknown setting"
        elif name in BY_NAME and BY_NAME[name].kind == ORDERED:
            yield f"{name}: its place is in the list `mounts`, whose order counts"


def _plan(given: Given) -> Plan:
    """Build the plan, a part after the other; what is wrong is added to `given.faults`."""
    given.joined = frozenset(namespaces_of(given.texts("join")))
    given.namespaces = _namespaces(given)
    words = tuple(given.values.get("command", ()))
    if given.flag("hold"):
        if words:
            given.faults.append("hold: takes no command; without --hold, the command itself holds")
        words = HOLDING  # a label, in place of the command
    plan = Plan(command=words, namespaces=given.namespaces, workdir=given.text("workdir"))
    for feature in FEATURES:
        plan = plan.replace(**{feature.name: feature.read(given, plan)})
    return plan


def _namespaces(given: Given) -> tuple[str, ...]:
    reasons = _reasons(given)
    wanted = set(reasons)
    shared = given.words("share")
    given.faults.extend(
        f"join: {name}: {reasons[name]} asks for a new one" for name in given.joined & wanted
    )
    if given.flag("all"):
        wanted.update(set(namespaces.supported()).difference(shared, given.joined))
    for name in shared:
        if name not in namespaces.NAMES:
            given.faults.append(
                f"share: {name!r} is not a namespace: choose from {', '.join(namespaces.NAMES)}"
            )
        elif name in reasons:
            given.faults.append(f"share: {name}: {reasons[name]} asks for a new one")
    return tuple(name for name in namespaces.NAMES if name in wanted)


def _reasons(given: Given) -> dict[str, str]:
    """Return the namespaces that are asked for, and by what."""
    reasons: dict[str, str] = {}
    for name, value in given.values.items():
        if name in BY_NAME and value is not False:
            for namespace in BY_NAME[name].implies:
                reasons.setdefault(namespace, BY_NAME[name].option)
    for namespace in namespaces_of(given.texts("keep")):
        reasons.setdefault(namespace, "--keep")
    if given.values.get("mounts"):
        reasons.setdefault("mount", "an operation on mounts")
    return reasons
