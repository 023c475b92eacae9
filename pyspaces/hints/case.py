"""A failed launch, as the rules for hints see it, and the condition that every rule begins with.

Pure; runs in the parent.
"""

from __future__ import annotations

from pyspaces.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pyspaces.errors import Report
    from pyspaces.features.ids.idmap import Extent

    Rule = Callable[["Case"], Iterator[str]]

# The calls that create namespaces.
CREATION = ("clone3", "clone", "unshare")


class Case(Record):
    """A failure and the launch in which it occurred.

    namespaces: the types that are created. uids, gids: the id maps. joined: the types of existing
    namespaces that are joined. limits_files: whether Landlock limits what can be executed.
    from_empty: whether the root began empty. shown: the directories of the host that are in it.
    """

    report: Report
    namespaces: tuple[str, ...] = ()
    uids: tuple[Extent, ...] = ()
    gids: tuple[Extent, ...] = ()
    joined: tuple[str, ...] = ()
    limits_files: bool = False
    from_empty: bool = False
    shown: tuple[str, ...] = ()


def after(
    *numbers: int, calls: tuple[str, ...] = (), codes: tuple[str, ...] = ()
) -> Callable[[Rule], Rule]:
    """Apply a rule only to failures with one of these errnos, system calls and stage codes.

    Empty means any. A rule yields its hint, in one line, if it applies.
    """

    def decorate(rule: Rule) -> Rule:
        def restricted(case: Case) -> Iterator[str]:
            report = case.report
            called = not calls or report.call in calls
            if report.errno in numbers and called and (not codes or report.code in codes):
                yield from rule(case)

        restricted.__name__ = rule.__name__
        return restricted

    return decorate
