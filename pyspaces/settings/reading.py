"""Build a Plan from a plain mapping of settings.

Pure but for the caller's own ids; runs in the parent.
"""

from __future__ import annotations

from pyspaces.errors import UsageFault
from pyspaces.feature import FLAG, HOLDING, MANY, OPERATION, OPTIONAL, ORDERED, TOGGLE, VALUE, Given
from pyspaces.kernel import namespaces
from pyspaces.plan.plan import PARTS, Plan
from pyspaces.settings import _table

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from typing import Any

_NO_ROW = ("", "", "", 0, "")


def plan_from(mapping: Mapping[str, Any]) -> Plan:
    """Build the plan that `mapping` asks for.

    mapping: `command` (a list of words) and names of SETTINGS, each with a value of its kind; an
    absent or None value is a setting not used. Those of the kind ORDERED are in the list
    `mounts`, as lists of words (["ro-bind", "/usr", "/usr"]) or as operations.

    Raises UsageFault with every fault at once, and SpaceError if this host lacks what the settings
    name.
    """
    return planned(mapping)


def planned(mapping: Mapping[str, Any], change: Callable[[Plan], Plan] | None = None) -> Plan:
    """Build a plan as `plan_from` does. change: what changes it before it is checked, if anything.

    Raises as `plan_from` does.
    """
    if not hasattr(mapping, "items"):
        from pyspaces.record import told

        raise UsageFault([f"settings: takes a mapping of names to values, and is {told(mapping)}"])
    if mapping.get("profile") or mapping.get("bundle"):
        from pyspaces.settings import beneath

        mapping = beneath.expanded(mapping, warn)
    if mapping.get("sandbox"):
        from pyspaces.settings.presets import expanded

        mapping = expanded(mapping)
    used = {name: value for name, value in mapping.items() if _is_used(name, value)}
    misfits: list[str] = []
    values = dict(_fitted(used, misfits))
    faults = [*misfits, *_misplaced(used)]
    if misfits:
        raise UsageFault(faults)
    if "net" in values and values["net"] is not True:
        from pyspaces.settings import networks  # few launches have more than a network of their own

        networks.expand(values)
    given = Given(values, faults)
    plan = _plan(given)
    if change:
        plan = change(plan)
    if given.lacking and not faults:
        raise given.lacking
    options = [name.replace("_", "-") for name, value in values.items() if value is not False]
    # Operations may be records of programs, whose fields can be of any type.
    typed = all(type(one) in (list, tuple) for one in values.get("mounts", ()))
    plan.check(options, faults, typed=typed)
    return plan


def warn(text: str) -> None:
    """Say what is left out, to a program."""
    import warnings  # for programs: a command line prints it

    warnings.warn(text, stacklevel=6)  # the caller of plan_from


def _kind_of(name: str) -> str:
    return _table.SETTINGS.get(name, _NO_ROW)[0]


def _is_used(name: str, value: object) -> bool:
    """Return whether a setting is used: the id 0 counts, and so does a TOGGLE that is off."""
    if value is False:
        return _kind_of(name) == TOGGLE
    # An operation without words is counted by the command line.
    if not value and _kind_of(name) == ORDERED:
        return False
    return value is not None and not (isinstance(value, list | tuple) and not value)


def _fitted(given: Mapping[str, Any], faults: list[str]) -> Iterator[tuple[str, Any]]:
    """Yield the values of the right type; add a fault for each of the others."""
    for name, value in given.items():
        kind = "command" if name == "command" else _kind_of(name)
        if _fits(name, kind, value):
            yield name, value
        elif name in _table.SETTINGS or name in ("command", "mounts"):
            from pyspaces.settings import fitting  # for programs: a command line has what fits

            try:
                yield name, fitting.fitted(name, kind, value)
            except fitting.Misfit as fault:
                faults.append(f"{name.replace('_', '-')}: {fault}")


def _fits(name: str, kind: str, value: Any) -> bool:
    """Return whether a value has exactly the type of its kind."""
    if kind in (FLAG, TOGGLE, OPERATION):
        return value is True or value is False
    if kind == OPTIONAL and value is True:
        return True
    if name == "mounts":  # a list of operations, which are read later
        return type(value) in (list, tuple)
    if kind in (MANY, "command"):
        return type(value) in (list, tuple) and all(type(word) is str for word in value)
    return kind in (VALUE, OPTIONAL) and type(value) is str


def _misplaced(used: Mapping[str, Any]) -> Iterator[str]:
    """Yield a line for each name that is not a setting, or belongs into `mounts`."""
    for name in used:
        kind = _kind_of(name)
        if not kind and name not in ("command", "mounts"):
            yield f"{name}: unknown setting"
        elif kind == ORDERED:
            yield f"{name}: its place is in the list `mounts`, whose order counts"


def _plan(given: Given) -> Plan:
    """Build the plan, one part after the other; add what is wrong to `given.faults`."""
    values = given.values
    if "join" in values:
        given.joined = frozenset(_namespaces_of(given.texts("join")))
    given.namespaces = _namespaces(given)
    words = tuple(values.get("command", ()))
    if given.flag("hold"):
        if words:
            given.faults.append("hold: takes no command; without --hold, the command itself holds")
        words = HOLDING
    fields = {"workdir": str(values["workdir"])} if "workdir" in values else {}
    plan = Plan(command=words, namespaces=given.namespaces, **fields)
    readers = {name for name in ("mounts", "between") if name in values} | plan.involved()
    for name, value in values.items():
        kind, found, *_ = _table.SETTINGS.get(name, _NO_ROW)
        if kind != OPTIONAL or value is not True:  # only a value has to be read
            readers.update(found.split())
    for name, part in PARTS.items():
        if name in readers:
            plan = plan.replace(**{name: part.feature.read(given, plan)})
    return plan


def _namespaces_of(texts: list[str]) -> Iterator[str]:
    """Yield the valid names in values of the form NS=..."""
    for text in texts:
        name = text.partition("=")[0]
        if name in namespaces.NAMES:
            yield name


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
    return tuple([name for name in namespaces.NAMES if name in wanted])


def _reasons(given: Given) -> dict[str, str]:
    """Return the namespaces that are requested, each with the option that requests it."""
    reasons: dict[str, str] = {}
    for name, value in given.values.items():
        if value is not False:
            for namespace in _table.SETTINGS.get(name, _NO_ROW)[2].split():
                reasons.setdefault(namespace, "--" + name.replace("_", "-"))
    for namespace in _namespaces_of(given.texts("keep")):
        reasons.setdefault(namespace, "--keep")
    if given.values.get("mounts"):
        reasons.setdefault("mount", "an operation on mounts")
    return reasons
