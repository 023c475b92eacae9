"""Plans for tests, written flat: the name of a field finds its part."""

from __future__ import annotations

from typing import Any

from pyspaces.plan import Plan
from pyspaces.plan.features import FEATURES


def nested(fields: dict[str, Any]) -> dict[str, Any]:
    """Return the fields of a Plan, those of its parts gathered in them."""
    result: dict[str, Any] = {}
    parts: dict[str, dict[str, Any]] = {}
    for name, value in fields.items():
        owners = [one.name for one in FEATURES if name in one.part._fields]
        if name in Plan._fields:
            result[name] = value
        else:
            parts.setdefault(owners[0], {})[name] = value
    kinds = {feature.name: feature.part for feature in FEATURES}
    return result | {name: kinds[name](**values) for name, values in parts.items()}


def flat(**fields: Any) -> Plan:
    """Return the plan with these fields."""
    return Plan(**nested(fields))
