"""What a capability of a launch declares: all that the rest of the house has to know of it.

Its settings (`Setting`), how they are read (`Given`), its part of a plan (`Part`), what the child
does for it (`Step`), and the `Feature` that holds these together. Pure; runs in any process.
"""

from __future__ import annotations

from pyspaces.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from typing import Any

    from pyspaces.errors import SpaceError
    from pyspaces.launch.inner.steps import Context
    from pyspaces.plan import Plan
    from pyspaces.plan.equivalent import Caller

# How often a setting is given, and with what.
FLAG, TOGGLE, VALUE, MANY, PAIRS = "flag", "toggle", "value", "many", "pairs"
# Those whose order among each other counts; in a mapping they are one list, `mounts`.
ORDERED = "ordered"

# The headings of --help, in their order.
NAMESPACES, IDENTITY, SETUP, MOUNTS, ENVIRONMENT = (
    "Namespaces",
    "Identity",
    "Set-up",
    "Mounts",
    "Environment",
)
EXISTING = "Existing namespaces and names"
# What any command that starts one takes, in new namespaces or in old ones.
LIFE, TERMINAL, RECORDS = "Life of the command", "Terminal", "Records"
GROUPS = (NAMESPACES, EXISTING, IDENTITY, SETUP, MOUNTS, ENVIRONMENT, LIFE, TERMINAL, RECORDS)


class Setting(Record):
    """One setting: its name (as a key; the option has dashes), shape, help and meaning.

    kind: FLAG (bool), TOGGLE (bool, or absent for the default), VALUE (text), MANY (a
    list of texts), PAIRS (a list of two texts each) or ORDERED (the words of the metavar).
    words: what a value may be, or begin with. listed: whether a value is a comma-separated list of
    words. directory: whether it is one. implies: the namespaces that come with it.
    """

    name: str
    kind: str
    group: str
    help: str
    short: str = ""
    metavar: str = ""
    words: tuple[str, ...] = ()
    listed: bool = False
    directory: bool = False
    implies: tuple[str, ...] = ()

    @property
    def option(self) -> str:
        """The long option of the command line."""
        return "--" + self.name.replace("_", "-")


def flag(name: str, group: str, text: str, **more: Any) -> Setting:
    """Return a setting that is on or off. text: its help. more: other fields of Setting."""
    return Setting(name=name, kind=FLAG, group=group, help=text, **more)


def toggle(name: str, group: str, text: str, **more: Any) -> Setting:
    """Return a setting that is on, off, or left to its default; likewise."""
    return Setting(name=name, kind=TOGGLE, group=group, help=text, **more)


def value(name: str, group: str, metavar: str, text: str, **more: Any) -> Setting:
    """Return a setting with one value; likewise."""
    return Setting(name=name, kind=VALUE, group=group, metavar=metavar, help=text, **more)


def many(name: str, group: str, metavar: str, text: str, **more: Any) -> Setting:
    """Return a setting that can be repeated; likewise."""
    return Setting(name=name, kind=MANY, group=group, metavar=metavar, help=text, **more)


class Given:
    """The values of the settings in use, by name; what is wrong with them is collected.

    namespaces: those that are to be new. joined: those that are joined. faults: what is wrong, a
    line each. lacking: what the host does not have, of what the settings name.
    """

    def __init__(self, values: Mapping[str, Any], faults: list[str]) -> None:
        self.values = values
        self.faults = faults
        self.namespaces: tuple[str, ...] = ()
        self.joined: frozenset[str] = frozenset()
        self.lacking: SpaceError | None = None

    def has(self, name: str) -> bool:
        """Tell whether a setting is in use."""
        return name in self.values

    def flag(self, name: str) -> bool:
        """Return a setting that is on or off."""
        return bool(self.values.get(name))

    def text(self, name: str) -> str | None:
        """Return a value as text; None where there is none."""
        value = self.values.get(name)
        return None if value is None else str(value)

    def texts(self, name: str) -> list[str]:
        """Return the values of a repeatable setting as texts."""
        return [str(text) for text in self.values.get(name, ())]

    def words(self, name: str) -> list[str]:
        """Return the words of a repeatable setting whose values are lists of words."""
        return [word.strip() for text in self.texts(name) for word in text.split(",")]

    def parsed(self, name: str, parse: Callable[[str], Any]) -> Any:
        """Return what `parse` makes of a text, None without one; its ValueError is a fault."""
        text = self.text(name)
        try:
            return None if text is None else parse(text)
        except ValueError as error:
            self.faults.append(f"{name.replace('_', '-')}: {error}")
            return None


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


class Probe(Record):
    """What `pyspaces check` tries for a feature: a launch with these settings.

    name: of the row. settings: what is launched, in a user namespace too where that is needed.
    works: what a success has shown.
    """

    name: str
    settings: Mapping[str, object]
    works: str


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
    probes: what shows that the host allows it.
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
    probes: tuple[Probe, ...] = ()
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
