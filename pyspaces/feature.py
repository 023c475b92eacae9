"""What a feature of a launch declares: everything that the other rooms need to know about it.

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
OPTIONAL, OPERATION = "optional", "operation"
# Settings whose order matters; in a mapping, they are one list, `mounts`.
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
NETWORK = "Network"
# The options of every subcommand that starts a command: what it may do, and how much it gets.
CONFINEMENT, LIMITS = "Confinement", "Limits"
# The options of every subcommand that starts a command, in new or in existing namespaces.
LIFE, TERMINAL, RECORDS = "Life of the command", "Terminal", "Records"
DESCRIPTORS = "Descriptors and locks"
GROUPS = (
    *(NAMESPACES, EXISTING, IDENTITY, CONFINEMENT, LIMITS, SETUP, NETWORK, MOUNTS, ENVIRONMENT),
    *(LIFE, TERMINAL, DESCRIPTORS, RECORDS),
)


# The command of a plan that has no command: a label.
HOLDING = ("hold",)
# Settings that imply no_new_privs. Without it the kernel accepts a filter only from CAP_SYS_ADMIN,
# since wrong results could make a set-user-ID program misbehave.
CONFINING = (
    *("allow_read", "allow_write", "allow_exec", "allow_connect", "allow_bind", "scope"),
    *("seccomp", "seccomp_deny", "seccomp_allow", "seccomp_fd", "no_terminal_injection"),
    "seccomp_learn",
)


class Setting(Record):
    """One setting: its name (as a key; the option has dashes), shape, help and meaning.

    kind: FLAG (bool), TOGGLE (bool, or absent for the default), VALUE (text), OPTIONAL (True, or a
    text behind `=`), OPERATION (a bool; behind `=`, an operation of the list `mounts`), MANY (a
    list of texts), PAIRS (a list of two texts each) or ORDERED (the words of the metavar).
    short: a second word for the option, of one letter or long.
    words: the values that it can have, or their beginnings. listed: whether a value is a
    comma-separated list of words. directory: whether it is the path of one. implies: the
    namespaces that are created with it. everyday: whether most people want it at some time: it is
    in --help, and not only in --help-all.
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
    everyday: bool = False

    @property
    def option(self) -> str:
        """The long option of the command line."""
        return "--" + self.name.replace("_", "-")


def flag(name: str, group: str, text: str, **more: Any) -> Setting:
    """Return a setting that is on or off. text: its help. more: other fields of Setting."""
    return Setting(name=name, kind=FLAG, group=group, help=text, **more)


def toggle(name: str, group: str, text: str, **more: Any) -> Setting:
    """Return a setting that is on, off, or left to its default. more: other fields."""
    return Setting(name=name, kind=TOGGLE, group=group, help=text, **more)


def value(name: str, group: str, metavar: str, text: str, **more: Any) -> Setting:
    """Return a setting with one value. more: other fields."""
    return Setting(name=name, kind=VALUE, group=group, metavar=metavar, help=text, **more)


def many(name: str, group: str, metavar: str, text: str, **more: Any) -> Setting:
    """Return a setting that can be repeated. more: other fields."""
    return Setting(name=name, kind=MANY, group=group, metavar=metavar, help=text, **more)


class Given:
    """The values of the settings that are used, by name; collects what is wrong with them.

    namespaces: the new namespaces. joined: the namespaces to join. faults: what is wrong, a line
    each. lacking: the error if the host lacks something that the settings name.
    """

    def __init__(self, values: Mapping[str, Any], faults: list[str]) -> None:
        self.values = values
        self.faults = faults
        self.namespaces: tuple[str, ...] = ()
        self.joined: frozenset[str] = frozenset()
        self.lacking: SpaceError | None = None

    def has(self, name: str) -> bool:
        """Return whether a setting is used."""
        return name in self.values

    def flag(self, name: str) -> bool:
        """Return a setting that is on or off."""
        return bool(self.values.get(name))

    def text(self, name: str) -> str | None:
        """Return a value as text, or None."""
        value = self.values.get(name)
        return None if value is None else str(value)

    def texts(self, name: str) -> list[str]:
        """Return the values of a repeatable setting as texts."""
        return [str(text) for text in self.values.get(name, ())]

    def words(self, name: str) -> list[str]:
        """Return the words of a repeatable setting whose values are lists of words."""
        return [word.strip() for text in self.texts(name) for word in text.split(",")]

    def parsed(self, name: str, parse: Callable[[str], Any]) -> Any:
        """Return the result of `parse` for a value, or None; a ValueError of it becomes a fault."""
        text = self.text(name)
        return None if text is None else self._parsed(name, text, parse)

    def each(self, name: str, parse: Callable[[str], Any]) -> tuple[Any, ...]:
        """Do the same for all values of a repeatable setting; return the results."""
        found = [self._parsed(name, text, parse) for text in self.texts(name)]
        return tuple([one for one in found if one is not None])

    def _parsed(self, name: str, text: str, parse: Callable[[str], Any]) -> Any:
        try:
            return parse(text)
        except ValueError as error:
            self.faults.append(f"{name.replace('_', '-')}: {error}")
            return None


