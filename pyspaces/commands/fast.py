"""The usual command line of `run` and `enter`, read without click, which takes 20 ms to import.

`settings/_table.py` says what options there are, as click has them. What is not taken here in
full is left to click before anything has happened: help, completion, every usage error, and what
few people write.
"""

from __future__ import annotations

import os

from pyspaces import finding

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    Options = Mapping[str, tuple[str, int, str]]
    Line = tuple[tuple[str, ...], dict[str, Any]]


def launch(arguments: Sequence[str]) -> int | None:
    """Carry out a command line; return the exit status, or None where it is left to click.

    arguments: without the program's name. Raises what the launch raises.
    """
    name, words = "".join(arguments[:1]), arguments[1:]
    # The variable by which the scripts of `pyspaces completion` ask click.
    if name not in ("run", "enter") or os.environ.get("_PYSPACES_COMPLETE"):
        return None
    finding.load(finding.OF_LAUNCH)
    line = line_of_run(words) if name == "run" else line_of_enter(words)
    if line is None:
        return None
    # To `enter`, the same words mean namespaces to join.
    finding.load(modules_for(line[1] if name == "run" else {}))
    from pyspaces.commands import launching

    if name == "run":
        return launching.carry_out(launching.plan_of(*line))
    from pyspaces.commands import entering

    return launching.carry_out(entering.plan_of(*line))


def modules_for(values: Mapping[str, Any]) -> str:
    """Return the modules that a launch with these values of settings is known to need."""
    from pyspaces.settings import _table

    return " ".join([text for name, text in _table.MODULES.items() if not name or name in values])


def line_of_run(words: Sequence[str]) -> Line | None:
    """Return the command and the values of a command line of `run`; None: it is click's."""
    from pyspaces.settings import _table

    return read(words, _table.OPTIONS)


def line_of_enter(words: Sequence[str]) -> Line | None:
    """Return the same of one of `enter`, its target among the values."""
    from pyspaces.settings import _table

    known = _table.OPTIONS | _table.OF_ENTER
    options = {word: known[word] for word in _table.ENTER.split()}
    line = read(words, options)
    if line is None:
        return None
    from pyspaces.commands import entering

    command, values = line
    return read(entering.with_target([*words], len(command), values), options)


def read(words: Sequence[str], options: Options) -> Line | None:
    """Return the words behind the options, and the values of those that are given; or None.

    options: the name, number of values and kind of each. The values are those that click has, in
    the order of the options; operations on mounts are in `mounts`, in their own order.
    """
    given: dict[str, Any] = {}
    at = 0
    while at < len(words) and words[at][:1] == "-" and words[at] not in ("-", "--"):
        word, at = words[at], at + 1
        for name, attached in parts(word, options):
            if name not in options:
                return None
            place, count, kind = options[name]
            # A value that may be left out is attached, or there is none.
            missing = 0 if kind in ("optional", "operation") else count - len(attached)
            if missing < 0 or at + missing > len(words):
                return None
            if "--" in words[at : at + missing]:  # which ends the options, and was not meant
                return None
            _put(given, place, kind, (*attached, *words[at : at + missing]))
            at += missing
    if at < len(words) and words[at] == "--":
        at += 1
    order, _, _ = zip(*options.values(), strict=True)
    mounts = {"mounts": given.pop("mounts")} if "mounts" in given else {}
    values = {place: given[place] for place in sorted(given, key=order.index)}
    return tuple(words[at:]), {**values, **mounts}


def parts(word: str, options: Options) -> list[tuple[str, tuple[str, ...]]]:
    """Return the options that one word holds, each with the value that is attached to it."""
    if word[1] == "-":
        name, equals, value = word.partition("=")
        return [(name, (value,) if equals else ())]
    found: list[tuple[str, tuple[str, ...]]] = []
    for place, letter in enumerate(word[1:], 2):
        name = f"-{letter}"
        if name in options and options[name][1]:  # the rest of the word is its value
            return [*found, (name, (word[place:],) if word[place:] else ())]
        found.append((name, ()))
    return found


def _put(given: dict[str, Any], place: str, kind: str, values: tuple[str, ...]) -> None:
    if kind == "ordered":
        given.setdefault("mounts", []).append([place, *values])
    elif kind == "many":
        given[place] = (*given.get(place, ()), values if len(values) > 1 else values[0])
    elif kind == "operation" and values:
        given.setdefault("mounts", []).append([place, *values])
    elif kind in ("optional", "operation"):
        given[place] = values[0] if values else True
    else:
        given[place] = values[0] if kind == "one" else kind == "on"
