"""--args FD: options from a descriptor, in the place of the option, before the line is read.

Without click. Loaded only if the option is there.
"""

from __future__ import annotations

import os

from pyspaces.commands import fast
from pyspaces.errors import UsageFault, visible
from pyspaces.feature import is_number
from pyspaces.kernel import namespaces

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

OPTION = "--args"
COMMANDS = ("run", "enter", "check")
# The options that are not in the table: how to talk, and the files of `enter`.
_GENERAL = {
    "--plan": 1,
    "--save-profile": 1,
    **dict.fromkeys(("--dry-run", "--json", "-v", "--verbose", "--debug"), 0),
}
_FILES = tuple(f"--{name}-file" for name in namespaces.NAMES)
TARGETS = ("-t", "--target", "--join", *_FILES)
_MOST = 4 << 20  # bytes


def expanded(arguments: Sequence[str]) -> list[str]:
    """Return a command line with the words of each descriptor in the place of its --args.

    Raises UsageFault if a descriptor cannot be read, or has anything but options.
    """
    name, words = arguments[0], list(arguments[1:])
    if name not in COMMANDS:
        return [*arguments]
    counts = value_counts(name)
    found: list[str] = []
    may_be_target = name == "enter"
    while words:
        if words[0].partition("=")[0] == OPTION:
            found += _words_of(_taken(words), counts)
        elif size := length_of(words[0], counts):
            may_be_target &= words[0].partition("=")[0] not in TARGETS
            found += words[:size]
            del words[:size]
        elif may_be_target and words[0][:1] != "-":  # options follow it, too
            may_be_target = False
            found.append(words.pop(0))
        else:
            break
    return [name, *found, *words]


def short_of(option: str) -> str:
    """Return the short form of an option of a launch; empty if it has none."""
    from pyspaces.settings import _table

    row = _table.OPTIONS.get(option)
    words = [word for word, other in _table.OPTIONS.items() if other == row]
    return next((word for word in words if word != option), "")


def value_counts(name: str) -> dict[str, int]:
    """Return how many words follow each option of a command."""
    from pyspaces.settings import _table

    known = _table.OPTIONS
    if name == "enter":
        known = known | _table.OF_ENTER
        known = {word: known[word] for word in _table.ENTER.split()}
    found = {
        word: 0 if kind in ("optional", "operation") else count
        for word, (_, count, kind) in known.items()
    }
    return found | _GENERAL | (dict.fromkeys(_FILES, 1) if name == "enter" else {})


def length_of(word: str, counts: dict[str, int]) -> int:
    """Return of how many words an option consists with its values; 0 if it is none, or unknown."""
    if word[:1] != "-" or word in ("-", "--"):
        return 0
    missing = 0
    options = {name: ("", count, "") for name, count in counts.items()}
    for name, attached in fast.parts(word, options):
        if name not in counts:
            return 0
        missing += max(counts[name] - len(attached), 0)
    return 1 + missing


def _taken(words: list[str]) -> str:
    """Take --args and its value from the front of `words`; return the value."""
    _, equals, text = words.pop(0).partition("=")
    if not equals:
        if not words:
            raise UsageFault(["args: requires the number of a descriptor"])
        text = words.pop(0)
    return text


def _words_of(text: str, counts: dict[str, int]) -> list[str]:
    """Return the options that a descriptor holds, one word after the other with NULs between."""
    if not is_number(text, 9):
        what = f"args: {visible(text[:40])!r} is not the number of a descriptor"
        raise UsageFault([what], hint=f"for a file: --args 3 ... 3<{visible(text[:40])}")
    words = [os.fsdecode(word) for word in _read(int(text)).removesuffix(b"\0").split(b"\0")]
    words = [] if words == [""] else words
    left = list(words)
    while left:
        if left[0].partition("=")[0] == OPTION:
            raise UsageFault([f"args: {text}: has --args itself"])
        if left[0][:1] != "-" or left[0] in ("-", "--"):
            what = f"args: {text}: {visible(left[0][:40])!r} is not an option"
            raise UsageFault([what], hint="the command has its place on the command line")
        size = length_of(left[0], counts)
        if size > len(left):
            raise UsageFault([f"args: {text}: ends before the value of {visible(left[0][:40])}"])
        if not size and "\n" in left[0].partition("=")[0]:
            what = f"args: {text}: has lines: each word has to end with a NUL byte instead"
            raise UsageFault([what], hint="a profile has one option on each line: --profile FILE")
        if not size:  # unknown: an error, which is told as for any other line
            break
        del left[:size]
    return words


def _read(number: int) -> bytes:
    """Return all that can be read from a descriptor, and close it."""
    data = b""
    try:
        while len(data) <= _MOST and (chunk := os.read(number, 1 << 16)):
            data += chunk
        if number > 2:
            os.close(number)
    except OSError as error:
        raise UsageFault([f"args: {number}: cannot be read: {error.strerror}"]) from None
    if len(data) > _MOST:
        raise UsageFault([f"args: {number}: has more than {_MOST >> 20} MiB"])
    return data
