"""What the tables of other tools' options are made of, and how their command lines are read.

Pure. A table has a `Word` for each option, by its long name.
"""

from __future__ import annotations

from pyspaces.errors import UsageFault
from pyspaces.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

# The number of values of an option whose value may be left out: it is attached, or there is none.
OPTIONAL = -1
_OFF = "false"  # what turns off a flag of podman that is on, or was given before


class Word(Record):
    """An option of another tool.

    values: how many it takes, or OPTIONAL. ours: the words that mean the same, with `{0}` and `{1}`
    for its values; none if it asks for what happens anyway. why: why it has no counterpart, and
    what to write instead; empty if it has one. special: whether words do not say what it becomes,
    and a function does.
    """

    values: int = 0
    ours: tuple[str, ...] = ()
    why: str = ""
    special: bool = False


def same(names: str, values: int = 0) -> dict[str, Word]:
    """Return rows for options that have the same name and meaning here."""
    places = tuple(f"{{{number}}}" for number in range(values))
    return {name: Word(values=values, ours=(name, *places)) for name in names.split()}


def ours(text: str, values: int = 0) -> Word:
    """Return the row of an option that has another name here. text: our words, with places."""
    return Word(values=values, ours=tuple(text.split()))


def special(names: str, values: int = 0) -> dict[str, Word]:
    """Return rows for options that a function translates."""
    return {name: Word(values=values, special=True) for name in names.split()}


def none(why: str, values: int = 0) -> Word:
    """Return the row of an option without a counterpart."""
    return Word(values=values, why=why)


def filled(word: Word, values: Sequence[str]) -> list[str]:
    """Return our words for an option with these values."""
    found = []
    for text in word.ours:
        for number, value in enumerate(values):
            if (place := f"{{{number}}}") in text:
                text = text.replace(place, value)  # noqa: PLW2901
                break
        found.append(text)
    return found


class Caller(Record):
    """Who would run a command line: the effective ids, and their subordinate ids.

    subordinate: returns the first range of `uid` or `gid`, a start and a count, or None. program:
    the words that pyspaces is started by. exists: whether a path of this host does.
    """

    uid: int
    gid: int
    subordinate: Callable[[str], tuple[int, int] | None] = lambda kind: None
    program: tuple[str, ...] = ("pyspaces",)
    exists: Callable[[str], bool] = lambda path: True

    @property
    def is_root(self) -> bool:
        """Whether user namespaces are not necessary for the others."""
        return self.uid == 0


class Translation(Record):
    """A command line of another tool in our words.

    words: `run` or `enter`, the options and the command. missing: what has no counterpart, a line
    each. notes: what is done in another way, a line each.
    """

    words: tuple[str, ...]
    missing: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


class Line:
    """A translation that is being made: its options, in their order, and what is said about it."""

    def __init__(self, tool: str, caller: Caller) -> None:
        self.tool = tool
        self.caller = caller
        self.options: list[str] = []
        self.missing: list[str] = []
        self.notes: list[str] = []

    def add(self, *words: str) -> None:
        """Add options, unless the line has the same flag already."""
        if len(words) > 1 or words[0] not in self.options:
            self.options += words

    def lacks(self, option: str, why: str) -> None:
        """Note that an option has no counterpart."""
        if (text := f"{option}: {why}") not in self.missing:
            self.missing.append(text)

    def take(self, option: str, word: Word, values: Sequence[str]) -> None:
        """Add what an option becomes that words are enough for."""
        if word.why:
            self.lacks(option, word.why)
        elif word.ours:
            self.add(*filled(word, values))

    def ended(self, subcommand: str, first: Sequence[str], command: Sequence[str]) -> Translation:
        """Return the translation. first: the options that come before all others."""
        behind = ["--", *command] if command else []
        return Translation(
            words=(subcommand, *first, *self.options, *behind),
            missing=tuple(self.missing),
            notes=tuple(self.notes),
        )


Given = list[tuple[str, tuple[str, ...]]]


def scan(
    tool: str,
    words: Sequence[str],
    table: Mapping[str, Word],
    short: Mapping[str, str],
    *,
    attached: str = "",
) -> tuple[Given, list[str]]:
    """Read a command line as getopt_long(3) does: the options with their values, and the rest.

    short: the long names of the letters. attached: the letters that take a value only if it is in
    the same word. Raises UsageFault for what the tool itself would refuse.
    """
    left = list(words)
    found: Given = []
    while left and left[0][:1] == "-" and left[0] != "-":
        word = left.pop(0)
        if word == "--":
            break
        if word[:2] == "--":
            name, values = _long(tool, word, table, left)
            if values == (_OFF,) and not table[name].values:
                found = [one for one in found if one[0] != name]
            else:
                found.append((name, values))
        else:
            found += _letters(tool, word[1:], table, short, left, attached)
    return found, left


def _long(
    tool: str, word: str, table: Mapping[str, Word], left: list[str]
) -> tuple[str, tuple[str, ...]]:
    name, equals, value = word.partition("=")
    names = [name] if name in table else [known for known in table if known.startswith(name)]
    if len(names) != 1:
        raise UsageFault([f"{tool}: {name}: {'ambiguous' if names else 'unknown'} option"])
    name = names[0]
    row = table[name]
    if row.values == OPTIONAL:
        return name, (value,) if equals else ()
    if equals and not row.values:
        if value not in ("true", _OFF):  # as podman takes them
            raise UsageFault([f"{tool}: {name}: takes no value"])
        return name, (_OFF,) if value == _OFF else ()
    values = (value,) if equals else ()
    return name, (*values, *_next(tool, name, left, row.values - len(values)))


def _letters(
    tool: str,
    letters: str,
    table: Mapping[str, Word],
    short: Mapping[str, str],
    left: list[str],
    attached: str,
) -> Given:
    found: Given = []
    for place, letter in enumerate(letters, 1):
        if letter not in short:
            raise UsageFault([f"{tool}: -{letter}: unknown option"])
        name, rest = short[letter], letters[place:]
        if letter in attached:
            return [*found, (name, (rest.removeprefix("="),) if rest else ())]
        if table[name].values > 0:
            values = (rest.removeprefix("="),) if rest else ()
            missing = table[name].values - len(values)
            return [*found, (name, (*values, *_next(tool, f"-{letter}", left, missing)))]
        found.append((name, ()))
    return found


def _next(tool: str, name: str, left: list[str], count: int) -> tuple[str, ...]:
    if len(left) < count:
        raise UsageFault([f"{tool}: {name}: requires {count} more word{'s'[: count > 1]}"])
    taken = tuple(left[:count])
    del left[:count]
    return taken
