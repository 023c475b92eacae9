"""What a capability of a launch declares: all that the rest of the house has to know of it.

Pure; runs in any process.
"""

from __future__ import annotations

from pyspaces.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from pyspaces.given import Given
    from pyspaces.launch.inner.steps import Context
    from pyspaces.plan import Plan
    from pyspaces.plan.equivalent import Caller
    from pyspaces.setting import Setting


class Step(Record):
    """One piece of set-up in the child: when it applies, what it does, and how it is described.

    for_command: whether it is for the command alone, and not for a process 1 of ours above it.
    parts: what it consists of, a line each.
    """

    title: str
    applies: Callable[[Plan], object]
    act: Callable[[Context], None]
    detail: Callable[[Plan], object] = lambda plan: ""
    for_command: bool = False
    parts: Callable[[Plan], Iterable[str]] = lambda plan: ()

    def text(self, plan: Plan) -> str:
        """Return the step in one line, with its value where it has one."""
        detail = self.detail(plan)
        return f"{self.title}: {detail}" if detail else self.title


class Missing(str):
    """What unshare(1) cannot do, in place of a word of its command line."""

    __slots__ = ()


class Part(Record):
    """What a plan says of one capability: plain data."""

    def faults(self, plan: Plan) -> Iterator[str]:
        """Yield what is wrong with it in this plan, a line each."""
        del plan
        yield from ()


class Feature(Record):
    """One capability.

    name: of its part in a plan. part: the type of that. settings: how people ask for it. read:
    makes the part of the settings given; the plan holds the parts of the features before this one.
    needs: by field, the new namespaces without which it cannot be used. options: by field, the
    option that it comes from where that has another name; empty where no option turns it on.
    quiet: fields that a preview need not list, since steps or lines of its own describe them.
    equivalent: yields the words of unshare(1) for the part, and what it cannot do, as Missing.
    translated: the fields that it looks at; for any other there are none. no_equivalent: by field,
    why there are none.
    """

    name: str
    part: type[Part]
    settings: tuple[Setting, ...] = ()
    read: Callable[[Given, Plan], Part]
    needs: Mapping[str, tuple[str, ...]] = {}
    options: Mapping[str, str] = {}
    quiet: tuple[str, ...] = ()
    equivalent: Callable[[Plan, Caller], Iterator[str]] = lambda plan, caller: iter(())
    translated: tuple[str, ...] = ()
    no_equivalent: Mapping[str, str] = {}

    def used(self, plan: Plan) -> Iterator[str]:
        """Yield the fields of the part that are not as they are by default."""
        part = getattr(plan, self.name)
        if part is getattr(type(plan), self.name):
            return
        for field in part._fields:
            if getattr(part, field) != getattr(self.part, field):
                yield field

    def option(self, field: str) -> str:
        """Return the name of the option that a field comes from; empty for none."""
        return self.options.get(field, field.replace("_", "-"))
