"""The unshare(1) command with the namespaces and ids of a plan, if there is one.

Pure, but for `Caller.of_this_process`; runs in the parent. Must not know how the answer is shown.
Written for unshare(1) of util-linux 2.38. What a feature does not translate counts as something
that unshare(1) cannot do.
"""

from __future__ import annotations

import os

from pyspaces.feature import Missing
from pyspaces.kernel import constants, procfs
from pyspaces.plan.features import FEATURES
from pyspaces.plan.plan import Plan
from pyspaces.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from pyspaces.feature import Feature

# Fields of the plan itself that are translated here.
_KNOWN = frozenset(("command", "namespaces", "workdir"))


class Caller(Record):
    """The user of a launch: the effective ids, and whether it may write any map by itself."""

    uid: int
    gid: int
    privileged: bool

    @classmethod
    def of_this_process(cls) -> Caller:
        """Describe this process."""
        may = procfs.has_capability(constants.CAP_SETGID)
        return cls(uid=os.geteuid(), gid=os.getegid(), privileged=may)


class Equivalent(Record):
    """The words of the command, or what it cannot express, a line each."""

    words: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()


def of(plan: Plan, caller: Caller) -> Equivalent:
    """Translate a plan that `caller` would launch."""
    found = [*_unknown(plan), *(f"--{name}" for name in plan.namespaces)]
    for feature in FEATURES:
        found += _words(feature, plan, caller)
    if plan.workdir is not None:
        found.append(f"--wd={plan.workdir}")
    if missing := tuple(word for word in found if isinstance(word, Missing)):
        return Equivalent(missing=missing)
    return Equivalent(words=("unshare", *found, "--", *plan.command))


def _unknown(plan: Plan) -> Iterator[str]:
    """Yield fields of the plan that belong to no feature, and so have no translation."""
    known = {*_KNOWN, *(feature.name for feature in FEATURES)}
    for name in plan._fields:
        if name not in known and getattr(plan, name) != getattr(type(plan), name, None):
            yield Missing(f"{name}: unshare(1) has no such thing")


def _words(feature: Feature, plan: Plan, caller: Caller) -> Iterator[str]:
    """Yield the words for a part, and a Missing for each field without a translation."""
    for field in feature.used(plan):
        if field not in feature.translated:
            reason = feature.no_equivalent.get(field, "unshare(1) has no such thing")
            yield Missing(f"{feature.option(field) or field}: {reason}")
    yield from feature.equivalent(plan, caller)