def is_number(text: str, digits: int) -> bool:
    """Return whether `text` is an unsigned decimal number of up to `digits` digits."""
    return text.isascii() and text.isdecimal() and len(text) <= digits


def descriptor_of(text: str) -> int:
    """Read the number of a descriptor. Raises ValueError."""
    if not is_number(text, 9):
        raise ValueError(f"{text[:40]!r} is not the number of a descriptor")
    return int(text)


class Step(Record):
    """One step of the set-up in the child: when it applies, what it does, how it is described.

    for_command: whether it is for the command only, and not for our process 1 above it.
    parts: what it consists of, a line each. at_exec: whether it is taken right before exec, after
    the last message of the launcher: it may take rights that the launch itself needs.
    """

    title: str
    applies: Callable[[Plan], object]
    act: Callable[[Context], None]
    detail: Callable[[Plan], object] = lambda plan: ""
    for_command: bool = False
    parts: Callable[[Plan], Iterable[str]] = lambda plan: ()
    at_exec: bool = False

    def text(self, plan: Plan) -> str:
        """Return the step in one line, with its detail if it has one."""
        detail = self.detail(plan)
        return f"{self.title}: {detail}" if detail else self.title


class Probe(Record):
    """What `pyspaces check` tries for a feature: a launch with these settings.

    name: the name of the row. settings: of the launch; a user namespace is added if needed.
    works: the evidence of a success.
    """

    name: str
    settings: Mapping[str, object]
    works: str


class Missing(str):
    """Something that unshare(1) cannot do, in place of a word of its command line."""

    __slots__ = ()


class Part(Record):
    """The part of a plan for one feature: plain data.

    Of the class, and no fields: is_equipped: whether the child may need more for it than the plan.
    needs_fork: whether that is in the memory of this process alone, so that no launch server can
    create the child.
    """

    @property
    def is_served(self) -> bool:
        """Whether services beside the launch may be for it, which launch/loading.py lists."""
        return False

    is_equipped = False
    needs_fork = False

    def faults(self, plan: Plan) -> Iterator[str]:
        """Yield what is wrong with the part in this plan, a line each."""
        del plan
        yield from ()


class Feature(Record):
    """One capability.

    name: the field of a plan that holds its part. part: the type of the part. settings: its
    options. read: returns the part for the given settings; the plan has the parts of the features
    before this one. It is called if one of its settings is given, or one of `also`: settings of
    other features that it looks at. needs: the new namespaces that each field requires. options:
    the option of each field, if its name differs; empty if no option turns the field on. quiet: the
    fields that steps or other lines of a preview describe. probes: what `pyspaces check` tries.
    equivalent: yields the words of unshare(1) for the part, and what it cannot do as Missing.
    translated: the fields that `equivalent` covers; the others have none. no_equivalent: the reason
    for each of those.
    """

    name: str
    part: type[Part]
    settings: tuple[Setting, ...] = ()
    read: Callable[[Given, Plan], Part]
    also: tuple[str, ...] = ()
    needs: Mapping[str, tuple[str, ...]] = {}
    options: Mapping[str, str] = {}
    quiet: tuple[str, ...] = ()
    probes: tuple[Probe, ...] = ()
    equivalent: Callable[[Plan, Caller], Iterator[str]] = lambda plan, caller: iter(())
    translated: tuple[str, ...] = ()
    no_equivalent: Mapping[str, str] = {}

    def used(self, plan: Plan) -> Iterator[str]:
        """Yield the fields of the part that differ from their default."""
        part = getattr(plan, self.name)
        if part is getattr(type(plan), self.name):
            return
        for field in part._fields:
            if getattr(part, field) != getattr(self.part, field):
                yield field

    def option(self, field: str) -> str:
        """Return the option of a field, without dashes; empty if it has none."""
        return self.options.get(field, field.replace("_", "-"))
